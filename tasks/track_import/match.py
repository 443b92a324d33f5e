"""Which row of an imported track each kept frame of the clip is, and what its camera becomes in the crop.

Axes: F kept frames, R rows of the file, K joints. Rows count the source video's frames from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation, Slerp

from model.body.track_import.imported import MEAN_PELVIS, ImportedTrack, in_camera
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


def match_frames(clip: ClipInfo, num_rows: int, frame_ids: Int[np.ndarray, "R"] | None, source: str) -> Matched:
    """Find each kept frame's row: by the file's own frame numbers, else by its number of rows.

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
    if share < MIN_MATCHED:
        numbers = "" if frame_ids is None else f" (the track has frames {frame_ids.min()} to {frame_ids.max()}, the clip uses {wanted.min()} to {wanted.max()})"
        raise InputError(
            f"the {source} track has a row for only {int((rows >= 0).sum())} of {len(rows)} frames of the clip, expected at least "
            f"{MIN_MATCHED:.0%}{numbers}; is it of another video, or of another person in it?"
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
            f"another shape, so another video or a cut one; make the track from {clip.source} itself"
        )
    x0, y0, side = clip.crop
    return Window(int(x0), int(y0), int(side), clip.resolution).intrinsics(np.diag([across, down, 1.0]) @ K)


def choose_person(people: list[ImportedTrack], clip: ClipInfo) -> ImportedTrack:
    """The one whose pelvis lies in the clip's person boxes in most frames."""
    if len(people) == 1:
        return people[0]
    return max(people, key=lambda track: (_frames_in_box(track, clip), len(track.transl)))


def choose_keypoints(people: list[KeypointTrack], clip: ClipInfo) -> KeypointTrack:
    """The one whose keypoints lie in the clip's person boxes in most frames."""
    if len(people) == 1:
        return people[0]
    return max(people, key=lambda track: _count_inside(track.points.mean(1), track.K, None, track.frame_ids, clip, track.source))


def _frames_in_box(track: ImportedTrack, clip: ClipInfo) -> int:
    if track.K is None:
        return 0
    pelvis = in_camera(track, np.array(MEAN_PELVIS[track.family])).pelvis
    size = None if track.width is None or track.height is None else (track.width, track.height)
    return _count_inside(pelvis, track.K, size, track.frame_ids, clip, track.source)


def _count_inside(
    places: Float[np.ndarray, "R 3"], K: np.ndarray, size: tuple[int, int] | None, frame_ids: np.ndarray | None, clip: ClipInfo, source: str
) -> int:
    """In how many frames of the clip a point lies in the person's box."""
    try:
        rows = match_frames(clip, len(places), frame_ids, source).rows
    except InputError:
        return 0
    boxes = np.array(clip.boxes)[rows >= 0]
    points = places[rows[rows >= 0]] @ crop_intrinsics(K, size, clip, source).T
    pixels = points[:, :2] / points[:, 2:]
    inside = (points[:, 2] > 0) & (pixels >= boxes[:, :2]).all(1) & (pixels <= boxes[:, 2:]).all(1)
    return int(inside.sum())
