"""Carry a motion to another body: the same turns of the joints, the same footfalls in its own size.

Joints turn as they did. Places scale with the legs: root and ankles keep their path times s = target leg / source leg, the
hips their height above the standing ankles times s, each sole its height above the floor times s. Legs are then bent to the
scaled footholds, so a foot that stood still in the source stands still here, and one on the floor is on the floor. On its own
body a motion is left as it is, to rounding.

Axes: F frames, J joints. World of a motion: y up, floor at y = 0, metres.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from torch import Tensor

from model.motion.leg_ik import lower_to_reach, reach_with_legs
from model.motion.motion import Motion
from model.motion.skeleton import ANKLE, BALL, HIP, NUM_BODY_JOINTS, PELVIS, Skeleton
from model.pose import BodyPose

SOFTENING = 0.06  # s, over which the pelvis gives way before a leg would be too short
LEG_ROOM = 0.004  # m that it gives way more than it must, so that knees do not lock
NOISE = 1e-5  # m; a leg that is too short by less reaches


def retarget(motion: Motion, skeleton: Skeleton) -> Motion:
    """The motion as another body does it.

    Joints beyond the 22 that SMPL's models share (hands, face) are kept between bodies of one kind and rest at zero otherwise.
    """
    source, s = motion.skeleton, skeleton.leg_length / motion.skeleton.leg_length
    old = motion.skeleton.transforms(motion.pose)
    soles = source.sole_points(old)
    body_pose = _same_joints(motion.body_pose, skeleton.num_joints)

    root = s * (source.joints_rest[PELVIS] + motion.transl)
    root[:, 1] += _hip_room(skeleton) - s * _hip_room(source)
    pose = BodyPose(motion.global_orient, body_pose, root - skeleton.joints_rest[PELVIS])

    ankles = s * motion.joints[:, list(ANKLE)]
    foot_turns = old[:, list(ANKLE), :3, :3]
    ankles[..., 1] = s * soles[..., 1].amin(dim=2) - lowest_below_ankle(skeleton, old)
    needed = lower_to_reach(skeleton, pose, ankles) - s * lower_to_reach(source, motion.pose, motion.joints[:, list(ANKLE)])
    transl = pose.transl.clone()
    transl[:, 1] -= smooth_at_least(torch.where(needed > NOISE, needed + LEG_ROOM, 0.0).numpy(), motion.fps, loops=motion.loops)
    pose = reach_with_legs(skeleton, BodyPose(pose.global_orient, pose.body_pose, transl), ankles, foot_turns)
    return motion.with_pose(pose, skeleton)


def lowest_below_ankle(skeleton: Skeleton, transforms: Float[Tensor, "F J 4 4"]) -> Float[Tensor, "F 2"]:
    """Height of a foot's lowest point above its ankle (negative), for feet turned as in joint transforms of any skeleton."""
    lowest, soles = [], skeleton.soles
    for side in (0, 1):
        ankle, ball_joint = skeleton.joints_rest[ANKLE[side]], skeleton.joints_rest[BALL[side]]
        foot, toes = transforms[:, ANKLE[side], 1, :3], transforms[:, BALL[side], 1, :3]  # the rows that make heights
        heights = [foot @ (soles.heel[side] - ankle), foot @ (soles.ball[side] - ankle)]
        heights.append(foot @ (ball_joint - ankle) + toes @ (soles.toe[side] - ball_joint))
        lowest.append(torch.stack(heights).amin(dim=0))
    return torch.stack(lowest, dim=1)


def smooth_at_least(needed: Float[np.ndarray, "F"], fps: float, *, loops: bool) -> Float[Tensor, "F"]:
    """A smooth curve that is nowhere below `needed` (0 or positive)."""
    if not needed.any():
        return torch.zeros(len(needed))
    mode = "wrap" if loops else "nearest"
    widest = maximum_filter1d(needed, 2 * max(1, round(2 * SOFTENING * fps)) + 1, mode=mode)
    smooth = np.maximum(needed, gaussian_filter1d(widest, SOFTENING * fps, mode=mode))
    return torch.from_numpy(smooth).float()


def _same_joints(body_pose: Float[Tensor, "F K 3"], num_joints: int) -> Float[Tensor, "F J-1 3"]:
    if body_pose.shape[1] == num_joints - 1:
        return body_pose
    shared = min(NUM_BODY_JOINTS, num_joints) - 1
    rest = torch.zeros(len(body_pose), num_joints - 1 - shared, 3, dtype=body_pose.dtype)
    return torch.cat([body_pose[:, :shared], rest], dim=1)


def _hip_room(skeleton: Skeleton) -> float:
    """Height of the pelvis above its hips, and of an ankle above the floor, at rest: what does not grow with the legs."""
    at = skeleton.joints_rest
    above_hips = float(at[PELVIS, 1] - at[list(HIP), 1].mean())
    return above_hips + float(at[list(ANKLE), 1].mean()) - skeleton.floor_rest
