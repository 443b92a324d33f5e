"""The fit stage's other way in: a body track that another program made, put on this project's body and clip, and judged.

Axes: F kept frames, H x W pixels of the crop, V vertices. Camera axes are the world. Each import is gated by a number, how
well the posed body's outline covers the mask, and shown as a picture beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.body.track_import.imported import ImportedTrack, TrackFormatError
from model.body.track_import.keypoints import fit_keypoints
from model.body.track_import.place import PlacedTrack, family_of, place_on_body
from model.body.track_import.settle import settle_on_masks
from model.fitting.outline import render_faces, shrink_masks
from model.fitting.picture import contact_sheet, draw_overlay, draw_side_view
from model.fitting.score import joint_acceleration, silhouette_iou
from tasks.artifacts import ClipInfo, SubjectPaths, write_image, write_json, write_track
from tasks.errors import InputError
from tasks.progress import progress_bar
from tasks.track_import.match import bridge_rows, choose_keypoints, choose_person, crop_intrinsics, match_frames
from tasks.track_import.read import read_track_file
from tasks.whole_files import replaced_folder

MIN_IOU = 0.5  # mean over the trusted frames; a body in loose clothes covers 0.75 and more of its mask
BAD_IOU = 0.7  # below it a frame is doubted
BRIDGED_CONFIDENCE = 0.3  # of a frame whose pose comes from those around it
FAR_FOCAL = 4.0  # focal length over the picture's longer side from which a camera stands for weak perspective, not for a lens
SHEET_FRAMES, SHEET_COLUMNS, TILE = 20, 5, 256
BODY_WORDS = {"smpl": "SMPL", "smplh": "SMPL-H", "smplx": "SMPL-X", None: "the open body"}


@dataclass(frozen=True)
class ImportedFit:
    """A track on our body, one row a kept frame.

    Attributes:
        track: the pipeline's own form.
        own_shape: whether betas are the file's (or fitted to its keypoints); else shape and place are settled on the masks.
        found: which frames have a row of their own in the file.
        file, format, person: where it comes from.
        notes: what the user should know.
    """

    track: BodyTrack
    own_shape: bool
    found: Bool[np.ndarray, "F"]
    file: Path
    format: str
    person: str
    notes: list[str]


def import_track(
    path: Path, clip: ClipInfo, model: BodyModel, masks: UInt8[np.ndarray, "F H W"], trust: Float[np.ndarray, "F"]
) -> ImportedFit:
    """Read a track, find the clip's person and frames in it, and put it on the body.

    Args:
        masks, trust: of the kept frames; the shape is settled on them where the file's betas belong to another body.

    Raises:
        InputError: see `read_track_file` and `match_frames`; also a track without a camera, and a clip whose own camera turned.
    """
    if clip.turned:
        raise InputError(
            f"{path} cannot be used: the camera of {clip.source} turned by {clip.turned:.0f} degrees, and its frames are laid on the picture of one that "
            f"stands still, which another program's track does not speak of; set fit_smpl.import: none to fit anew"
        )
    read = read_track_file(path, (clip.source_width, clip.source_height))
    if not read.people:
        raise InputError(f"{read.path}: this {read.format} file shows nobody")
    times = np.asarray(clip.times, dtype=np.float64)
    try:
        if isinstance(read.people[0], ImportedTrack):
            placed, K, matched, person, notes = _from_poses(read.people, clip, model)
        else:
            placed, K, matched, person, notes = _from_keypoints(read.people, clip, model)
    except TrackFormatError as error:
        raise InputError(f"{read.path}: {error}") from error
    placed = bridge_rows(placed, matched, times)
    if not placed.own_shape:
        placed, K = _nearer_camera(placed, K, clip, model)
        with progress_bar("settling the body on the masks", 100) as show:
            placed = settle_on_masks(model, placed, K, masks, trust, on_progress=lambda share: show(round(100 * share)))
        notes.append(
            f"the file's betas are {BODY_WORDS[_family(read.people[0])]}'s and body.model is {BODY_WORDS[family_of(model)]}: rotations carry over, "
            f"betas do not, so shape and place were fitted to the masks; set body.model to the file's own body to use them as they are"
        )
    elif isinstance(read.people[0], ImportedTrack):
        notes.append(f"betas and poses are used as they are, on {model.name}: if they were made with another gender's body, the outline will not fit")
    missing = int((~matched.found).sum())
    if missing:
        notes.append(f"{missing} frames have no row in the file; their poses are bridged from those around them")
    return ImportedFit(_track_of(placed, K, clip, model), placed.own_shape, matched.found, read.path, read.format, person, notes)


def _family(person: object) -> str | None:
    return person.family if isinstance(person, ImportedTrack) else None


def _from_poses(people: list[ImportedTrack], clip: ClipInfo, model: BodyModel) -> tuple:
    person = choose_person(people, clip)
    if person.K is None:
        raise TrackFormatError(f"{person.source}: the file names no camera; put its camera file beside it")
    matched = match_frames(clip, len(person.transl), person.frame_ids, person.source)
    size = None if person.width is None or person.height is None else (person.width, person.height)
    K = crop_intrinsics(person.K, size, clip, person.source)
    placed, rows = place_on_body(person, model), torch.from_numpy(matched.rows[matched.found])
    placed = replace(placed, **{name: getattr(placed, name)[rows] for name in ("global_orient", "body_pose", "transl")})
    notes = list(person.notes) + ([f"of {len(people)} people in the file, {person.person if person.named else 'in each frame the one in the box'} is the clip's"] if len(people) > 1 else [])
    return placed, K, matched, person.person, notes


def _from_keypoints(people: list, clip: ClipInfo, model: BodyModel) -> tuple:
    person = choose_keypoints(people, clip)
    matched = match_frames(clip, len(person.points), person.frame_ids, person.source)
    K = crop_intrinsics(person.K, None, clip, person.source)
    rows = replace(person, points=person.points[matched.rows[matched.found]], frame_ids=None)
    with progress_bar("fitting the body to the file's keypoints", 100) as show:
        placed, miss = fit_keypoints(model, rows, on_progress=lambda share: show(round(100 * share)))
    notes = [f"{person.source} has another topology: the body was fitted to {len(person.names)} of its keypoints, which it misses by {1000 * miss:.0f} mm"]
    return placed, K, matched, person.person, notes


def _nearer_camera(placed: PlacedTrack, K: np.ndarray, clip: ClipInfo, model: BodyModel) -> tuple[PlacedTrack, np.ndarray]:
    """Bring a body that was placed for weak perspective (a huge focal length, tens of metres away) to the clip's own camera."""
    if K[0, 0] <= FAR_FOCAL * clip.resolution * max(clip.source_width, clip.source_height) / clip.crop[2]:
        return placed, K
    pelvis_rest = model.to(dtype=torch.float64).rest(placed.betas)[1][0]
    pelvis = placed.transl + pelvis_rest
    rays = pelvis / pelvis[:, 2:]
    pixels = rays @ torch.from_numpy(K).T
    ours = torch.from_numpy(clip.K.astype(np.float64))
    depth = pelvis[:, 2] * float(ours[0, 0] / K[0, 0])
    return replace(placed, transl=depth[:, None] * (pixels @ torch.linalg.inv(ours).T) - pelvis_rest), clip.K


def _track_of(placed: PlacedTrack, K: np.ndarray, clip: ClipInfo, model: BodyModel) -> BodyTrack:
    return BodyTrack(
        betas=placed.betas.float(), global_orient=placed.global_orient.float(), body_pose=placed.body_pose.float(), transl=placed.transl.float(),
        K=torch.from_numpy(np.asarray(K)).float(), w2c=torch.eye(4), width=clip.resolution, height=clip.resolution,
        frame_ids=torch.tensor(clip.frame_ids), confidence=torch.ones(len(clip.frame_ids)), fps=clip.fps, body=model.name,
        times=torch.tensor(clip.times, dtype=torch.float32),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- the gate, the output


@dataclass(frozen=True)
class OutlineScore:
    """How well a track's body covers the masks.

    Attributes:
        iou: NaN where the mask is not trusted. acceleration: mean over the joints, m/s^2. height_m: of the rest body.
    """

    iou: Float[np.ndarray, "F"]
    acceleration: Float[np.ndarray, "F"]
    height_m: float


@torch.no_grad()
def score_track(
    track: BodyTrack, model: BodyModel, masks: UInt8[np.ndarray, "F H W"], trust: Float[np.ndarray, "F"], times: Float[np.ndarray, "F"]
) -> OutlineScore:
    """Pose the body in every frame and compare its silhouette with the mask."""
    model = model.to(dtype=torch.float32)
    small, scale = shrink_masks(masks)
    ours, joints = np.zeros_like(small), []
    for row in range(track.num_frames):
        posed = model.pose(track.betas, track.global_orient[row], track.body_pose[row], track.transl[row])
        pixels = (track.camera.project(posed.vertices) * scale).double().numpy()
        ours[row] = render_faces(pixels, posed.vertices[:, 2].double().numpy(), model.faces.numpy(), *small.shape[1:])[0] >= 0
        joints.append(posed.joints.double())
    iou = silhouette_iou(ours, small)
    iou[trust <= 0] = np.nan
    height = model.rest(track.betas)[0][:, 1]
    return OutlineScore(iou, joint_acceleration(torch.stack(joints), torch.as_tensor(times, dtype=torch.float64)), float(height.max() - height.min()))


def write_import(
    paths: SubjectPaths, imported: ImportedFit, clip: ClipInfo, model: BodyModel, images: UInt8[np.ndarray, "F H W 3"],
    masks: UInt8[np.ndarray, "F H W"], trust: Float[np.ndarray, "F"],
) -> dict:  # fmt: skip
    """Judge an imported track and write it as the fit stage writes its own: track, numbers, picture; returns the numbers.

    Raises:
        InputError: the body does not cover the person. The picture that shows it is left in the subject's folder.
    """
    score = score_track(imported.track, model, masks, trust, np.asarray(clip.times))
    sheet = draw_track_sheet(imported.track, model, images)
    pass_gate(paths, imported, score.iou, lambda: sheet)
    confidence, reasons = _judge(score, imported.found, trust)
    track = replace(imported.track, confidence=torch.from_numpy(confidence).float())
    record = describe_import(imported, track, clip, score, reasons)
    with replaced_folder(paths.fit) as folder:
        write_track(folder / "track.npz", track)
        write_json(folder / "fit.json", record)
        write_image(folder / "overlay.png", sheet)
    return record


def pass_gate(paths: SubjectPaths, imported: ImportedFit, iou: Float[np.ndarray, "F"], draw: Callable[[], UInt8[np.ndarray, "H W 3"]]) -> None:
    """Let a track through whose body covers the person.

    Args:
        iou: of its silhouettes with the masks; NaN where the mask is not trusted.
        draw: makes the picture that shows it, left in the subject's folder where it is refused.

    Raises:
        InputError: it does not.
    """
    finite, picture = iou[np.isfinite(iou)], paths.work / "import_refused.png"
    if len(finite) and finite.mean() < MIN_IOU:
        write_image(picture, draw())
        raise InputError(
            f"the {imported.format} track of {imported.file} covers only {finite.mean():.2f} of the person's masks (intersection over union, mean of "
            f"{len(finite)} frames, expected at least {MIN_IOU}); look at {picture}: is it of another video or person, is its camera file the "
            f"right one, were its frames resized or cut? Without it: fit_smpl.import: null"
        )
    picture.unlink(missing_ok=True)


def _judge(score: OutlineScore, found: Bool[np.ndarray, "F"], trust: Float[np.ndarray, "F"]) -> tuple[Float[np.ndarray, "F"], dict[int, str]]:
    """A confidence for each frame, and why it is low."""
    confidence, reasons = np.ones(len(found)), {}
    for frame in range(len(found)):
        why = []
        if not found[frame]:
            confidence[frame] = BRIDGED_CONFIDENCE
            why.append("the file has no row for it: the pose comes from the frames beside it")
        if trust[frame] <= 0:
            confidence[frame] *= 0.7
            why.append("the mask is flagged")
        elif score.iou[frame] < BAD_IOU:
            confidence[frame] *= max(score.iou[frame] / BAD_IOU, 0.0)
            why.append(f"silhouette IoU is {score.iou[frame]:.2f}")
        if why:
            reasons[frame] = "; ".join(why)
    return confidence, reasons


def describe_import(imported: ImportedFit, track: BodyTrack, clip: ClipInfo, score: OutlineScore, reasons: dict[int, str]) -> dict:
    """The page of numbers, with the keys of the stage's own fit; null stands for what an import does not measure."""
    finite = score.iou[np.isfinite(score.iou)]
    return {
        "reprojection_px": None,
        "reprojection_share_of_height": None,
        "person_height_px": float(np.median([box[3] - box[1] for box in clip.boxes])),
        "iou_mean": float(finite.mean()) if len(finite) else None,
        "iou_worst": float(finite.min()) if len(finite) else None,
        "acceleration_m_s2": float(score.acceleration.mean()),
        "focal_px": float(track.K[0, 0]),
        "focal_guess_px": clip.focal_px,
        "focal_known": True,
        "height_m": score.height_m,
        "betas": [float(b) for b in track.betas],
        "frames": track.num_frames,
        "distrusted": {str(clip.frame_ids[k]): why for k, why in reasons.items()},
        "confidence": [round(float(c), 3) for c in track.confidence],
        "import": describe_source(imported),
    }


def describe_source(imported: ImportedFit) -> dict:
    """Where a motion comes from, for fit.json."""
    return {
        "file": str(imported.file), "format": imported.format, "person": imported.person, "own_shape": imported.own_shape,
        "frames_matched": int(imported.found.sum()), "notes": imported.notes,
    }  # fmt: skip


@torch.no_grad()
def draw_track_sheet(track: BodyTrack, model: BodyModel, images: UInt8[np.ndarray, "F H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Frames evenly over the clip with the body's outline and bones, each beside the body's side view."""
    model = model.to(dtype=torch.float32)
    faces, parents, tiles = model.faces.numpy(), model.parents.numpy(), []
    for row in np.linspace(0, len(images) - 1, min(SHEET_FRAMES, len(images))).round().astype(int):
        posed = model.pose(track.betas, track.global_orient[row], track.body_pose[row], track.transl[row])
        v = posed.vertices.double().numpy()
        pixels, joints_px = (track.camera.project(points).double().numpy() for points in (posed.vertices, posed.joints))
        overlay = draw_overlay(images[row], pixels, v[:, 2], faces, joints_px, parents)
        tiles.append(np.concatenate([_tile(overlay), draw_side_view(v, faces, (v.min(0) + v.max(0)) / 2, TILE)], 1))
    return contact_sheet(tiles, SHEET_COLUMNS)


def _tile(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "T T 3"]:
    """A picture as one tile, its shape kept."""
    scale = TILE / max(picture.shape[:2])
    small = cv2.resize(picture, (round(picture.shape[1] * scale), round(picture.shape[0] * scale)), interpolation=cv2.INTER_AREA)
    return np.pad(small, ((0, TILE - small.shape[0]), (0, TILE - small.shape[1]), (0, 0)))


def import_summary(record: dict) -> str:
    """A few lines for a user."""
    source = record["import"]
    iou = "no mask trusted" if record["iou_mean"] is None else f"silhouette IoU {record['iou_mean']:.3f} (worst {record['iou_worst']:.3f})"
    head = f"{record['frames']} frames from the {source['format']} track {source['file']}: {iou}, height {record['height_m']:.2f} m; look at fit/overlay.png"
    return "\n".join([head, *source["notes"]])
