"""A motion: what a body does over time, in a world of its own.

The world of a motion: y up, the floor at y = 0, metres; a person at the start usually faces +z, the left side towards +x.
Poses are SMPL's: `transl` is added after skinning and the root turns about its own joint. A motion knows the skeleton it
was made for, so that it can be carried to another (model/motion/retarget.py).

Axes: F frames, J joints (the root is joint 0). Angles are radians (axis-angle).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from torch import Tensor

from model.fitting.rotations import rotation_from_vector, vector_from_rotation
from model.motion.skeleton import Skeleton
from model.pose import BodyPose

MAX_FRAMES = 200_000  # nearly two hours at 30 a second; a rate that makes more was mistyped, and would fill the memory


class MotionError(ValueError):
    """A file or array that is no motion, or none that can be used; the message says what was expected and what came."""


@dataclass(frozen=True)
class Motion:
    """A motion of one skeleton.

    Attributes:
        name: what it shows, in a word.
        global_orient: root rotation in the motion's world.
        body_pose: rotations of the other joints, relative to their parents.
        transl: root translation, metres.
        fps: frames per second.
        loops: whether the frame after the last is the first, so that it can be played for ever.
        skeleton: the bones it was made for.
    """

    name: str
    global_orient: Float[Tensor, "F 3"]
    body_pose: Float[Tensor, "F J-1 3"]
    transl: Float[Tensor, "F 3"]
    fps: float
    loops: bool
    skeleton: Skeleton

    @property
    def num_frames(self) -> int:
        return len(self.transl)

    @property
    def seconds(self) -> float:
        """How long it plays: a loop's last frame is followed by its first."""
        return (self.num_frames if self.loops else self.num_frames - 1) / self.fps

    @property
    def pose(self) -> BodyPose:
        return BodyPose(self.global_orient, self.body_pose, self.transl)

    @property
    def joints(self) -> Float[Tensor, "F J 3"]:
        """Where the joints are, metres."""
        return self.skeleton.joints(self.pose)

    @property
    def sole_points(self) -> Float[Tensor, "F 2 3 3"]:
        """Heel, ball and toe of both feet, metres."""
        return self.skeleton.sole_points(self.skeleton.transforms(self.pose))

    def with_pose(self, pose: BodyPose, skeleton: Skeleton | None = None) -> Motion:
        """The same motion with other poses, of the same bones or of others."""
        parts = {"global_orient": pose.global_orient, "body_pose": pose.body_pose, "transl": pose.transl}
        return dataclasses.replace(self, **parts, skeleton=self.skeleton if skeleton is None else skeleton)

    def renamed(self, name: str) -> Motion:
        return dataclasses.replace(self, name=name)


def check_motion(motion: Motion) -> Motion:
    """The motion itself, when it can be used.

    Raises:
        MotionError: no frames, a frame rate that is none, shapes that do not fit, numbers that are not finite.
    """
    frames, joints = motion.num_frames, motion.skeleton.num_joints
    if frames < 1:
        raise MotionError(f"motion {motion.name} has no frames")
    if not 0 < motion.fps < 10_000:
        raise MotionError(f"motion {motion.name}: expected frames per second above 0, came {motion.fps}")
    if motion.global_orient.shape != (frames, 3) or motion.body_pose.shape != (frames, joints - 1, 3):
        came = f"{tuple(motion.global_orient.shape)} and {tuple(motion.body_pose.shape)}"
        raise MotionError(f"motion {motion.name}: expected rotations [{frames}, 3] and [{frames}, {joints - 1}, 3], came {came}")
    for part in ("global_orient", "body_pose", "transl"):
        bad = ~torch.isfinite(getattr(motion, part).flatten(1)).all(dim=1)
        if bad.any():
            raise MotionError(f"motion {motion.name}: {part} holds numbers that are not finite in {int(bad.sum())} of {frames} frames")
    return motion


def part_of(motion: Motion, start: float = 0.0, end: float | None = None) -> Motion:
    """The frames from `start` to before `end`, seconds; a part does not loop.

    Raises:
        MotionError: nothing lies between.
    """
    first = max(0, round(start * motion.fps))
    last = motion.num_frames if end is None else min(motion.num_frames, round(end * motion.fps))
    if first >= last:
        raise MotionError(f"motion {motion.name} lasts {motion.seconds:.2f} s; nothing lies between {start:g} s and {'its end' if end is None else f'{end:g} s'}")
    if (first, last) == (0, motion.num_frames):
        return motion
    return dataclasses.replace(motion.with_pose(motion.pose[slice(first, last)]), loops=False)


def at_rate(motion: Motion, fps: float, *, speed: float = 1.0) -> Motion:
    """The same motion at another frame rate: rotations turn evenly between frames (slerp), places move evenly.

    A loop stays one: its length is kept to the nearest whole number of new frames.

    Args:
        speed: 2 plays it in half the time.

    Raises:
        MotionError: a rate or a speed that is none, or that makes more than MAX_FRAMES.
    """
    if fps == motion.fps and speed == 1.0:
        return motion
    if not (fps > 0 and speed > 0):
        raise MotionError(f"expected frames per second and speed above 0, came {fps:g} and {speed:g}")
    duration = motion.seconds / speed
    if duration * fps > MAX_FRAMES:
        raise MotionError(f"expected at most {MAX_FRAMES} frames, {fps:g} a second and speed {speed:g} make {duration * fps:.3g} of {motion.name}")
    if motion.loops:
        count = max(1, round(duration * fps))
        places = torch.arange(count, dtype=torch.float64) / count * motion.num_frames
    else:
        count = int(duration * fps + 1e-6) + 1
        places = torch.arange(count, dtype=torch.float64) / fps * speed * motion.fps
    return dataclasses.replace(motion.with_pose(pose_between(motion.pose, places, loops=motion.loops)), fps=float(fps))


def evened(motion: Motion, times: Float[Tensor, "F"] | None) -> Motion:
    """A motion whose frames were filmed at these times, s (None: evenly), with even ones, as near to each other as most of them were.

    A clip has gaps where the person was out of the picture, or its rate changed; played frame by frame it would skip them. Where no
    frame is off by more than one from an even clip's, it stays as it is.
    """
    if times is None or len(times) < 3:
        return motion
    times = times.double()
    usual = float(times.diff().median())
    if not usual > 0 or float((times - torch.linspace(times[0], times[-1], len(times), dtype=times.dtype)).abs().max()) <= usual:
        return motion
    span = float(times[-1] - times[0])
    fps = max(1 / usual, (len(times) - 1) / span)
    count = span * fps
    if not count < MAX_FRAMES:
        raise MotionError(f"motion {motion.name}: expected at most {MAX_FRAMES} frames, its times make {count:.3g}")
    wanted = np.arange(int(count + 1e-3) + 1) / fps
    places = np.interp(wanted, (times - times[0]).numpy(), np.arange(len(times)))
    return dataclasses.replace(motion.with_pose(pose_between(motion.pose, torch.from_numpy(places), loops=False)), fps=fps)


def pose_between(pose: BodyPose, places: Float[Tensor, "K"], *, loops: bool) -> BodyPose:
    """Poses at fractional frames; held at the ends, or around the end of a loop."""
    count = len(pose.transl)
    before = places.floor().long()
    share = (places - before).to(pose.transl)
    left, right = (before % count, (before + 1) % count) if loops else (before.clamp(0, count - 1), (before + 1).clamp(0, count - 1))
    turns = torch.cat([pose.global_orient[:, None], pose.body_pose], dim=1)
    mixed = slerp(turns[left], turns[right], share[:, None, None])
    return BodyPose(mixed[:, 0], mixed[:, 1:], torch.lerp(pose.transl[left], pose.transl[right], share[:, None]))


def slerp(a: Float[Tensor, "*B 3"], b: Float[Tensor, "*B 3"], share: Float[Tensor, "*#B 1"]) -> Float[Tensor, "*B 3"]:
    """The rotation that lies a share of the way from a to b, at constant angular speed: a exp(share log(a^-1 b))."""
    first, second = rotation_from_vector(a.double()), rotation_from_vector(b.double())
    step = vector_from_rotation(first.mT @ second) * share.double()
    mixed = vector_from_rotation(first @ rotation_from_vector(step)).to(a)
    return torch.where((a == b).all(dim=-1, keepdim=True), a, mixed)


def smoothed(motion: Motion, seconds: float) -> Motion:
    """The motion with rotations and places averaged over a Gaussian window of that standard deviation.

    Takes the corners away that slerp leaves at the frames of a slow recording. Rotations are averaged as quaternions, each on the
    side of the one before it.
    """
    mode = "wrap" if motion.loops else "nearest"
    turns = torch.cat([motion.global_orient[:, None], motion.body_pose], dim=1)
    quaternions = Rotation.from_rotvec(turns.double().numpy().reshape(-1, 3)).as_quat().reshape(*turns.shape[:2], 4)
    steps = np.sign((quaternions[1:] * quaternions[:-1]).sum(-1))
    signs = np.concatenate([np.ones((1, turns.shape[1])), np.cumprod(np.where(steps == 0, 1, steps), axis=0)])
    width = seconds * motion.fps
    mean = gaussian_filter1d(quaternions * signs[..., None], width, axis=0, mode=mode)
    vectors = Rotation.from_quat(mean.reshape(-1, 4)).as_rotvec().reshape(turns.shape)
    transl = gaussian_filter1d(motion.transl.double().numpy(), width, axis=0, mode=mode)
    body = torch.from_numpy(vectors).to(turns)
    return motion.with_pose(BodyPose(body[:, 0], body[:, 1:], torch.from_numpy(transl).to(motion.transl)))


def carried(pose: BodyPose, skeleton: Skeleton, turn: Float[Tensor, "3 3"], shift: Float[Tensor, "3"]) -> BodyPose:
    """The same poses in another world, X = turn x + shift. With the root joint at j: transl' = turn (j + transl) + shift - j."""
    root = skeleton.joints_rest[0].to(pose.transl)
    orient = vector_from_rotation(turn.double() @ rotation_from_vector(pose.global_orient.double())).to(pose.transl)
    return BodyPose(orient, pose.body_pose, (root + pose.transl) @ turn.to(pose.transl).T + shift.to(pose.transl) - root)
