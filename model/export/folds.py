"""Pose shapes as plain tables, for whoever wants to blend them without this project (docs/bundle.md shows how).

Axes: N splats, K keys, M texels inside charts, J joints (the root is joint 0). Lengths are metres, colours 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int16, UInt16
from scipy.spatial.transform import Rotation

from model.avatar import Avatar
from model.pose_shapes import COLOR_UNIT

FULL_INT16 = 2**15 - 1


@dataclass(frozen=True)
class FoldTables:
    """What blends a pose's folds; model/pose_shapes.py has the formula.

    Attributes:
        keys: turn of each joint but the root in each key pose, x y z w.
        near: how much each joint's turn counts at each texel; rows sum to 1.
        shapes: displacement and change of albedo of each texel in each key pose, in `units`.
        units: what 1 in `shapes` is: metres, and albedo. Rounding to them moves nothing by more than a thousandth of a millimetre.
        texels, shares: the four texels that each splat reads, and their shares.
        reach: how far a key reaches, rad.
        fade: what the nearness of all keys is divided against.
    """

    keys: Float[np.ndarray, "K J-1 4"]
    near: Float[np.ndarray, "M J-1"]
    shapes: Int16[np.ndarray, "K M 6"]
    units: Float[np.ndarray, "K 6"]
    texels: UInt16[np.ndarray, "N 4"]
    shares: Float[np.ndarray, "N 4"]
    reach: float
    fade: float


def fold_tables(avatar: Avatar) -> FoldTables | None:
    """An avatar's pose shapes; None where it has none."""
    folds = avatar.pose_shapes
    if folds is None:
        return None
    keys = folds.keys.cpu().double().numpy()
    to_units = torch.tensor([avatar.options.network.offset_scale] * 3 + [COLOR_UNIT] * 3)
    shapes = (folds.shapes.detach().cpu() * to_units[:, None]).double().permute(0, 2, 1).numpy()
    units = np.abs(shapes).max(1) / FULL_INT16
    return FoldTables(
        keys=Rotation.from_rotvec(keys.reshape(-1, 3)).as_quat(canonical=True).reshape(*keys.shape[:2], 4),
        near=folds.near_joints.cpu().numpy().T,
        shapes=np.round(shapes / np.maximum(units, 1e-30)[:, None]).astype(np.int16),
        units=units,
        texels=folds.source.cpu()[avatar.corners.cpu()].numpy().astype(np.uint16),
        shares=avatar.shares.cpu().numpy(),
        reach=folds.options.reach,
        fade=folds.options.fade,
    )
