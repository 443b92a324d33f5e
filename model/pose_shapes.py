"""Folds that follow the pose: what the surface does in some key poses, blended part by part of the body.

Each key pose k has a displacement and a change of colour for every texel i of the feature map, and a pose takes from the
keys as far as it is near them, judged by the joints around the texel alone:

    r_i = sum_k w_ik D_ik      w_ik = a_ik / (fade + sum_k a_ik)      a_ik = exp(-d_ik^2 / 2 reach^2)
    d_ik^2 = sum_j s_ij angle(R_j, R_kj)^2

which is pose space deformation (Lewis et al. 2000) with local distances (Kurihara and Miyata 2004), D learned through the
renderer. A pose that is far from every key takes nothing, so an arm in a new pose looks as in stage 1 while the rest of
the body keeps its folds. Where the body stands and which way it faces does not count.

Axes: K key poses, M texels of the feature map inside charts, G texels per side, J joints (the root is joint 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.fitting.rotations import rotation_from_vector
from model.uv.atlas import UvAtlas

AROUND = 0.5  # share of a joint's influence that its parent's and children's turns have too
COLOR_UNIT = 0.25  # change of albedo that a shape of 1 makes


@dataclass(frozen=True)
class PoseShapeOptions:
    """Shapes that follow the pose.

    Attributes:
        keys: how many key poses, chosen among the training poses.
        reach: how far a key reaches, rad: root mean square turn of the joints around.
        fade: what the nearness of all keys is divided against: a pose as near as that to its one near key takes half of it.
    """

    keys: int
    reach: float
    fade: float


class PoseShapes(nn.Module):
    """What the surface does in the key poses, and how a pose blends them. All zero at the start."""

    def __init__(self, options: PoseShapeOptions, atlas: UvAtlas) -> None:
        super().__init__()
        self.options = options
        num_joints, num_texels = len(atlas.parents), len(atlas.map_texel)
        self.register_buffer("keys", torch.zeros(options.keys, num_joints - 1, 3))
        self.shapes = nn.Parameter(torch.zeros(options.keys, 6, num_texels))
        self.register_buffer("near_joints", joints_around(atlas), persistent=False)
        self.register_buffer("source", atlas.map_source.clone(), persistent=False)

    def forward(self, body_pose: Float[Tensor, "J-1 3"]) -> Float[Tensor, "6 G G"]:
        """Displacement (in units of the decoder's) and change of albedo (in COLOR_UNIT) in one pose, seams padded.

        Differentiable in the shapes, not in the pose.
        """
        weights = self.weights(body_pose)
        blended = (self.shapes * weights[:, None]).sum(0)
        side = math.isqrt(len(self.source))
        return blended.index_select(1, self.source).view(6, side, side)

    @torch.no_grad()
    def weights(self, body_pose: Float[Tensor, "J-1 3"]) -> Float[Tensor, "K M"]:
        """How much each texel takes from each key; at most 1 in sum."""
        squared = joint_angles(body_pose.to(self.keys.device), self.keys).square() @ self.near_joints
        near = torch.exp(-squared / (2 * self.options.reach**2))
        return near / (self.options.fade + near.sum(0))


def joint_angles(pose: Float[Tensor, "J-1 3"], others: Float[Tensor, "P J-1 3"]) -> Float[Tensor, "P J-1"]:
    """The angle between two poses' rotations of each joint, rad."""
    turned = rotation_from_vector(pose).mT @ rotation_from_vector(others)
    cosine = (turned.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.acos(cosine.clamp(-1, 1))


def joints_around(atlas: UvAtlas) -> Float[Tensor, "J-1 M"]:
    """How much each joint's turn counts at each texel of the feature map; sums to 1 over the joints that can turn."""
    num_joints, num_texels = len(atlas.parents), len(atlas.map_texel)
    weights = torch.zeros(num_joints, num_texels, device=atlas.map_skin_weights.device)
    weights.scatter_add_(0, atlas.map_skin_joints.T, atlas.map_skin_weights.T)
    spread = torch.eye(num_joints)
    for joint, parent in enumerate(atlas.parents.tolist()):
        if joint and parent >= 0:
            spread[joint, parent] = spread[parent, joint] = AROUND
    shares = (spread.to(weights.device) @ weights)[1:]
    return shares / shares.sum(0, keepdim=True).clamp_min(1e-6)


def choose_keys(poses: Float[Tensor, "P J-1 3"], count: int) -> Int[Tensor, "K"]:
    """Poses that stand for all: each the farthest from those chosen before it, the first the nearest to the mean."""
    chosen = [int((poses - poses.mean(0)).square().sum((1, 2)).argmin())]
    distance = joint_angles(poses[chosen[0]], poses).square().mean(1)
    while len(chosen) < min(count, len(poses)):
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, joint_angles(poses[chosen[-1]], poses).square().mean(1))
    return torch.tensor(sorted(chosen))
