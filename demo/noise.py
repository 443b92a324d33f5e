"""Repeatable roughness: value noise over space, the raw material of every painted surface.

Axes: N points. Noise lies in -1..1 and has no period that a picture would show.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float32


@numba.njit(cache=True, inline="always")
def lattice(i, j, k, seed):
    """A number in 0..1 that belongs to a lattice point."""
    h = (i * 73856093) ^ (j * 19349663) ^ (k * 83492791) ^ (seed * 374761393)
    h = (h ^ (h >> 13)) * 1274126177
    h = h & 0x7FFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0x7FFFFFFF
    return (h ^ (h >> 16)) / 2147483648.0


@numba.njit(cache=True)
def noise_at(x, y, z, seed):
    """Smooth noise at one point, -1..1."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                weight = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
                total += weight * lattice(i + a, j + b, k + c, seed)
    return 2 * total - 1


@numba.njit(cache=True)
def layers_at(x, y, z, octaves, seed):
    """Noise with finer layers of half the strength on top, about -1..1."""
    total, strength, norm = 0.0, 1.0, 0.0
    for octave in range(octaves):
        total += strength * noise_at(x, y, z, seed + octave)
        norm += strength
        strength *= 0.5
        x, y, z = 2.03 * x + 11.7, 2.03 * y + 5.3, 2.03 * z + 3.1
    return total / norm


@numba.njit(cache=True, parallel=True)
def _layered(points, octaves, seed):
    out = np.empty(len(points), np.float32)
    for n in numba.prange(len(points)):
        out[n] = layers_at(points[n, 0], points[n, 1], points[n, 2], octaves, seed)
    return out


def layered_noise(points: np.ndarray, wavelength: float | tuple[float, float, float], octaves: int, seed: int) -> Float32[np.ndarray, "N"]:
    """Noise at points [N, 3] whose coarsest features are `wavelength` metres wide (one width, or one per axis)."""
    return _layered(np.ascontiguousarray(points / np.asarray(wavelength), dtype=np.float64), octaves, seed)
