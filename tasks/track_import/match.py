"""Which row of an imported track each kept frame of the clip is, and what its camera becomes in the crop.

Axes: F kept frames, R rows of the file, K joints. Rows count the source video's frames from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation, Slerp

from model.body.track_import.imported import MEAN_PELVIS, ImportedTrack, in_camera, one_shape
from model.body.track_import.keypoints import KeypointTrack
from model.body.track_import.place import PlacedTrack
from model.video import Window
from tasks.artifacts import ClipInfo
from tasks.errors import InputError

MIN_MATCHED = 0.5  # of the kept frames that must have a row of their own
OTHER_SHAPE = 0.02  # relative difference of the pictures' shapes beyond which a track belongs to another video


@dataclass(frozen=True)
class Matched:
    """Rows of a track for the frames of a clip.

    Attributes:
        rows: index into the file's rows; -1 where it has none. Such frames are filled from those around them.
    """

    rows: Int[np.ndarray, "F"]

    @property
    def found(self) -> Bool[np.ndarray, "F"]:
        return self.rows >= 0


def match_frames(clip: ClipInfo, num_rows: int, frame_ids: Int[np.ndarray, "R"] | None, source: str, *, enough: float = MIN_MATCHED) -> Matched:
    """Find each kept frame's row: by the file's own frame numbers, else by its number of rows.

    Args:
        enough: share of the kept frames that must have a row.

    Raises:
        InputError: the rows fit neither the video's frames nor the kept ones, or too few frames have one.
    """
    wanted = np.array(clip.source_frames)
    if frame_ids is not None:
        row_of = {int(frame): row for row, frame in enumerate(frame_ids)}
        rows = np.array([row_of.get(int(frame), -1) for frame in wanted])
    elif num_rows == len(wanted):
        rows = np.arange(num_rows)
    elif num_rows > wanted.max():
        rows = wanted
    else:
        raise InputError(
            f"the {source} track has {num_rows} rows and no frame numbers; expected one a frame of the video (the last one used is "
            f"{wanted.max()}) or one a kept frame ({len(wanted)}); make the track from {clip.source} itself"
        )
    share = float((rows >= 0).mean())
    if share < enough:
        numbers = "" if frame_ids is None else f" (the track has frames {frame_ids.min()} to {frame_ids.max()}, the clip uses {wanted.min()} to {wanted.max()})"
        raise InputError(
            f"the {source} track has a row for only {int((rows >= 0).sum())} of {len(rows)} frames of the clip, expected at least "
            f"{enough:.0%}{numbers}; is it of another video, or of another person in it?"
        )
    return Matched(rows)


def bridge_rows(placed: PlacedTrack, matched: Matched, times: Float[np.ndarray, "F"]) -> PlacedTrack:
    """One row a kept frame from the rows of the frames that have one: gaps are bridged evenly in time, ends are held.

    Args:
        placed: a row for each frame of `matched.found`, in order.
        times: of all kept frames, s.
    """
    known = times[matched.found]

    def turned(vectors: torch.Tensor) -> Float[np.ndarray, "F 3"]:
        if len(known) == 1:
            return np.repeat(vectors.numpy(), len(times), axis=0)
        return Slerp(known, Rotation.from_rotvec(vectors.numpy()))(np.clip(times, known[0], known[-1])).as_rotvec()

    pose = np.stack([turned(placed.body_pose[:, joint]) for joint in range(placed.body_pose.shape[1])], 1)
    moved = np.stack([np.interp(times, known, placed.transl[:, axis].numpy()) for axis in range(3)], 1)
    return replace(
        placed, global_orient=torch.from_numpy(turned(placed.global_orient)), body_pose=torch.from_numpy(pose), transl=torch.from_numpy(moved)
    )


def crop_intrinsics(K: Float[np.ndarray, "3 3"], size: tuple[int, int] | None, clip: ClipInfo, source: str) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of the source picture, in pixels of the crop that extract_frames wrote.

    Args:
        size: width and height of the pictures that K speaks of; None: the source video's.

    Raises:
        InputError: those pictures have another shape than the video's.
    """
    width, height = size or (clip.source_width, clip.source_height)
    across, down = clip.source_width / width, clip.source_height / height
    if abs(across / down - 1) > OTHER_SHAPE:
        raise InputError(
            f"the {source} track speaks of pictures of {width} x {height} px, the clip has {clip.source_width} x {clip.source_height}: "
            f"another shape, so another video or a cut one (or pixels that are not square, which other programs leave as they are stored); "
            f"make the track from {clip.source} itself, its pixels square"
        )
    x0, y0, side = clip.crop
    return Window(int(x0), int(y0), int(side), clip.resolution).intrinsics(np.diag([across, down, 1.0]) @ K)


def choose_person(people: list[ImportedTrack], clip: ClipInfo) -> ImportedTrack:
    """The one whose pelvis lies in the clip's person boxes in most frames; put together anew where the file does not say who is who."""
    if len(people) == 1:
        return people[0]
    seen = [_in_boxes(*_pelvis(track), track.frame_ids, clip, track.source) for track in people]
    chosen = _most_often(people, seen)
    if chosen.named:
        return chosen
    has_betas = all(track.betas_of_rows is not None for track in people)
    joined = _nearest(people, seen, chosen, ("global_orient", "body_pose", "transl", "frame_ids", *(["betas_of_rows"] if has_betas else [])))
    return replace(joined, betas=one_shape(joined.betas_of_rows)) if has_betas else joined


def choose_keypoints(people: list[KeypointTrack], clip: ClipInfo) -> KeypointTrack:
    """The one whose keypoints lie in the clip's person boxes, put together anew: a list a frame does not say who is who."""
    if len(people) == 1:
        return people[0]
    seen = [_in_boxes(track.points.mean(1), track.K, None, track.frame_ids, clip, track.source) for track in people]
    return _nearest(people, seen, _most_often(people, seen), ("points", "frame_ids"))


def _pelvis(track: ImportedTrack) -> tuple[Float[np.ndarray, "R 3"], np.ndarray | None, tuple[int, int] | None]:
    """Where the pelvis is in camera axes, and the camera."""
    size = None if track.width is None or track.height is None else (track.width, track.height)
    return in_camera(track, np.array(MEAN_PELVIS[track.family])).pelvis, track.K, size


@dataclass(frozen=True)
class InBoxes:
    """A track's row for each frame of the clip (-1: none), and how far that lies from the middle of the person's box, px; infinite outside of it."""

    rows: Int[np.ndarray, "F"]
    away: Float[np.ndarray, "F"]


def _in_boxes(
    places: Float[np.ndarray, "R 3"], K: np.ndarray | None, size: tuple[int, int] | None, frame_ids: np.ndarray | None, clip: ClipInfo, source: str
) -> InBoxes:  # fmt: skip
    boxes, away = np.array(clip.boxes, dtype=np.float64), np.full(len(clip.boxes), np.inf)
    try:
        rows = match_frames(clip, len(places), frame_ids, source, enough=0.0).rows
    except InputError:
        return InBoxes(np.full(len(boxes), -1), away)
    if K is None:
        return InBoxes(rows, away)
    points = places[rows] @ crop_intrinsics(K, size, clip, source).T
    pixels = points[:, :2] / points[:, 2:]
    inside = (rows >= 0) & (points[:, 2] > 0) & (pixels >= boxes[:, :2]).all(1) & (pixels <= boxes[:, 2:]).all(1)
    return InBoxes(rows, np.where(inside, np.linalg.norm(pixels - (boxes[:, :2] + boxes[:, 2:]) / 2, axis=1), np.inf))


Track = TypeVar("Track", ImportedTrack, KeypointTrack)


def _most_often(people: list[Track], seen: list[InBoxes]) -> Track:
    """The one who is in the boxes in most frames, then the one with a row in most."""
    return people[max(range(len(people)), key=lambda k: (np.isfinite(seen[k].away).sum(), (seen[k].rows >= 0).sum()))]


def _nearest(people: list[Track], seen: list[InBoxes], most: Track, fields: tuple[str, ...]) -> Track:
    """In each frame the entry that lies nearest to the middle of the person's box; a frame where none lies in it has no row."""
    away = np.stack([person.away for person in seen])
    who, frames = away.argmin(0), np.flatnonzero(np.isfinite(away).any(0))
    if not len(frames):
        return most
    return replace(most, **{name: np.stack([getattr(people[who[f]], name)[seen[who[f]].rows[f]] for f in frames]) for name in fields})
