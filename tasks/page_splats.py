"""An avatar's splats in as few bytes as do not show: the form in which the page carries them.

    places    uint16 x 3   between the corners of the box around all splats: 0.02 mm for a person
    surface   uint16 x 4   outward unit normal, (n + 1) / 2, and the logarithm of the scale
    albedo    uint8 x 3    colour before shading
    joints    uint8 x 4    which joints move the splat
    weights   uint8 x 4    by how many 255ths; they sum to 255, as Spark's shader does not divide by their sum

Axes: N splats, K influences of a splat. Lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from model.avatar import BakedAvatar

FULL_16, FULL_8 = 2**16 - 1, 2**8 - 1
MAX_INFLUENCES = 4


@dataclass(frozen=True)
class PackedSplats:
    """What the file's first lines describe.

    Attributes:
        bounds: lowest and highest corner of the box around all places, metres.
        log_scales: lowest and highest logarithm of a scale in metres.
    """

    places: UInt16[np.ndarray, "N 3"]
    surface: UInt16[np.ndarray, "N 4"]
    albedo: UInt8[np.ndarray, "N 3"]
    joints: UInt8[np.ndarray, "N 4"]
    weights: UInt8[np.ndarray, "N 4"]
    bounds: Float[np.ndarray, "2 3"]
    log_scales: Float[np.ndarray, "2"]


def pack_splats(baked: BakedAvatar) -> PackedSplats:
    """Round an avatar's table to the page's precision."""
    places, log_scales = baked.means_rest.double().numpy(), np.log(baked.scales.double().numpy())
    bounds, spread = np.stack([places.min(0), places.max(0)]), np.array([log_scales.min(), log_scales.max()])
    normals = (baked.normals_rest.double().numpy() + 1) / 2
    joints = np.zeros((len(places), MAX_INFLUENCES), np.uint8)
    joints[:, : baked.skin_joints.shape[1]] = baked.skin_joints.numpy()
    return PackedSplats(
        places=_spread(places, bounds[0], bounds[1]),
        surface=np.concatenate([_spread(normals, 0, 1), _spread(log_scales, spread[0], spread[1])[:, None]], axis=1),
        albedo=np.round(baked.albedo.double().clamp(0, 1).numpy() * FULL_8).astype(np.uint8),
        joints=joints,
        weights=round_weights(baked.skin_weights.double().numpy()),
        bounds=bounds,
        log_scales=spread,
    )


def round_weights(weights: Float[np.ndarray, "N K"]) -> UInt8[np.ndarray, "N 4"]:
    """Weights in 255ths, each row's sum exactly 255: rounded down, and what is missing given to the largest remainders."""
    assert weights.shape[1] <= MAX_INFLUENCES, "the page's skinning takes four joints a splat"
    exact = np.zeros((len(weights), MAX_INFLUENCES))
    exact[:, : weights.shape[1]] = weights / weights.sum(1, keepdims=True) * FULL_8
    whole = np.floor(exact)
    missing = FULL_8 - whole.sum(1, keepdims=True)
    rank = np.argsort(np.argsort(-(exact - whole), axis=1, kind="stable"), axis=1)
    return (whole + (rank < missing)).astype(np.uint8)


def _spread(values: Float[np.ndarray, "*S"], low: Float[np.ndarray, "*T"] | float, high: Float[np.ndarray, "*T"] | float) -> UInt16[np.ndarray, "*S"]:
    """From `low`..`high` to 0..65535, rounded."""
    width = np.maximum(np.asarray(high, float) - low, 1e-12)
    return np.round((values - low) / width * FULL_16).clip(0, FULL_16).astype(np.uint16)
