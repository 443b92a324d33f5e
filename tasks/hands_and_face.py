"""Fingers, jaw and expression of a fitted body, where its model has them: a part of the stage fit_smpl.

The video's own frames are looked at where they hold more than frames/ does. A part that is too small in the picture, or is
hardly ever seen, stays relaxed (hands) or at rest (face), and the stage says so in a line.

Axes: F frames, J joints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from model.body.body_model import BodyModel, load_body_model
from model.body.track import BodyTrack
from model.camera_motion import carry
from model.fitting.blazepose_networks import MissingDetectorError
from model.fitting.fit_parts import PartSpreads, PartState, SeenPart, fit_part, misses_px
from model.fitting.hands import HandAndFaceReader, PartLandmarks
from model.fitting.parts import FACE_POINTS, Part, parts_of
from tasks.artifacts import ClipInfo
from tasks.errors import InputError
from tasks.progress import progress_bar
from tasks.settings import BodySettings, HandsAndFaceSection
from tasks.video_file import frames_of


@dataclass(frozen=True)
class Detailed:
    """A track with fingers, jaw and expression.

    Attributes:
        record: by part: how large it is, in how many frames it was seen, by how much its points are missed.
        notes: the same in words, a line each.
    """

    track: BodyTrack
    record: dict[str, dict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def fit_hands_and_face(
    track: BodyTrack, model: BodyModel, body: BodySettings, clip: ClipInfo, images: UInt8[np.ndarray, "F H W 3"],
    points: Float[np.ndarray, "F 33 2"], there: Float[np.ndarray, "F"], settings: HandsAndFaceSection,
) -> Detailed:  # fmt: skip
    """Fit what the model has of hands and face; the body does not move, and a body without them comes back as it is.

    Args:
        points: BlazePose's landmarks, px of the frames. there: whether the person was found.
    """
    if "jaw" in model.joint_names:  # expressions are columns of the shape, which the pipeline's model leaves out
        model = load_body_model(body.model, uv_path=body.uv, num_expressions=settings.num_expressions)
    betas = torch.zeros(model.num_betas, dtype=torch.float64)
    shape = [i for i, name in enumerate(model.beta_names) if not name.startswith("expression")]
    betas[shape] = track.betas.double()
    parts = parts_of(model, betas)
    if not parts:
        return Detailed(track)
    model = model.to(dtype=torch.float64)
    motion = (track.global_orient.double(), track.body_pose.double(), track.transl.double())
    rest = model.rest(betas)[1]
    transforms = model.joint_transforms(rest, *motion)
    places = (transforms[..., :3, :3] @ rest[..., None])[..., 0] + transforms[..., :3, 3]
    zoom, frames = best_frames(clip, images)
    sizes = {part.name: (float(track.K[0, 0]) * part.length / places[:, part.root, 2] * zoom.scale).numpy() for part in parts}
    least = {part.name: settings.min_face if part.name == "face" else settings.min_palm for part in parts}
    looked_at = [part for part in parts if np.median(sizes[part.name]) >= least[part.name]]
    found = read_parts(looked_at, frames, zoom.to_source(points), there > 0, sizes, settings.min_presence, len(images)) if looked_at else {}
    result = Detailed(track)
    for part in parts:
        seen = None
        if part in looked_at:
            seen = see_part(part, found[part.name], zoom, track, transforms[:, part.root, :3, :3], places[:, part.root], clip)
            seen = seen if seen.there.double().mean() >= max(settings.min_seen, 1e-9) else None
        result = add_part(result, part, seen, float(np.median(sizes[part.name])), least[part.name], found.get(part.name), settings)
    return result


@dataclass(frozen=True)
class Zoom:
    """From pixels of frames/ to those of the pictures that are looked at, and back: x -> H_f (scale x + corner) in frame f."""

    scale: float
    corner: Float[np.ndarray, "2"]
    to_filmed: Float[np.ndarray, "F 3 3"]

    def to_source(self, points: Float[np.ndarray, "F P 2"]) -> Float[np.ndarray, "F P 2"]:
        return carry(self.to_filmed, points * self.scale + self.corner)

    def to_frame(self, points: Float[np.ndarray, "F P 2"]) -> Float[np.ndarray, "F P 2"]:
        return (carry(np.linalg.inv(self.to_filmed), points) - self.corner) / self.scale


def best_frames(clip: ClipInfo, images: UInt8[np.ndarray, "F H W 3"]) -> tuple[Zoom, Iterator[UInt8[np.ndarray, "H W 3"]]]:
    """The sharpest pictures at hand: the video's own, where frames/ is a smaller cut of them and the way back is known."""
    x0, y0, side = clip.crop
    source = Path(clip.source)
    if clip.to_filmed is not None and not clip.straightened and side > clip.resolution and source.is_file():
        zoom = Zoom(side / clip.resolution, np.array([x0, y0]), np.array(clip.to_filmed))
        return zoom, frames_of(source, np.array(clip.source_frames))
    return Zoom(1.0, np.zeros(2), np.tile(np.eye(3), (len(images), 1, 1))), iter(images)


def read_parts(
    parts: Sequence[Part], frames: Iterator[UInt8[np.ndarray, "H W 3"]], points: Float[np.ndarray, "F 33 2"], there: np.ndarray,
    sizes: dict[str, Float[np.ndarray, "F"]], min_presence: float, count: int,
) -> dict[str, list[PartLandmarks | None]]:  # fmt: skip
    """What the networks see of each part in each frame.

    Raises:
        InputError: the detector is not installed.
    """
    try:
        reader = HandAndFaceReader()
    except MissingDetectorError as error:
        raise InputError(str(error)) from error
    found: dict[str, list[PartLandmarks | None]] = {part.name: [] for part in parts}
    with progress_bar("looking at hands and face", count) as show:
        for row, image in zip(range(count), frames, strict=True):
            for part in parts:
                seen = None
                if there[row] and part.name == "face":
                    seen = reader.face(image, points[row], min_presence=min_presence)
                elif there[row]:
                    seen = reader.hand(image, points[row], part.name.split()[0], float(sizes[part.name][row]), min_presence=min_presence)
                found[part.name].append(seen)
            show(row + 1)
    return found


def see_part(
    part: Part, found: list[PartLandmarks | None], zoom: Zoom, track: BodyTrack, turns: torch.Tensor, places: torch.Tensor, clip: ClipInfo
) -> SeenPart:
    """What was seen, in px of frames/, beside the body that holds it."""
    picked = list(FACE_POINTS) if part.name == "face" else slice(None)
    rows = np.stack([np.zeros((len(part.points), 2)) if one is None else one.points[picked] for one in found])
    return SeenPart(
        torch.from_numpy(zoom.to_frame(rows)), torch.tensor([one is not None for one in found]), turns, places, float(track.K[0, 0]),
        (float(track.K[0, 2]), float(track.K[1, 2])), torch.tensor(clip.times, dtype=torch.float64),
    )  # fmt: skip


def add_part(
    result: Detailed, part: Part, seen: SeenPart | None, size: float, least: float, found: list | None, settings: HandsAndFaceSection
) -> Detailed:
    """The track with one part more, and what is to be said of it."""
    track, rows = result.track, [joint - 1 for joint in part.joints]
    pose = track.body_pose.clone()
    record: dict = {"size_px": round(size, 1), "seen": 0 if found is None else sum(one is not None for one in found), "points_off_px": None}
    if seen is None:
        still = part.usual if part.name != "face" else torch.zeros_like(part.usual)
        pose[:, rows] = part.rotations(still).float()
        why = f"it is {size:.0f} px of the video, expected {least:.0f}" if size < least else f"it is seen in {record['seen']} of {track.num_frames} frames"
        notes = [f"{part.name} left {'at rest' if part.name == 'face' else 'relaxed'}: {why}"]
        return Detailed(replace(track, body_pose=pose), {**result.record, part.name: record}, [*result.notes, *notes])
    spreads = PartSpreads(**settings.spreads.model_dump())
    state: PartState = fit_part(part, seen, spreads)
    pose[:, rows] = part.rotations(state.values).float()
    missed = misses_px(part, seen, spreads, state)
    record["points_off_px"] = round(float(missed[seen.there].median()), 2)
    changes: dict = {"body_pose": pose}
    if part.points_by_expression.shape[-1]:
        changes["expression"] = state.values[:, part.num_angles :].float()
    notes = [f"{part.name} fitted: seen in {record['seen']} of {track.num_frames} frames at {size:.0f} px of the video"]
    return Detailed(replace(track, **changes), {**result.record, part.name: record}, [*result.notes, *notes])
