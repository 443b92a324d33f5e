"""UV position maps: the posed body unrolled, where each texel holds the place of its surface point.

The maps are root-relative: they say what the body does, not where it stands or which way it faces, so a pose seen from
another side or in another place gives the same map.

Axes: F frames, G texels per side, M texels inside charts, J joints. Lengths are metres.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from model.pose import BodyPose, rest_to_posed, root_relative
from model.uv.atlas import UvAtlas


def bake_position_map(atlas: UvAtlas, pose: BodyPose) -> Float[Tensor, "3 G G"]:
    """Place the surface points of one posed body into the feature map's texels; padding shows the surface across a seam.

    Returns:
        Positions relative to the root joint, in its axes, metres. Differentiable in the pose.
    """
    return place_in_map(atlas, rest_to_posed(atlas.joints_rest, atlas.parents, root_relative(pose)))


def place_in_map(atlas: UvAtlas, transforms: Float[Tensor, "J 4 4"]) -> Float[Tensor, "3 G G"]:
    """The same, from the skinning transforms of a root-relative pose."""
    blended = (transforms[:, :3][atlas.map_skin_joints] * atlas.map_skin_weights[..., None, None]).sum(1)
    points = (blended[..., :3] @ atlas.map_points_rest[..., None]).squeeze(-1) + blended[..., 3] - atlas.joints_rest[0]
    return points[atlas.map_source].T.reshape(3, atlas.map_resolution, atlas.map_resolution)


def bake_position_maps(atlas: UvAtlas, poses: BodyPose) -> Float[Tensor, "F 3 G G"]:
    """The maps of many frames."""
    return torch.stack([bake_position_map(atlas, poses[row]) for row in range(len(poses.transl))])
