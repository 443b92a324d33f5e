"""A body's pose, and the joint transforms that skinning needs.

Axes: *B leading frames, F frames, J joints (the root is joint 0). Lengths are metres, angles radians (axis-angle).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.body.track import BodyTrack
from model.fitting.rotations import rotation_from_vector


@dataclass(frozen=True)
class BodyPose:
    """Where the root is and how the joints are turned; one frame or many.

    Attributes:
        global_orient: root rotation in the world.
        body_pose: rotations of the other joints, relative to their parents.
        transl: root translation in the world, metres (added after skinning).
    """

    global_orient: Float[Tensor, "*B 3"]
    body_pose: Float[Tensor, "*B J-1 3"]
    transl: Float[Tensor, "*B 3"]

    def __getitem__(self, rows: int | Tensor) -> BodyPose:
        """Some of the frames."""
        return BodyPose(self.global_orient[rows], self.body_pose[rows], self.transl[rows])


def track_pose(track: BodyTrack, rows: int | Tensor | slice = slice(None)) -> BodyPose:
    """The pose of some rows of a track."""
    return BodyPose(track.global_orient[rows], track.body_pose[rows], track.transl[rows])


def with_pose(track: BodyTrack, pose: BodyPose) -> BodyTrack:
    """The same track with other poses in its rows."""
    return dataclasses.replace(track, global_orient=pose.global_orient, body_pose=pose.body_pose, transl=pose.transl)


def rest_to_posed(joints_rest: Float[Tensor, "J 3"], parents: Int[Tensor, "J"], pose: BodyPose) -> Float[Tensor, "*B J 4 4"]:
    """Skinning transforms: from the rest pose into the world.

    Joint k with parent p stands at x_k = x_p + R_p (j_k - j_p), turned by R_k = R_p exp(theta_k); the transform that
    carries rest points with it is x -> R_k (x - j_k) + x_k.          SMPL, Loper et al. 2015

    Returns:
        One rigid transform a joint. Differentiable in joints and pose.
    """
    local = rotation_from_vector(torch.cat([pose.global_orient[..., None, :], pose.body_pose], dim=-2))
    turns, places = [local[..., 0, :, :]], [joints_rest[0] + pose.transl]
    for k, p in enumerate(parents.tolist()[1:], start=1):
        turns.append(turns[p] @ local[..., k, :, :])
        places.append(places[p] + turns[p] @ (joints_rest[k] - joints_rest[p]))
    R, x = torch.stack(turns, dim=-3), torch.stack(places, dim=-2)
    top = torch.cat([R, (x - (R @ joints_rest[..., None]).squeeze(-1))[..., None]], dim=-1)
    bottom = torch.tensor([0.0, 0, 0, 1], dtype=top.dtype, device=top.device).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def posed_joints(joints_rest: Float[Tensor, "J 3"], transforms: Float[Tensor, "*B J 4 4"]) -> Float[Tensor, "*B J 3"]:
    """Where the joints are, from their skinning transforms, metres."""
    return (transforms[..., :3, :3] @ joints_rest[..., None]).squeeze(-1) + transforms[..., :3, 3]


def root_relative(pose: BodyPose) -> BodyPose:
    """The same pose without place and heading: what the body does, not where it does it."""
    return BodyPose(torch.zeros_like(pose.global_orient), pose.body_pose, torch.zeros_like(pose.transl))
