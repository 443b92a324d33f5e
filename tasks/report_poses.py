"""The report's before and after of the pose refinement: the avatar's outline over some frames, as fitted and as refined.

Axes: H x W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from model.body.track import BodyTrack
from model.fitting.picture import OUTLINE
from model.pose import track_pose
from tasks.artifacts import SubjectPaths, read_frame, read_mask
from tasks.measurement import Inputs
from tasks.pictures import cut_square, encode_jpeg, person_square, spread_evenly
from tasks.report_doubts import moved_by_refinement_px
from tasks.report_sections import PoseChange
from tasks.scoring import Viewer

SHOWN = 12  # frames
SIDE = 420  # px
DIM = 0.6  # brightness of the frame beyond the avatar's outline, so that the outline reads


def pose_changes(paths: SubjectPaths, inputs: Inputs, *, backend: str) -> list[PoseChange]:
    """Some training frames evenly over the clip, and the one whose pose moved most."""
    trained, frame_ids = set(inputs.split.train), inputs.refined.frame_ids.tolist()
    rows = [row for row, frame_id in enumerate(frame_ids) if frame_id in trained]
    moved = moved_by_refinement_px(inputs)
    chosen = {rows[i] for i in spread_evenly(len(rows), SHOWN - 1)} | {max(rows, key=lambda row: moved[row])}
    viewer, changes = Viewer(inputs.avatars["stage1"], backend=backend), []
    for row in sorted(chosen):
        image, mask = read_frame(paths, frame_ids[row]), read_mask(paths, frame_ids[row])
        square = person_square(mask)
        before, after = (
            encode_jpeg(cut_square(draw_outline(image, _alpha(viewer, track, row)), square, SIDE), max_side=SIDE)
            for track in (inputs.fitted, inputs.refined)
        )
        changes.append(PoseChange(row, round(float(moved[row]), 1), before, after))
    return changes


def draw_outline(image: UInt8[np.ndarray, "H W 3"], alpha: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """A frame with the avatar's outline, darker beyond it: what the avatar does not cover of the person is seen at once."""
    inside = (alpha > 0.5).astype(np.uint8)
    picture = np.where(inside[..., None] > 0, image, (DIM * image).astype(np.uint8))
    contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, OUTLINE, 2, cv2.LINE_AA)
    return picture


def _alpha(viewer: Viewer, track: BodyTrack, row: int) -> Float[np.ndarray, "H W"]:
    return viewer.see(track_pose(track, row), track.camera).alpha
