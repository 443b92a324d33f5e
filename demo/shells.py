"""Surfaces that are cut from the body and moved off it: selection, subdivision, smoothing, hanging.

Axes: V vertices, F faces, J joints, A angles, L levels along a tube. Lengths are metres, in the rest pose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int32
from scipy import sparse
from scipy.ndimage import gaussian_filter

from demo.mesh_renderer import vertex_normals


@dataclass(frozen=True)
class Shell:
    """A piece of surface with what it needs to be posed and painted.

    Attributes:
        vertices: rest positions on this person, metres.
        base: where each vertex lies on the body below it, metres.
        paint: where it lies on the reference person (garments.py); what is painted speaks of these places.
        faces, uv: triangles and the texture coordinates of their corners.
        weights: skinning weights.
    """

    vertices: Float32[np.ndarray, "V 3"]
    base: Float32[np.ndarray, "V 3"]
    paint: Float32[np.ndarray, "V 3"]
    faces: Int32[np.ndarray, "F 3"]
    uv: Float32[np.ndarray, "F 3 2"]
    weights: Float32[np.ndarray, "V J"]


def cut_out_shell(shell: Shell, keep: np.ndarray) -> Shell:
    """The part of a surface whose faces have any vertex in `keep` [V]."""
    chosen = keep[shell.faces].any(axis=1)
    used, faces = np.unique(shell.faces[chosen], return_inverse=True)
    return Shell(
        shell.vertices[used], shell.base[used], shell.paint[used], faces.reshape(-1, 3).astype(np.int32), shell.uv[chosen],
        shell.weights[used],
    )  # fmt: skip


def subdivide(shell: Shell) -> Shell:
    """Split every triangle into four; new vertices lie in the middle of edges."""
    corners = shell.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    edges, of_corner = np.unique(np.sort(corners, axis=1), axis=0, return_inverse=True)
    middle = (len(shell.vertices) + of_corner.reshape(-1, 3)).astype(np.int32)

    def grow(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, values[edges].mean(axis=1)]).astype(np.float32)

    a, b, c = shell.faces.T
    ab, bc, ca = middle.T
    faces = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], axis=1).reshape(-1, 3)
    ua, ub, uc = shell.uv.transpose(1, 0, 2)
    uab, ubc, uca = (ua + ub) / 2, (ub + uc) / 2, (uc + ua) / 2
    uv = np.stack([ua, uab, uca, uab, ub, ubc, uca, ubc, uc, uab, ubc, uca], axis=1).reshape(-1, 3, 2)
    return Shell(grow(shell.vertices), grow(shell.base), grow(shell.paint), faces.astype(np.int32), uv.astype(np.float32), grow(shell.weights))


def neighbour_mean(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """The matrix that replaces every vertex by the mean of its neighbours."""
    i, j = faces[:, [0, 1, 2, 1, 2, 0]].ravel(), faces[:, [1, 2, 0, 0, 1, 2]].ravel()
    links = sparse.csr_matrix((np.ones(len(i), np.float32), (i, j)), (count, count))
    links.data[:] = 1
    return sparse.diags(1 / np.maximum(np.asarray(links.sum(axis=1)).ravel(), 1)).astype(np.float32) @ links


def smoothed(shell: Shell, values: np.ndarray, *, rounds: int, rate: float = 0.5, fixed: np.ndarray | None = None) -> np.ndarray:
    """Values at the vertices, moved towards their neighbours' mean again and again; `fixed` vertices stay."""
    mean = neighbour_mean(shell.faces, len(shell.vertices))
    free = np.ones(len(values), np.float32) if fixed is None else (~fixed).astype(np.float32)
    free = free.reshape(-1, *[1] * (values.ndim - 1)) * rate
    for _ in range(rounds):
        values = values + free * (mean @ values - values)
    return values.astype(np.float32)


def drape(shell: Shell, lift: np.ndarray, *, rounds: int, least: float = 0.5) -> Shell:
    """Move a shell off the body by `lift` [V] along the normal, then let it bridge hollows.

    Smoothing pulls it in on bulges, so it is kept at least `least` * lift away from the body.
    """
    normals = vertex_normals(shell.base, shell.faces)
    normals = smoothed(shell, normals, rounds=3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    vertices = shell.vertices + normals * lift[:, None]
    mean = neighbour_mean(shell.faces, len(vertices))
    border = np.zeros(len(vertices), bool)
    border[border_vertices(shell.faces)] = True
    for _ in range(rounds):
        pull = ((mean @ vertices - vertices) * normals).sum(axis=1) * ~border
        vertices = vertices + normals * (0.5 * pull)[:, None]
        height = ((vertices - shell.base) * normals).sum(axis=1)
        vertices = vertices + normals * np.maximum(0, least * lift - height)[:, None]
    return replace(shell, vertices=vertices.astype(np.float32))


def evened(shell: Shell, *, rounds: int) -> Float32[np.ndarray, "V 3"]:
    """Vertices moved in and out, never along the surface (what is painted on it would warp), until it is smooth."""
    mean, vertices = neighbour_mean(shell.faces, len(shell.vertices)), shell.vertices
    free = np.ones(len(vertices), np.float32)
    free[border_vertices(shell.faces)] = 0
    for _ in range(rounds):
        normals = vertex_normals(vertices, shell.faces)
        pull = ((mean @ vertices - vertices) * normals).sum(axis=1) * free
        vertices = vertices + normals * (0.5 * pull)[:, None]
    return vertices.astype(np.float32)


def tube_axis(points: np.ndarray, chosen: np.ndarray, *, axis: int) -> Float32[np.ndarray, "V 3"]:
    """The middle of a tube at the height of each point: halfway between its extremes in thin slices across `axis`."""
    low, high = points[chosen, axis].min(), points[chosen, axis].max()
    edges = np.linspace(low, high, 16)
    middles = []
    for start, end in zip(edges[:-1], edges[1:]):
        inside = points[chosen & (points[:, axis] >= start - 0.01) & (points[:, axis] <= end + 0.01)]
        middles.append((inside.min(axis=0) + inside.max(axis=0)) / 2)
    middles = gaussian_filter(np.array(middles), (1.0, 0), mode="nearest")
    places = (edges[:-1] + edges[1:]) / 2
    centre = np.stack([np.interp(points[:, axis], places, middles[:, a]) for a in range(3)], axis=1)
    centre[:, axis] = points[:, axis]
    return centre.astype(np.float32)


def border_vertices(faces: np.ndarray) -> np.ndarray:
    """Vertices on the open edges of a surface."""
    corners = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, count = np.unique(corners, axis=0, return_counts=True)
    return np.unique(edges[count == 1])


def hang(
    points: np.ndarray, along: np.ndarray, centre: np.ndarray, side: np.ndarray, up: np.ndarray, chosen: np.ndarray,
    *, slope: float, least: float = 0.0,
) -> Float32[np.ndarray, "V 3"]:  # fmt: skip
    """How cloth hangs around a limb: going down the tube it never comes in faster than `slope` lets it.

    Args:
        points: [V, 3].
        along: [V] how far down the tube each point lies, metres.
        centre: [V, 3] the tube's axis at each point.
        side, up: two directions [3] across the tube.
        chosen: [V] which points belong to the tube.
        slope: metres that the cloth may come in per metre down.
        least: radius under which it never goes, metres.

    Returns:
        Displacement of every point, zero outside the tube.
    """
    angles, levels = 48, 48
    offset = points - centre
    x, y = offset @ side, offset @ up
    radius, turn = np.hypot(x, y), (np.arctan2(y, x) / (2 * np.pi)) % 1.0
    low, high = along[chosen].min(), along[chosen].max()
    level = np.clip((along - low) / (high - low) * (levels - 1), 0, levels - 1)
    grid = np.zeros((levels, angles))
    np.maximum.at(grid, (level[chosen].round().astype(int), (turn[chosen] * angles).astype(int) % angles), radius[chosen])
    for _ in range(6):  # cells without a point take their neighbours' mean
        empty = grid <= 0
        if not empty.any():
            break
        around = [np.roll(grid, 1, 1), np.roll(grid, -1, 1), np.vstack([grid[:1], grid[:-1]]), np.vstack([grid[1:], grid[-1:]])]
        filled = np.sum(around, axis=0) / np.maximum(1, np.sum([g > 0 for g in around], axis=0))
        grid = np.where(empty, filled, grid)
    body = gaussian_filter(grid, (1.0, 1.0), mode=("nearest", "wrap"))
    cloth = body.copy()
    drop = slope * (high - low) / (levels - 1)
    for k in range(1, levels):
        cloth[k] = np.maximum(np.maximum(body[k], least), cloth[k - 1] - drop)
    out = gaussian_filter(cloth - body, (1.5, 2.0), mode=("nearest", "wrap"))
    column = (turn * angles) % angles
    i0, j0 = np.floor(level).astype(int), np.floor(column).astype(int) % angles
    i1, j1 = np.minimum(i0 + 1, levels - 1), (j0 + 1) % angles
    fi, fj = level - np.floor(level), column - np.floor(column)
    move = (1 - fi) * ((1 - fj) * out[i0, j0] + fj * out[i0, j1]) + fi * ((1 - fj) * out[i1, j0] + fj * out[i1, j1])
    move = np.where(chosen, np.maximum(move, 0), 0)
    return (offset / np.maximum(radius, 1e-6)[:, None] * move[:, None]).astype(np.float32)
