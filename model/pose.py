"""A body's pose, and the joint transforms that skinning needs.

Axes: *B leading frames, F frames, J joints (the root is joint 0). Lengths are metres, angles radians (axis-angle).
"""

from __future__ import annotations

import dataclasses
import functools
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

    def to(self, device: torch.device | str) -> BodyPose:
        """The same pose on another device. Differentiable."""
        return BodyPose(self.global_orient.to(device), self.body_pose.to(device), self.transl.to(device))


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
    turns = rotation_from_vector(torch.cat([pose.global_orient[..., None, :], pose.body_pose], dim=-2))
    chain = tuple(parents.tolist())
    bones = torch.cat([joints_rest[:1], joints_rest[1:] - joints_rest.index_select(0, _parents_below_root(chain, joints_rest.device))])
    root = torch.cat([pose.transl[..., None, :], torch.zeros_like(pose.body_pose)], dim=-2)
    bottom = bones.new_zeros(1, 1, 4)
    bottom[..., 3] = 1
    world = torch.cat([torch.cat([turns, (bones + root)[..., None]], dim=-1), bottom.expand(*turns.shape[:-2], 1, 4)], dim=-2)
    for joints, above in _jumps(chain, world.device):
        world = world.index_copy(-3, joints, world.index_select(-3, above) @ world.index_select(-3, joints))
    top = torch.cat([world[..., :3, :3], world[..., :3, 3:] - world[..., :3, :3] @ joints_rest[..., None]], dim=-1)
    return torch.cat([top, world[..., 3:, :]], dim=-2)


def check_tree(parents: Int[Tensor, "J"]) -> None:
    """Raises ValueError where joints do not hang from one root, each from one that comes before it: a circle would never end."""
    chain = parents.tolist()
    if not chain or chain[0] != -1 or any(not 0 <= parent < joint for joint, parent in enumerate(chain[1:], start=1)):
        raise ValueError(f"expected joints that each hang from an earlier one, the first from -1, came the parents {chain}")


@functools.lru_cache(maxsize=32)
def _parents_below_root(parents: tuple[int, ...], device: torch.device) -> Int[Tensor, "J-1"]:
    """The joint that each joint but the root hangs from."""
    return torch.tensor(parents[1:], dtype=torch.long, device=device)


@functools.lru_cache(maxsize=32)
def _jumps(parents: tuple[int, ...], device: torch.device) -> list[tuple[Int[Tensor, "K"], Int[Tensor, "K"]]]:
    """How to multiply all chains of a skeleton at once, in as many rounds as the logarithm of the longest has digits.

    After round r each joint's transform covers itself and the 2^r - 1 joints above it; the next round joins it to that of
    the first joint which it does not cover.

    Returns:
        For each round the joints that are not yet in the world, and the joint that each is joined to.
    """
    above, rounds = list(parents), []
    above[0] = -1
    while any(a >= 0 for a in above):
        joints = [k for k, a in enumerate(above) if a >= 0]
        rounds.append(tuple(torch.tensor(each, device=device) for each in (joints, [above[k] for k in joints])))
        above = [above[a] if a >= 0 else -1 for a in above]
    return rounds


def posed_joints(joints_rest: Float[Tensor, "J 3"], transforms: Float[Tensor, "*B J 4 4"]) -> Float[Tensor, "*B J 3"]:
    """Where the joints are, from their skinning transforms, metres."""
    return (transforms[..., :3, :3] @ joints_rest[..., None]).squeeze(-1) + transforms[..., :3, 3]


def root_relative(pose: BodyPose) -> BodyPose:
    """The same pose without place and heading: what the body does, not where it does it."""
    return BodyPose(torch.zeros_like(pose.global_orient), pose.body_pose, torch.zeros_like(pose.transl))
