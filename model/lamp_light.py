"""How much of a distant lamp's light reaches each point of a posed body: it turns away, or something stands in between.

A body's points are dropped along the light onto a grid, which keeps the height of the nearest to the lamp in each cell; a point
lies in shadow as far as the cells around it hold something higher (a shadow map with percentage-closer filtering, Reeves and
others 1987). The soft edge is as wide as the filter. The grid lies with the first point and has no border: it repeats after
GRID cells, more than a person is long, so that all shapes are fixed. The lamp's light carries no gradient to points or lamp.

Axes: N points, M points that are asked about, G = GRID.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as nnf

CELL_M = 0.012  # side of a cell
GRID = 256  # cells each way, 3 m; a power of two
BIAS_M = 0.025  # how much higher something must be to cast a shadow, where the light falls straight
STEEPEST = 0.3  # cosine; on points that turn further from the lamp the bias grows no more
MEAN_SHARE = 0.25  # of max(0, n . d) over all directions


def lamp_share(means: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], direction: Float[Tensor, "3"]) -> Float[Tensor, "N"]:
    """What each point gets of the lamp's light, less the mean over all directions: 0.75 facing the lamp, -0.25 in shadow.

    Args:
        means, normals: all points in the world, metres, and their unit normals.
        direction: unit vector towards the lamp; zero for a lamp that is not known, which gives zeros.
    """
    arrays = means.detach(), normals.detach(), direction.detach()
    if means.device.type != "cpu" or means.dtype != torch.float32:
        return lamp_share_reference(*arrays)
    if not direction.any():
        return torch.zeros(len(means))
    means, normals, direction = (t.contiguous().numpy() for t in arrays)
    return torch.from_numpy(cast_shadows(means, direction).share(np.arange(len(means)), means, normals))


def lamp_share_reference(means: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], direction: Float[Tensor, "3"]) -> Float[Tensor, "N"]:
    """The same in plain torch, in any floating type and on any device, in few operations of fixed shapes."""
    axes = light_axes(direction)
    height, facing = means @ direction, normals @ direction
    place = (means - means[:1]) @ axes[:2].T / CELL_M - 0.5
    first = place.floor()
    part = place - first
    across = (first.long()[:, None] + torch.arange(-1, 3, device=means.device)[:, None]) % GRID  # [N, 4, 2]: the columns and rows around
    window = across[:, :, None, 1] * GRID + across[:, None, :, 0]
    top = torch.full((GRID * GRID,), -torch.inf, dtype=means.dtype, device=means.device)
    top = top.scatter_reduce(0, window[:, 1:3, 1:3].flatten(), height[:, None].expand(-1, 4).flatten(), "amax")
    limit = height + BIAS_M / facing.clamp_min(STEEPEST)
    taps = torch.stack([1 - part, torch.ones_like(part), torch.ones_like(part), part], dim=1)  # of a box three cells wide, whole but for its ends
    free = ((top[window] < limit[:, None, None]) * taps[:, :, None, 1] * taps[:, None, :, 0]).sum((1, 2))
    return (facing.clamp_min(0) * free / 9 - MEAN_SHARE) * direction.any()


def light_axes(direction: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Two unit vectors across a direction and each other, and the direction; zeros for zero."""
    x, y, _ = torch.eye(3, dtype=direction.dtype, device=direction.device)
    across = nnf.normalize(torch.linalg.cross(direction, torch.where(direction[0].abs() < 0.8, x, y)), dim=0)
    return torch.stack([across, torch.linalg.cross(direction, across), direction])


@dataclass(frozen=True)
class ShadowMap:
    """What stands in the lamp's way; compiled, float32.

    Attributes:
        frame: two directions across the light, and the one towards the lamp.
        top: height along the last of whatever is nearest to the lamp in each cell.
    """

    frame: Float[np.ndarray, "3 3"]
    top: Float[np.ndarray, "G G"]

    def share(
        self, which: Int[np.ndarray, "M"], means: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"]
    ) -> Float[np.ndarray, "M"]:
        """`lamp_share` of some points."""
        shares = np.empty(len(which), np.float32)
        _look_up(which, means, normals, self.frame, self.top, shares)
        return shares


def cast_shadows(means: Float[np.ndarray, "N 3"], direction: Float[np.ndarray, "3"]) -> ShadowMap:
    """Drop points along the light of a lamp that is known."""
    frame = light_axes(torch.from_numpy(direction)).numpy()
    return ShadowMap(frame, _drop(means, frame))


@numba.njit(inline="always")
def _along(row, means, i):
    return row[0] * means[i, 0] + row[1] * means[i, 1] + row[2] * means[i, 2]


@numba.njit(inline="always")
def _place(row, means, i):
    """In cells from the first point."""
    across = row[0] * (means[i, 0] - means[0, 0]) + row[1] * (means[i, 1] - means[0, 1]) + row[2] * (means[i, 2] - means[0, 2])
    return across / np.float32(CELL_M) - np.float32(0.5)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _drop(means, frame):
    """The height of whatever is nearest to the lamp in each cell; each point covers the four cells around it."""
    top = np.full((GRID, GRID), np.float32(-np.inf))
    for i in range(len(means)):
        height = _along(frame[2], means, i)
        j, k = np.int64(np.floor(_place(frame[0], means, i))), np.int64(np.floor(_place(frame[1], means, i)))
        for dy in range(2):
            for dx in range(2):
                y, x = (k + dy) & (GRID - 1), (j + dx) & (GRID - 1)
                top[y, x] = max(top[y, x], height)
    return top


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _look_up(which, means, normals, frame, top, shares):
    """Write what the points asked about get."""
    for m in range(len(which)):
        i = which[m]
        facing = _along(frame[2], normals, i)
        if facing <= 0:
            shares[m] = -np.float32(MEAN_SHARE)
            continue
        limit = _along(frame[2], means, i) + np.float32(BIAS_M) / max(facing, np.float32(STEEPEST))
        x, y = _place(frame[0], means, i), _place(frame[1], means, i)
        j, k = np.int64(np.floor(x)), np.int64(np.floor(y))
        to_x, to_y = x - np.float32(j), y - np.float32(k)
        free = np.float32(0)
        for dy in range(-1, 3):
            part_y = np.float32(1) - to_y if dy == -1 else (to_y if dy == 2 else np.float32(1))
            for dx in range(-1, 3):
                if top[(k + dy) & (GRID - 1), (j + dx) & (GRID - 1)] < limit:
                    free += part_y * (np.float32(1) - to_x if dx == -1 else (to_x if dx == 2 else np.float32(1)))
        shares[m] = facing * free / np.float32(9) - np.float32(MEAN_SHARE)
