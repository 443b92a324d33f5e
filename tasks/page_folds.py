"""Pose shapes (model/pose_shapes.py) in as few bytes as do not show: the form in which the page carries and blends them.

    shapes    int8 x 6      for each texel and key: displacement and change of albedo, in 127ths of the key's largest
    units     float32 x 6   what 1 in `shapes` is, for each key: metres, and albedo
    joints    uint8 x 4     the joints that move the texel
    weights   uint16 x 4    how much each of them counts in the distance to a key, in 65535ths of `most`
    source    uint16        which texel each place of the feature map shows, seams padded
    places    uint16 x 2    where each splat reads the map: column and row, from the first texel's centre to the last's
    keys      float32 x 3   each joint's turn in each key pose, axis-angle, rad, root left out

The distance of texel i to key k is  d_ik^2 = sum_b weight_ib T_bk  with  T_bk = sum_j spread_jb angle(R_j, R_kj)^2:  spread is 1
for the joint itself, `around` for its parent and children, 0 for others and for the root's own turn. That is the distance of
model/pose_shapes.py, its sum over joints taken first, so that four numbers a texel do.

Axes: N splats, K keys, M texels inside charts, G texels along a side of the map, J joints, B joints a texel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int8, UInt8, UInt16

from model.avatar import Avatar
from model.pose_shapes import AROUND, COLOR_UNIT
from tasks.page_splats import FULL_16

FULL_INT8 = 127
MAX_INFLUENCES = 4


@dataclass(frozen=True)
class PackedFolds:
    """What the file's first lines describe.

    Attributes:
        side: texels along a side of the map.
        reach: how far a key reaches, rad.
        fade: what the nearness of all keys is divided against.
        around: share of a joint's influence that its neighbours' turns have too.
        most: the largest weight; above 1 where the root, whose own turn does not count, has a single child.
    """

    shapes: Int8[np.ndarray, "M K 6"]
    units: Float[np.ndarray, "K 6"]
    joints: UInt8[np.ndarray, "M 4"]
    weights: UInt16[np.ndarray, "M 4"]
    source: UInt16[np.ndarray, "G*G"]
    places: UInt16[np.ndarray, "N 2"]
    keys: Float[np.ndarray, "K J-1 3"]
    side: int
    reach: float
    fade: float
    around: float
    most: float


def pack_folds(avatar: Avatar) -> PackedFolds:
    """Round an avatar's pose shapes to the page's precision."""
    folds, atlas = avatar.pose_shapes, avatar.atlas
    assert folds is not None, "an avatar with pose shapes"
    num_texels, side = len(atlas.map_texel), atlas.map_resolution
    assert num_texels <= FULL_16 + 1 and len(atlas.parents) <= 256, "texels are numbered in 16 bits, joints in 8"
    to_units = torch.tensor([avatar.options.network.offset_scale] * 3 + [COLOR_UNIT] * 3)
    shapes = (folds.shapes.detach().cpu() * to_units[:, None]).double().permute(2, 0, 1).numpy()
    units = np.abs(shapes).max(0) / FULL_INT8
    joints = np.zeros((num_texels, MAX_INFLUENCES), np.uint8)
    joints[:, : atlas.map_skin_joints.shape[1]] = atlas.map_skin_joints.cpu().numpy()
    weights = distance_weights(avatar)
    most = float(weights.max())
    places = (atlas.uv.cpu().double().numpy() * side - 0.5).clip(0, side - 1) / (side - 1)
    return PackedFolds(
        shapes=np.round(shapes / np.maximum(units, 1e-30)).astype(np.int8),
        units=units.astype(np.float32),
        joints=joints,
        weights=np.round(weights / most * FULL_16).astype(np.uint16),
        source=atlas.map_source.cpu().numpy().astype(np.uint16),
        places=np.round(places * FULL_16).astype(np.uint16),
        keys=folds.keys.cpu().numpy().astype(np.float32),
        side=side,
        reach=folds.options.reach,
        fade=folds.options.fade,
        around=AROUND,
        most=most,
    )


def distance_weights(avatar: Avatar) -> Float[np.ndarray, "M 4"]:
    """How much the turns on and around each joint of a texel count: skin weights over what the joints' spreads sum to."""
    atlas = avatar.atlas
    skin, joints = atlas.map_skin_weights.cpu().double().numpy(), atlas.map_skin_joints.cpu().numpy()
    assert skin.shape[1] <= MAX_INFLUENCES, "the page's folds take four joints a texel"
    parents = atlas.parents.tolist()
    total = np.array([float(joint > 0) for joint in range(len(parents))])
    for joint, parent in enumerate(parents):
        if joint and parent >= 0:
            total[parent] += AROUND
            total[joint] += AROUND * (parent > 0)
    counted = np.zeros((len(skin), MAX_INFLUENCES))
    counted[:, : skin.shape[1]] = skin / np.maximum((skin * total[joints]).sum(1, keepdims=True), 1e-6)
    return counted
