"""Barycentric rasterisation of a UV layout: which point of the surface each texel shows.

Axes: F faces, U texture coordinates, N texels that lie in a chart. A texel (row i, column j) of a map with R x R texels
has its centre at uv = ((j + 0.5) / R, (i + 0.5) / R).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class TexelSamples:
    """Points on a mesh, given by the texels of its UV layout.

    Attributes:
        texel: row * R + column of each texel.
        uv: texture coordinates of the texel's centre.
        face: which face it lies in.
        barycentric: where in that face.
    """

    texel: Int[np.ndarray, "N"]
    uv: Float[np.ndarray, "N 2"]
    face: Int[np.ndarray, "N"]
    barycentric: Float[np.ndarray, "N 3"]


def rasterise_layout(
    uv: Float[np.ndarray, "U 2"], uv_faces: Int[np.ndarray, "F 3"], resolution: int, *, keep_face: np.ndarray | None = None
) -> TexelSamples:
    """Find the face and the barycentric coordinates of every texel whose centre lies in a chart.

    Args:
        uv: texture coordinates, 0..1.
        uv_faces: corners of each face as rows of `uv`.
        resolution: texels per side.
        keep_face: boolean per face; faces that are not kept get no texel. None keeps all.

    Returns:
        One sample a covered texel, in row-major order. Where faces overlap the first one wins.
    """
    corners = np.ascontiguousarray(uv[uv_faces], dtype=np.float64)
    keep = np.ones(len(uv_faces), bool) if keep_face is None else np.asarray(keep_face, bool)
    face_map, weights = _rasterise(corners, keep, resolution)
    texel = np.flatnonzero(face_map.ravel() >= 0)
    rows, columns = np.divmod(texel, resolution)
    centres = np.stack([columns + 0.5, rows + 0.5], axis=1) / resolution
    return TexelSamples(texel, centres, face_map.ravel()[texel], weights.reshape(-1, 3)[texel])


def interpolate(values: np.ndarray, faces: Int[np.ndarray, "F 3"], samples: TexelSamples) -> np.ndarray:
    """Values at the samples from values at the vertices: [V, C] -> [N, C]."""
    return np.einsum("nk,nkc->nc", samples.barycentric, values[faces[samples.face]])


def texel_spacing(
    vertices: Float[np.ndarray, "V 3"], faces: np.ndarray, uv: np.ndarray, uv_faces: np.ndarray, samples: TexelSamples, resolution: int
) -> Float[np.ndarray, "N"]:
    """Distance on the surface from a texel to its neighbour along the more stretched direction, metres.

    With J = dX/d(u, v), a 3 x 2 matrix constant in a face, it is the larger singular value of J divided by R.
    """
    X, T = vertices[faces], uv[uv_faces]
    edges_x = np.stack([X[:, 1] - X[:, 0], X[:, 2] - X[:, 0]], axis=2)  # [F, 3, 2]
    edges_t = np.stack([T[:, 1] - T[:, 0], T[:, 2] - T[:, 0]], axis=2)  # [F, 2, 2]
    used = np.unique(samples.face)
    determinant = edges_t[used, 0, 0] * edges_t[used, 1, 1] - edges_t[used, 0, 1] * edges_t[used, 1, 0]
    sound = np.abs(determinant) > 1e-14  # a sliver in the layout has no Jacobian; the median stands in for it
    if not sound.any():
        return np.zeros(len(samples.face))
    larger = np.linalg.svd(edges_x[used[sound]] @ np.linalg.inv(edges_t[used[sound]]), compute_uv=False)[:, 0]
    stretch = np.full(len(faces), np.median(larger))
    stretch[used[sound]] = np.minimum(larger, 4 * np.median(larger))
    return stretch[samples.face] / resolution


@numba.njit(cache=True)
def _rasterise(corners, keep, resolution):
    face_map = np.full((resolution, resolution), -1, np.int64)
    weights = np.zeros((resolution, resolution, 3))
    for f in range(corners.shape[0]):
        if not keep[f]:
            continue
        ax, ay = corners[f, 0, 0] * resolution, corners[f, 0, 1] * resolution
        bx, by = corners[f, 1, 0] * resolution, corners[f, 1, 1] * resolution
        cx, cy = corners[f, 2, 0] * resolution, corners[f, 2, 1] * resolution
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        x0 = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - 0.5)), resolution - 1)
        y0 = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        y1 = min(int(np.floor(max(ay, by, cy) - 0.5)), resolution - 1)
        for i in range(y0, y1 + 1):
            for j in range(x0, x1 + 1):
                if face_map[i, j] >= 0:
                    continue
                px, py = j + 0.5, i + 0.5
                wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                wc = 1.0 - wa - wb
                if wa >= -1e-9 and wb >= -1e-9 and wc >= -1e-9:
                    face_map[i, j] = f
                    weights[i, j, 0], weights[i, j, 1], weights[i, j, 2] = wa, wb, wc
    return face_map, weights
