"""The report's doubts of the fit: which frames, why, over time, and how the worst of them look.

Axes: F frames, V vertices, H x W pixels. Reads fit/fit.json; what it does not hold of imported tracks is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from model.fitting.film import MASK
from model.fitting.picture import draw_overlay
from tasks.artifacts import SubjectPaths, read_frame, read_mask
from tasks.measurement import Inputs
from tasks.pictures import cut_square, encode_jpeg, person_square
from tasks.report_sections import DoubtSeries, DoubtThumb, ReportDoubts
from tasks.scoring import track_joints

WORST = 6  # frames that are shown
APART = 3  # frames between two that are shown, so that one bad moment does not fill the strip
THUMB = 300  # px
FACTS = (  # key of fit.json, what it is, how it is written, factor
    ("reprojection_px", "landmarks missed by, mean", "{:.1f} px", 1), ("reprojection_share_of_height", "the same, of the person's height", "{:.1f} %", 100),
    ("iou_mean", "overlap of body and mask as fitted (IoU), mean", "{:.2f}", 1), ("iou_worst", "the same, worst frame", "{:.2f}", 1),
    ("acceleration_m_s2", "acceleration of the joints, mean", "{:.1f} m/s²", 1), ("foot_slide_m_s", "standing feet slide at", "{:.0f} mm/s", 1000),
    ("foot_drift_m", "a standing foot drifts by, mean", "{:.0f} mm", 1000), ("foot_drift_worst_m", "the same, worst", "{:.0f} mm", 1000),
)  # fmt: skip


def doubted_rows(inputs: Inputs, record: Mapping) -> dict[int, str]:
    """Row of the track -> why its frame is not trusted, by the fit or by the segmentation."""
    distrusted = record.get("distrusted", {})
    reasons = {}
    for row, frame_id in enumerate(inputs.refined.frame_ids.tolist()):
        why = [words for words in (inputs.segmentation.flagged.get(str(frame_id)), distrusted.get(str(frame_id))) if words]
        if why:
            reasons[row] = "; ".join(why)
    return reasons


def report_doubts(paths: SubjectPaths, inputs: Inputs, record: Mapping, iou: Float[np.ndarray, "F"]) -> ReportDoubts:
    """Gather numbers, curves and pictures.

    Args:
        record: fit.json.
        iou: of the refined body's outline with the mask, each frame.
    """
    doubted, confidence = doubted_rows(inputs, record), inputs.refined.confidence.numpy()
    moved = moved_by_refinement_px(inputs)
    worst = choose_worst(confidence, iou, doubted)
    return ReportDoubts(
        facts=[(name, form.format(factor * record[key])) for key, name, form, factor in FACTS if record.get(key) is not None],
        doubted=doubted,
        series=[
            DoubtSeries("confidence of the fit", "", _rounded(confidence), True),
            DoubtSeries("overlap of the refined body with the mask (IoU)", "", _rounded(iou), True),
            DoubtSeries("joints moved by the refinement", "px", _rounded(moved, 1), False),
        ],
        worst=[
            DoubtThumb(row, doubted.get(row) or f"confidence {confidence[row]:.2f}, overlap {iou[row]:.2f}", encode_jpeg(draw_fit(paths, inputs, row), max_side=THUMB))
            for row in worst
        ],
    )


def choose_worst(confidence: Float[np.ndarray, "F"], iou: Float[np.ndarray, "F"], doubted: Mapping[int, str]) -> list[int]:
    """At most WORST rows: doubted ones first, then by confidence times overlap; some frames apart, in the order of time."""
    badness = confidence * np.nan_to_num(iou, nan=1.0) - np.array([row in doubted for row in range(len(iou))])
    chosen: list[int] = []
    for row in np.argsort(badness, kind="stable").tolist():
        if len(chosen) < WORST and all(abs(row - other) >= APART for other in chosen):
            chosen.append(row)
    return sorted(chosen)


def moved_by_refinement_px(inputs: Inputs) -> Float[np.ndarray, "F"]:
    """Mean distance in the picture of each frame's joints, refined with the avatar, from where the fit had put them, px."""
    fitted, refined = (
        track.camera.project(torch.from_numpy(track_joints(track, inputs.body)).to(track.K.dtype)).numpy() for track in (inputs.fitted, inputs.refined)
    )
    return np.linalg.norm(refined - fitted, axis=-1).mean(1)


def draw_fit(paths: SubjectPaths, inputs: Inputs, row: int) -> UInt8[np.ndarray, "H W 3"]:
    """A frame with the outline and bones of the fitted body and the outline of the mask, cut to the person."""
    track, body = inputs.fitted, inputs.body
    frame_id = int(track.frame_ids[row])
    image, mask = read_frame(paths, frame_id), read_mask(paths, frame_id)
    with torch.no_grad():
        posed = body.pose(track.betas, track.global_orient[row], track.body_pose[row], track.transl[row])
    vertices, joints = (track.camera.project(points).double().numpy() for points in (posed.vertices, posed.joints))
    depths = track.camera.to_camera(posed.vertices)[:, 2].double().numpy()
    picture = draw_overlay(image, vertices, depths, body.faces.numpy(), joints, body.parents.numpy())
    contours, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, MASK, 1, cv2.LINE_AA)
    return cut_square(picture, person_square(mask), THUMB)


def _rounded(values: Float[np.ndarray, "F"], digits: int = 3) -> list[float | None]:
    return [round(float(value), digits) if np.isfinite(value) else None for value in values]
