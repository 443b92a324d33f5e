"""Motions from SMPL's arrays, whatever file they come in: rotations as they are, places brought into a motion's world.

Which way is up is read from the motion itself: people are upright most of the time, so the torso's median direction tells
which axis of the file points up (AMASS: z; AIST++ and most demos: y; a camera's axes: -y).

Axes: F frames, J joints. Angles are radians, lengths metres.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model.body.body_model import load_body_model
from model.fitting.rotations import rotation_between, rotation_from_vector
from model.motion.ground import level_floor, stand_on_floor
from model.motion.motion import Motion, MotionError, carried, check_motion
from model.motion.skeleton import NUM_BODY_JOINTS, NUM_SMPL_JOINTS, PELVIS, Skeleton, skeleton_with_surface
from model.pose import BodyPose

MAX_SCALE = 1.5  # a body larger or smaller than the usual one by more is not believed
STANDING = 0.9  # of the pelvis' height when standing: frames below say little about the size of a body
GLUED = 0.02  # m; when the pelvis moves less than this while the feet's reach changes by as much, heights mean nothing


@functools.cache
def usual_skeleton() -> Skeleton:
    """The open body's mean bones: SMPL's joints in ordinary proportions, for files that do not bring their own body."""
    body = load_body_model("open")
    vertices, joints = body.rest(torch.zeros(body.num_betas))
    return skeleton_with_surface(joints, body.parents, vertices, body.lbs_weights.argmax(dim=1))


def motion_from_rotations(
    name: str,
    rotations: Float[np.ndarray, "F R 3"],
    transl: Float[np.ndarray, "F 3"],
    fps: float,
    *,
    skeleton: Skeleton | None = None,
    always_stands: bool = False,
) -> Motion:
    """A motion from joint rotations, the root first, in any upright world.

    Args:
        rotations: axis-angle of at least SMPL's first 22 joints; those beyond are dropped (hands, jaw, eyes).
        transl: SMPL's translation in the file's axes.
        skeleton: the body that the motion was recorded from; None takes the usual one, in the size that the heights tell.
        always_stands: heights are not to be believed, and one foot is always on the floor (a clip of one camera).

    Raises:
        MotionError: shapes that do not fit, or numbers that are not finite.
    """
    if rotations.ndim != 3 or rotations.shape[1] < NUM_BODY_JOINTS or rotations.shape[2] != 3 or transl.shape != (len(rotations), 3):
        came = f"{rotations.shape} and {transl.shape}"
        raise MotionError(f"{name}: expected rotations [frames, {NUM_BODY_JOINTS} or more, 3] and translations [frames, 3], came {came}")
    bones = usual_skeleton() if skeleton is None else skeleton
    turns = torch.zeros(len(rotations), bones.num_joints, 3)
    shared = min(rotations.shape[1], bones.num_joints if rotations.shape[1] == bones.num_joints else NUM_BODY_JOINTS)
    turns[:, :shared] = torch.from_numpy(np.array(rotations[:, :shared], dtype=np.float32))
    if rotations.shape[1] == NUM_SMPL_JOINTS and bones.num_joints == NUM_SMPL_JOINTS:
        turns[:, NUM_BODY_JOINTS:] = torch.from_numpy(np.array(rotations[:, NUM_BODY_JOINTS:], dtype=np.float32))
    moved = torch.from_numpy(np.array(transl, dtype=np.float32))
    motion = check_motion(Motion(name, turns[:, 0], turns[:, 1:], moved, float(fps), False, bones))
    upright = motion.with_pose(carried(motion.pose, bones, _upright(motion.global_orient), torch.zeros(3)))
    if skeleton is None:
        upright = _in_its_size(upright)
    return stand_on_floor(upright) if always_stands or _is_glued(upright) else level_floor(upright)


def centred(motion: Motion) -> Motion:
    """The motion moved and turned about the vertical, so that it starts at the origin facing +z."""
    ahead = rotation_from_vector(motion.global_orient[0])[:, 2] * torch.tensor([1.0, 0, 1])
    turn = rotation_between(ahead, torch.tensor([0.0, 0, 1])) if ahead.norm() > 1e-3 else torch.eye(3)
    start = motion.skeleton.joints_rest[PELVIS] + motion.transl[0]
    shift = -(turn @ start) * torch.tensor([1.0, 0, 1])
    return motion.with_pose(carried(motion.pose, motion.skeleton, turn, shift))


def _upright(global_orient: Float[Tensor, "F 3"]) -> Float[Tensor, "3 3"]:
    """The rotation that carries the axis nearest to the torso's usual up onto +y."""
    torso = rotation_from_vector(global_orient)[..., 1].median(dim=0).values
    axis = torch.zeros(3)
    axis[torso.abs().argmax()] = torso[torso.abs().argmax()].sign()
    if axis[1] < 0:  # a camera's axes: what faces the camera (-z) is to face +z
        return torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    return rotation_between(axis, torch.tensor([0.0, 1.0, 0.0]))


def _reach(motion: Motion) -> Float[Tensor, "F"]:
    """Height of the pelvis above the lower sole, metres."""
    root = motion.skeleton.joints_rest[PELVIS, 1] + motion.transl[:, 1]
    return root - motion.sole_points[..., 1].amin(dim=(1, 2))


def _in_its_size(motion: Motion) -> Motion:
    """The usual body scaled so that it stands on the floor at 0 with the pelvis where the file says, if that is believable."""
    reach = _reach(motion)
    standing = reach > STANDING * reach.max()
    root = motion.skeleton.joints_rest[PELVIS, 1] + motion.transl[:, 1]
    scale = float((root[standing] / reach[standing]).median())
    if not 1 / MAX_SCALE < scale < MAX_SCALE or _is_glued(motion):
        return motion
    bones = scaled(motion.skeleton, scale)
    shift = (motion.skeleton.joints_rest[PELVIS] - bones.joints_rest[PELVIS]).expand(motion.num_frames, 3)
    return motion.with_pose(BodyPose(motion.global_orient, motion.body_pose, motion.transl + shift), bones)


def scaled(skeleton: Skeleton, scale: float) -> Skeleton:
    """The same bones, larger or smaller as a whole."""
    soles = type(skeleton.soles)(*(getattr(skeleton.soles, name) * scale for name in ("heel", "ball", "toe")))
    return Skeleton(skeleton.joints_rest * scale, skeleton.parents, soles)


def _is_glued(motion: Motion) -> bool:
    """Whether the pelvis stays at one height though the legs would move it: such a file tells no heights."""
    height = motion.transl[:, 1]
    reach = _reach(motion)
    usual = lambda v: float(v.quantile(0.95) - v.quantile(0.05))  # noqa: E731
    return usual(height) < GLUED < usual(reach) / 2
