"""Feet on the floor: level a motion of unknown height, and hold still a foot that stands.

Motions from films and sensors float, sink and slide by centimetres. A foot bears where it is low and slow; there it is held
at one place, sole on the floor, and the correction fades in and out around it. The root follows the mean correction slowly,
the legs bend for the rest. A motion whose feet stand already is left as it is, to rounding.

Axes: F frames; sides are 0 left, 1 right. World of a motion: y up, floor at y = 0, metres.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter1d

from model.motion.leg_ik import lower_to_reach, reach_with_legs
from model.motion.motion import Motion
from model.motion.retarget import LEG_ROOM, NOISE, smooth_at_least
from model.motion.skeleton import ANKLE
from model.pose import BodyPose

LOW = 0.05  # m above the floor; the sole of a foot that stands is lower
SLOW = 0.35  # m/s; the ball of a foot that stands is slower
SHORTEST = 0.08  # s that a foot stands at least
FADE = 0.14  # s, over which a correction comes and goes
DRIFT = 0.10  # m from where it first stood; farther away it stands anew
FLOOR_QUANTILE = 0.1  # of the heights of the lower foot: some frames may lie too low
FOLLOW = 0.25  # s, over which the root follows its feet


def level_floor(motion: Motion) -> Motion:
    """The motion shifted up or down as a whole, so that its lower foot is usually on the floor."""
    lowest = motion.sole_points[..., 1].amin(dim=(1, 2))
    return _raised(motion, -lowest.quantile(FLOOR_QUANTILE).expand(motion.num_frames))


def stand_on_floor(motion: Motion, *, follow: float = 0.1) -> Motion:
    """The motion with its lower foot on the floor all the time, for a source that does not know heights (there are no jumps).

    Args:
        follow: seconds over which heights are smoothed.
    """
    lowest = motion.sole_points[..., 1].amin(dim=(1, 2)).numpy()
    smooth = gaussian_filter1d(lowest, follow * motion.fps, mode=_ends(motion))
    return _raised(motion, torch.from_numpy(-smooth).float())


def keep_feet(motion: Motion) -> Motion:
    """The motion with standing feet held where they stand, and no foot below the floor."""
    if motion.num_frames < 3:
        return motion
    points = motion.sole_points.double().numpy()
    lowest, ball = points[..., 1].min(axis=2), points[:, :, 1]
    shift = np.zeros((motion.num_frames, 2, 3))
    for side in (0, 1):
        bears = feet_that_bear(motion, points)[:, side]
        shift[:, side, [0, 2]] = _hold(ball[:, side][:, [0, 2]], bears, motion)
        shift[:, side, 1] = _land(lowest[:, side], bears, motion)
    mean = gaussian_filter1d(shift.mean(axis=1), FOLLOW * motion.fps, axis=0, mode=_ends(motion))
    transforms = motion.skeleton.transforms(motion.pose)
    before = lower_to_reach(motion.skeleton, motion.pose, motion.joints[:, list(ANKLE)])
    ankles = motion.joints[:, list(ANKLE)] + torch.from_numpy(shift).float()
    pose = BodyPose(motion.global_orient, motion.body_pose, motion.transl + torch.from_numpy(mean).float())
    needed = lower_to_reach(motion.skeleton, pose, ankles) - before
    transl = pose.transl.clone()
    transl[:, 1] -= smooth_at_least(torch.where(needed > NOISE, needed + LEG_ROOM, 0.0).numpy(), motion.fps, loops=motion.loops)
    pose = BodyPose(pose.global_orient, pose.body_pose, transl)
    return motion.with_pose(reach_with_legs(motion.skeleton, pose, ankles, transforms[:, list(ANKLE), :3, :3]))


def feet_that_bear(motion: Motion, points: Float[np.ndarray, "F 2 3 3"] | None = None) -> Bool[np.ndarray, "F 2"]:
    """Where each foot stands: low and slow, for a while."""
    points = motion.sole_points.double().numpy() if points is None else points
    low = points[..., 1].min(axis=2) < LOW
    slow = speed_of(points[:, :, 1], motion) < SLOW
    width = max(1, round(SHORTEST * motion.fps))
    bears = np.zeros(low.shape, bool)
    for side in (0, 1):
        wanted = _padded(low[:, side] & slow[:, side], width, motion.loops)
        held = binary_opening(binary_closing(wanted, np.ones(width)), np.ones(width))
        bears[:, side] = held[width : len(held) - width]
    return bears


def speed_of(points: Float[np.ndarray, "F 2 3"], motion: Motion) -> Float[np.ndarray, "F 2"]:
    """Level speed, m/s."""
    level = points[..., [0, 2]]
    if motion.loops:
        steps = np.roll(level, -1, axis=0) - np.roll(level, 1, axis=0)
    else:
        steps = np.gradient(level, axis=0) * 2
    return np.linalg.norm(steps, axis=-1) * motion.fps / 2


def _hold(place: Float[np.ndarray, "F 2"], bears: Bool[np.ndarray, "F"], motion: Motion) -> Float[np.ndarray, "F 2"]:
    """The level shift that holds a foot where it stands, fading around each stand."""
    shift = np.zeros_like(place)
    for rows in _stands(place, bears, motion.loops):
        anchor = np.median(place[rows], axis=0)
        ahead, left = _fades(motion.fps)
        for edge, fade in ((rows[0], -ahead), (rows[-1], ahead)):
            near = _inside(edge + fade, len(place), motion.loops)
            rows_near, shares = near[near >= 0], left[near >= 0]
            shift[rows_near] += shares[:, None] * (anchor - place[edge])
        shift[rows] = anchor - place[rows]
    return shift


def _land(lowest: Float[np.ndarray, "F"], bears: Bool[np.ndarray, "F"], motion: Motion) -> Float[np.ndarray, "F"]:
    """The rise that puts a standing sole on the floor and keeps every sole above it."""
    rise = np.where(bears, -lowest, 0.0)
    eased = gaussian_filter1d(np.where(bears, -lowest, 0.0), FADE * motion.fps / 2, mode=_ends(motion))
    share = gaussian_filter1d(bears.astype(float), FADE * motion.fps / 2, mode=_ends(motion))
    fading = np.where(share > 1e-3, eased, 0.0)
    return np.maximum(np.where(bears, rise, fading), -lowest)


def _stands(place: np.ndarray, bears: np.ndarray, loops: bool) -> list[np.ndarray]:
    """Rows of each stand, in the order of time; a foot that creeps too far stands anew."""
    count = len(bears)
    start = int(np.flatnonzero(~bears)[0]) if loops and not bears.all() else 0
    stands, now = [], []
    for i in range(count):
        row = (start + i) % count
        if not bears[row] or (now and np.linalg.norm(place[row] - place[now[0]]) > DRIFT):
            if now:
                stands.append(np.array(now))
            now = []
        if bears[row]:
            now.append(row)
    return [*stands, np.array(now)] if now else stands


def _fades(fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames away from a stand, and the share of its correction that is left there."""
    ahead = np.arange(1, max(2, round(FADE * fps)))
    s = 1 - ahead / (FADE * fps)
    return ahead, np.clip(s * s * (3 - 2 * s), 0, 1)


def _inside(rows: np.ndarray, count: int, loops: bool) -> np.ndarray:
    """Rows around the end of a loop; -1 where there are none."""
    return rows % count if loops else np.where((rows >= 0) & (rows < count), rows, -1)


def _padded(flags: np.ndarray, width: int, loops: bool) -> np.ndarray:
    return np.pad(flags, width, mode="wrap" if loops else "edge")


def _raised(motion: Motion, rise: Float[torch.Tensor, "F"]) -> Motion:
    up = torch.tensor([0.0, 1.0, 0.0])
    return motion.with_pose(BodyPose(motion.global_orient, motion.body_pose, motion.transl + rise[:, None] * up))


def _ends(motion: Motion) -> str:
    return "wrap" if motion.loops else "nearest"
