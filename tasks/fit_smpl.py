"""Stage: from frames and masks to one person's shape, and pose, place and camera for each frame.

Axes: F frames, V vertices. Reads frames/ and masks/; writes fit/track.npz, fit/state.npz (from which refine_fit goes on),
fit/fit.json and, to look at, fit/overlay.png (some frames with the body's outline and bones, each beside the body as seen
from its side), fit/overlay.mp4 (all frames) and fit/fit.html (the numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from model.body.body_model import BodyModel
from model.body.track import BodyTrack, joint_confidence
from model.body.track_import.refine import refine_from, see_as
from model.fitting.clip_landmarks import stack_landmarks, track_clip
from model.fitting.detection import Detected, clean_landmarks
from model.fitting.film import FitScenes, draw_pair
from model.fitting.fit import Silhouettes, fit_clip, pose_state, skin_surface
from model.fitting.landmarks import MissingDetectorError
from model.fitting.objective import FitBody, fit_body_of
from model.fitting.observations import FitState, Observations, observe
from model.fitting.picture import contact_sheet
from model.fitting.rotations import vector_from_rotation
from model.fitting.score import FitScore, body_height, score_fit
from model.fitting.terms import level_axes
from tasks.artifacts import (
    ClipInfo,
    SubjectPaths,
    read_clip,
    read_frame,
    read_landmarks,
    read_mask,
    read_segmentation,
    subject_paths,
    timed,
    write_image,
    write_json,
    write_track,
)
from tasks.body import read_body
from tasks.datasets.frames import dataset_track
from tasks.errors import InputError, run_stage
from tasks.fit_page import landmark_misses, write_film, write_page
from tasks.fit_state import spreads_of, write_fit_state
from tasks.hands_and_face import Detailed, fit_hands_and_face
from tasks.progress import progress_bar
from tasks.settings import FitSmplSettings, load_settings
from tasks.track_import.stage import ImportedFit, describe_source, import_summary, import_track, pass_gate, write_import
from tasks.whole_files import replaced_folder

SHEET_FRAMES, SHEET_COLUMNS, TILE = 20, 5, 320  # of the contact sheet; TILE in px
FIT_ANEW = "none"  # as fit_smpl.import: a dataset's own track is left aside
KNOWN_FOCAL_SPREAD = 0.01  # of the logarithm of a focal length that was given
FILE_FOCAL_SPREAD = 0.02  # of one that a telephone wrote in whole millimetres: 26 may be 25.5 to 26.5


@dataclass(frozen=True)
class Clip:
    """What the fit reads: the clip's record, its frames and masks."""

    info: ClipInfo
    images: UInt8[np.ndarray, "F H W 3"]
    silhouettes: Silhouettes


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "fit_smpl"):
        clip = read_inputs(paths)
        model = read_body(settings.body)
        imported = read_import(clip, model, settings.fit_smpl)
        if imported is not None and not settings.fit_smpl.import_refine:
            print(import_summary(use_import(paths, clip, model, imported)))
            return
        body = fit_body_of(model)
        detected = detect(paths, clip)
        seen = see(detected, clip, settings.fit_smpl)
        if imported is None:
            state = fit(body, seen, clip, settings.fit_smpl)
        else:
            seen, state = refine_import(body, seen, clip, imported, settings.fit_smpl)
        score = score_fit(body, seen, clip.silhouettes, spreads_of(settings.fit_smpl), state)
        if imported is not None:
            pass_gate(paths, imported, score.iou, lambda: draw_sheet(scenes_of(clip, body, seen, state, score)))
        details = fit_hands_and_face(
            track_of(clip, model, seen, state, score), model, settings.body, clip.info, clip.images, detected.points,
            detected.confidence.max(1), settings.fit_smpl.hands_and_face,
        )  # fmt: skip
        record = write_fit(paths, clip, model, body, detected, seen, state, score, details, imported)
    print("\n".join([summary(record), *import_notes(imported), *details.notes]))


def read_inputs(paths: SubjectPaths) -> Clip:
    """Frames, masks and which masks are not to be trusted.

    Raises:
        InputError: something is missing, or masks and frames do not belong together.
    """
    info = read_clip(paths)
    flagged = read_segmentation(paths).flagged
    images = np.stack([read_frame(paths, frame) for frame in info.frame_ids])
    masks = np.stack([read_mask(paths, frame) for frame in info.frame_ids])
    if masks.shape != images.shape[:3]:
        raise InputError(f"frames are {images.shape[1:3]} px but masks {masks.shape[1:]}; run: dvc repro segment_person")
    trust = np.array([0.0 if str(frame) in flagged else 1.0 for frame in info.frame_ids])
    return Clip(info, images, Silhouettes(masks, trust))


def detect(paths: SubjectPaths, clip: Clip) -> Detected:
    """Landmarks in every frame: those that segment_person kept, or found anew beside masks that come from elsewhere.

    Raises:
        InputError: the detector is not installed, or it finds nobody.
    """
    found, times = read_landmarks(paths), np.asarray(clip.info.times, dtype=np.float64)
    if found is None:
        try:
            with progress_bar("finding landmarks", len(clip.images)) as show:
                found = stack_landmarks(track_clip(clip.images, with_mask=False, guides=clip.info.boxes, progress=show))
        except MissingDetectorError as error:
            raise InputError(str(error)) from error
    if len(found.points) != len(clip.images):
        raise InputError(f"masks/ has landmarks of {len(found.points)} frames but frames/ has {len(clip.images)}; run: dvc repro segment_person")
    if not found.visibility.any():
        raise InputError("no landmarks of a person in any frame under frames/; look at them, then choose another video")
    return clean_landmarks(found, times)


def see(detected: Detected, clip: Clip, settings: FitSmplSettings) -> Observations:
    """Landmarks and camera as the fit wants them."""
    info = clip.info
    return observe(
        detected.points, detected.confidence, detected.points_world, np.asarray(info.times, dtype=np.float64),
        focal_px=info.focal_px, principal=(info.cx, info.cy),
        focal_spread=focal_spread(info, settings),
    )  # fmt: skip


def focal_spread(info: ClipInfo, settings: FitSmplSettings) -> float:
    """How far the focal length may be from what is known of it: a measured one hardly, a telephone's word a little, a guess, or what a turn told, as the settings say."""
    if not info.focal_known:
        return settings.focal_spread
    return FILE_FOCAL_SPREAD if info.focal_from_file else KNOWN_FOCAL_SPREAD


def fit(body: FitBody, seen: Observations, clip: Clip, settings: FitSmplSettings) -> FitState:
    """Run the fit with a progress bar."""
    with progress_bar("fitting the body", 100) as show:
        return fit_clip(body, seen, clip.silhouettes, spreads_of(settings), on_progress=lambda share: show(round(100 * share)))


def read_import(clip: Clip, model: BodyModel, settings: FitSmplSettings) -> ImportedFit | None:
    """The track of another program that params.yaml names, or that a dataset brings, on our body; None where there is none.

    Raises:
        InputError: it cannot be read, or is not of this clip.
    """
    if settings.import_track is None:
        path = dataset_track(clip.info)
    else:
        path = None if settings.import_track == FIT_ANEW else Path(settings.import_track).expanduser()
    if path is None:
        return None
    return import_track(path, clip.info, model, clip.silhouettes.masks, clip.silhouettes.trust)


def use_import(paths: SubjectPaths, clip: Clip, model: BodyModel, imported: ImportedFit) -> dict:
    """Judge the imported track and write it as this stage's own; returns the numbers."""
    return write_import(paths, imported, clip.info, model, clip.images, clip.silhouettes.masks, clip.silhouettes.trust)


def refine_import(
    body: FitBody, seen: Observations, clip: Clip, imported: ImportedFit, settings: FitSmplSettings
) -> tuple[Observations, FitState]:
    """Refine the imported track on landmarks and masks, from its own camera on."""
    seen = see_as(seen, imported.track, KNOWN_FOCAL_SPREAD)
    print(f"refining the {imported.format} track {imported.file}")
    with progress_bar("refining the body", 100) as show:
        state = refine_from(
            body, seen, clip.silhouettes, spreads_of(settings), imported.track, on_progress=lambda share: show(round(100 * share))
        )
    return seen, state


def track_of(clip: Clip, model: BodyModel, seen: Observations, state: FitState, score: FitScore) -> BodyTrack:
    """The fit in the pipeline's own form; the camera's axes are the world."""
    focal = float(seen.focal_px * state.log_focal.exp())
    height, width = clip.images.shape[1:3]
    return BodyTrack(
        betas=state.betas.float(),
        global_orient=vector_from_rotation(state.root).float(),
        body_pose=state.body_pose.float(),
        transl=state.transl.float(),
        K=torch.tensor([[focal, 0, clip.info.cx], [0, focal, clip.info.cy], [0, 0, 1]], dtype=torch.float32),
        w2c=torch.eye(4),
        width=width,
        height=height,
        frame_ids=torch.tensor(clip.info.frame_ids),
        confidence=torch.from_numpy(score.confidence).float(),
        fps=clip.info.fps,
        body=model.name,
        joint_spread=torch.from_numpy(score.joint_spread).float(),
        times=torch.tensor(clip.info.times, dtype=torch.float32),
    )


def describe(clip: Clip, model: BodyModel, body: FitBody, detected: Detected, seen: Observations, state: FitState, score: FitScore) -> dict:
    """The page of numbers that fit.json holds."""
    frame_ids = clip.info.frame_ids

    def mean(values: np.ndarray) -> float | None:
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if len(finite) else None

    miss = mean(score.reprojection_px)
    finite_iou = score.iou[np.isfinite(score.iou)]
    return {
        "reprojection_px": miss,
        "reprojection_share_of_height": None if miss is None else miss / seen.height_px,
        "person_height_px": seen.height_px,
        "iou_mean": mean(score.iou),
        "iou_worst": float(finite_iou.min()) if len(finite_iou) else None,
        "acceleration_m_s2": mean(score.acceleration),
        "foot_slide_m_s": mean(score.slide),
        "foot_drift_m": float(np.mean(score.stands)) if score.stands else None,
        "foot_drift_worst_m": max(score.stands, default=None),
        "landmark_px": landmark_misses(score.misses),
        "focal_px": float(seen.focal_px * state.log_focal.exp()),
        "focal_guess_px": seen.focal_px,
        "camera_looks_down_deg": float(-state.tilt[1].atan().rad2deg()),
        "camera_leans_deg": float(state.tilt[0].atan().rad2deg()),
        "focal_known": clip.info.focal_known,
        "joint_spread_mm": joint_spreads(model, score.joint_spread),
        "height_m": body_height(body, state.betas),
        "betas": [float(b) for b in state.betas],
        "frames": len(frame_ids),
        "swaps_repaired": {pair: [frame_ids[k] for k in rows] for pair, rows in detected.swapped.items() if rows},
        "distrusted": {str(frame_ids[k]): why for k, why in score.reasons.items()},
        "confidence": [round(float(c), 3) for c in score.confidence],
    }


def write_fit(
    paths: SubjectPaths, clip: Clip, model: BodyModel, body: FitBody, detected: Detected, seen: Observations, state: FitState,
    score: FitScore, details: Detailed, imported: ImportedFit | None = None,
) -> dict:  # fmt: skip
    """Write track, numbers and pictures, all or nothing; returns the numbers.

    Args:
        imported: the track that the fit began with, where there was one.
    """
    source = {} if imported is None else {"import": describe_source(imported)}
    record = describe(clip, model, body, detected, seen, state, score) | source | {"hands_and_face": details.record}
    scenes = scenes_of(clip, body, seen, state, score)
    with replaced_folder(paths.fit) as folder:
        write_track(folder / "track.npz", details.track)
        write_fit_state(folder / "state.npz", seen, state)
        write_json(folder / "fit.json", record)
        write_image(folder / "overlay.png", draw_sheet(scenes))
        write_film(folder / "overlay.mp4", scenes, fps=clip.info.fps)
        write_page(
            folder / "fit.html", title=f"Body fit of {paths.work.name}", record=record, series=series_of(score),
            joint_spread=score.joint_spread, joint_names=model.joint_names, frame_ids=clip.info.frame_ids, doubted=list(score.reasons), notes=[*import_notes(imported), *notes_of(clip, record), *details.notes],
        )  # fmt: skip
    return record


def import_notes(imported: ImportedFit | None) -> list[str]:
    """What is said of the track that a fit began with."""
    return [] if imported is None else [f"refined from the {imported.format} track {imported.file}", *imported.notes]


def joint_spreads(model: BodyModel, spread: Float[np.ndarray, "F J"]) -> dict[str, float]:
    """How far each joint is expected to be off in the mean over the clip, mm."""
    return {name: round(1000 * float(value), 1) for name, value in zip(model.joint_names, spread.mean(0), strict=True)}


def scenes_of(clip: Clip, body: FitBody, seen: Observations, state: FitState, score: FitScore) -> FitScenes:
    """What the film shows."""
    posed = pose_state(body, state)

    def surface(frame: int) -> Float[np.ndarray, "V 3"]:
        one = state.frames(slice(frame, frame + 1))
        return skin_surface(body.surface, pose_state(body, one), state.betas)[0].numpy()

    return FitScenes(
        images=clip.images,
        masks=clip.silhouettes.masks,
        surface=surface,
        joints=posed.joints.numpy(),
        faces=body.faces.numpy(),
        parents=body.skeleton.parents.numpy(),
        focal_px=float(seen.focal_px * state.log_focal.exp()),
        principal=seen.principal,
        level=level_axes(state.tilt).numpy(),
        points=seen.points.numpy(),
        certainty=seen.confidence.sqrt().numpy(),
        joint_confidence=joint_confidence(score.joint_spread),
        confidence=score.confidence,
        reasons=score.reasons,
        times=seen.times.numpy(),
        captions=[f"IoU {iou:.2f}  {miss:.1f} px" for iou, miss in zip(score.iou, score.reprojection_px, strict=True)],
    )


def series_of(score: FitScore) -> dict[str, Float[np.ndarray, "F"]]:
    """What the page draws over the clip."""
    return {
        "landmarks missed by, px": score.reprojection_px,
        "silhouette IoU": score.iou,
        "acceleration of the joints, m/s²": score.acceleration,
        "feet that stand slide at, m/s": score.slide,
        "joints expected to be off by, mm": 1000 * score.joint_spread.mean(1),
        "confidence": score.confidence,
    }


def notes_of(clip: Clip, record: dict) -> list[str]:
    """What the page says in words."""
    swaps = [f"left and right {pair} were swapped by the detector in frames {rows} and put right" for pair, rows in record["swaps_repaired"].items()]
    dropped: dict[str, list[str]] = {}
    for frame, why in clip.info.dropped.items():
        dropped.setdefault(why, []).append(frame)
    left_out = [f"{len(frames)} frames of the video are left out ({why}): {', '.join(frames)}" for why, frames in dropped.items()]
    return [*clip.info.notes, *left_out, *swaps]


def draw_sheet(scenes: FitScenes) -> UInt8[np.ndarray, "H W 3"]:
    """Frames evenly over the clip, each beside the body's side view."""
    chosen = np.linspace(0, len(scenes.images) - 1, min(SHEET_FRAMES, len(scenes.images))).round().astype(int)
    pairs = [draw_pair(scenes, int(frame)) for frame in chosen]
    size = (TILE * pairs[0].shape[1] // pairs[0].shape[0], TILE)
    return contact_sheet([cv2.resize(pair, size, interpolation=cv2.INTER_AREA) for pair in pairs], SHEET_COLUMNS)


def summary(record: dict) -> str:
    """One line for a user."""
    iou = "no mask trusted" if record["iou_mean"] is None else f"silhouette IoU {record['iou_mean']:.3f} (worst {record['iou_worst']:.3f})"
    miss = record["reprojection_px"]
    return (
        f"{record['frames']} frames fitted: "
        + ("" if miss is None else f"landmarks within {miss:.1f} px ({record['reprojection_share_of_height']:.2%} of the height), ")
        + f"{iou}, height {record['height_m']:.2f} m, focal length {record['focal_px']:.0f} px; "
        + f"{len(record['distrusted'])} frames in doubt; look at fit/fit.html"
    )


if __name__ == "__main__":
    run_stage(main)
