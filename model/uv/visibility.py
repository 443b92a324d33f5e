"""Which faces of a closed mesh can be seen from outside at all.

Axes: V vertices, F faces, D viewing directions.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

PICTURE_SIDE = 768  # px; a 2 m body gets 3 mm pixels, so a nostril is found and a closed mouth is not entered


def seen_from_outside(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], *, num_directions: int = 48
) -> Bool[np.ndarray, "F"]:
    """Look at the mesh from all around, orthographically, and mark each face that wins a pixel from its front.

    A face thinner than a pixel may win none; the faces around a seen vertex therefore count as seen too.
    """
    seen = np.zeros(len(faces), bool)
    centred = vertices - (vertices.min(0) + vertices.max(0)) / 2
    scale = PICTURE_SIDE / (2.02 * np.linalg.norm(centred, axis=1).max())
    for direction in sphere_directions(num_directions):
        right = np.cross(direction, [0.0, 0.0, 1.0] if abs(direction[2]) < 0.9 else [1.0, 0.0, 0.0])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(direction, right), direction])
        points = centred @ axes.T
        points[:, :2] = points[:, :2] * scale + PICTURE_SIDE / 2
        _mark_front(points, faces, PICTURE_SIDE, seen)
    touched = np.zeros(len(vertices), bool)
    touched[faces[seen].ravel()] = True
    return touched[faces].any(1)


def sphere_directions(count: int) -> Float[np.ndarray, "D 3"]:
    """Directions spread evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


@numba.njit(cache=True)
def _mark_front(points, faces, side, seen):
    """Z-buffer the mesh (nearest is smallest z) and mark the winners that turn their outside to the viewer."""
    nearest = np.full((side, side), np.inf)
    winner = np.full((side, side), -1, np.int64)
    for f in range(faces.shape[0]):
        ax, ay, az = points[faces[f, 0]]
        bx, by, bz = points[faces[f, 1]]
        cx, cy, cz = points[faces[f, 2]]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        for i in range(max(int(np.ceil(min(ay, by, cy) - 0.5)), 0), min(int(np.floor(max(ay, by, cy) - 0.5)), side - 1) + 1):
            for j in range(max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0), min(int(np.floor(max(ax, bx, cx) - 0.5)), side - 1) + 1):
                wa = ((bx - j - 0.5) * (cy - i - 0.5) - (by - i - 0.5) * (cx - j - 0.5)) / area
                wb = ((cx - j - 0.5) * (ay - i - 0.5) - (cy - i - 0.5) * (ax - j - 0.5)) / area
                wc = 1.0 - wa - wb
                if wa >= 0 and wb >= 0 and wc >= 0:
                    z = wa * az + wb * bz + wc * cz
                    if z < nearest[i, j]:
                        nearest[i, j] = z
                        winner[i, j] = f if area < 0 else -1
    for i in range(side):
        for j in range(side):
            if winner[i, j] >= 0:
                seen[winner[i, j]] = True
