"""Padding of UV maps: what a convolution should see beyond the border of a chart.

A texel outside every chart copies a texel inside one. Close to a seam it copies the surface that really lies there: the
one on the other side of the mesh edge that the layout cut. Farther away the nearest texel of a chart is as good as any.

Axes: F faces, U texture coordinates, R texels per side, M texels inside charts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from model.uv.bake import TexelSamples


def padding_sources(
    faces: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "U 2"],
    uv_faces: Int[np.ndarray, "F 3"],
    samples: TexelSamples,
    resolution: int,
    *,
    reach: float = 6.0,
) -> Int[np.ndarray, "R*R"]:
    """For every texel of the map, which sample to copy: its own inside a chart, a neighbour outside.

    Args:
        faces, uv_faces: the same faces by vertices and by texture coordinates.
        samples: the texels inside charts, from rasterise_layout at the same resolution.
        reach: how far from a seam the other side of it is followed, texels.
    """
    source = np.full(resolution * resolution, -1)
    source[samples.texel] = np.arange(len(samples.texel))
    outside = np.flatnonzero(source < 0)
    if not len(outside):
        return source
    rows, columns = np.divmod(outside, resolution)
    points = np.stack([columns + 0.5, rows + 0.5], axis=1) / resolution
    inside = cKDTree(samples.uv)
    source[outside] = inside.query(points)[1]

    here, there = seam_edges(faces, uv, uv_faces)
    if not len(here):
        return source
    steps = np.linspace(0.0, 1.0, 9)
    along = (here[:, :1] * (1 - steps)[None, :, None] + here[:, 1:] * steps[None, :, None]).reshape(-1, 2)
    distance, nearest = cKDTree(along).query(points, distance_upper_bound=reach / resolution)
    near = np.flatnonzero(np.isfinite(distance))
    edge = nearest[near] // len(steps)
    across = _cross(points[near], here[edge], there[edge])
    gap, landed = inside.query(across)
    good = gap < 1.5 / resolution  # the other chart may be too thin to be entered that far
    source[outside[near[good]]] = landed[good]
    return source


def seam_edges(
    faces: Int[np.ndarray, "F 3"], uv: Float[np.ndarray, "U 2"], uv_faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "E 2 2"], Float[np.ndarray, "E 2 2"]]:
    """Edges that the layout cut: their two ends on this side of the cut, and the same two ends on the other side.

    On both sides the chart lies to the same hand when going from the first end to the second on this side and from the
    second to the first on the other, as in any consistently oriented mesh.
    """
    corner = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    corner_uv = np.concatenate([uv_faces[:, [0, 1]], uv_faces[:, [1, 2]], uv_faces[:, [2, 0]]])
    num_vertices = int(faces.max()) + 1
    key = corner[:, 0] * num_vertices + corner[:, 1]
    twin_key = corner[:, 1] * num_vertices + corner[:, 0]
    order = np.argsort(key)
    position = np.minimum(np.searchsorted(key[order], twin_key), len(key) - 1)
    twin = order[position]
    paired = key[twin] == twin_key
    cut = paired & ((uv[corner_uv[:, 0]] != uv[corner_uv[twin, 1]]).any(1) | (uv[corner_uv[:, 1]] != uv[corner_uv[twin, 0]]).any(1))
    return uv[corner_uv[cut]], uv[corner_uv[twin[cut]][:, ::-1]]


def _cross(points: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Carry points beyond `here` into the chart behind `there`: the similarity that maps one edge to the other."""
    z = points[:, 0] + 1j * points[:, 1]
    a, b = (here[:, k, 0] + 1j * here[:, k, 1] for k in (0, 1))
    c, d = (there[:, k, 0] + 1j * there[:, k, 1] for k in (0, 1))
    length = np.where(np.abs(b - a) > 0, b - a, 1)
    w = c + (d - c) * (z - a) / length
    return np.stack([w.real, w.imag], axis=1)
