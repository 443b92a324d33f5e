"""Draws textured triangles: which triangle each sample of a picture sees, and where on it.

A plain z-buffer over numba, not splatting: pictures made here owe nothing to the renderer that the avatar is trained with.

Axes: V vertices, F faces, M materials, H x W pixels, S samples along a pixel's side. Lengths are metres. Sample (i, j) of a
picture with S samples a side lies at pixel ((j + 0.5) / S, (i + 0.5) / S), OpenCV camera axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, UInt8

NEAR = 0.05  # m; a triangle that reaches nearer to the camera is not drawn
BANDS = 32  # strips of rows that are drawn in parallel
CUTOUT = 128  # texels with less alpha than this are holes


@dataclass(frozen=True)
class View:
    """One pinhole camera.

    Attributes:
        K: intrinsics, px.
        w2c: world to camera, metres.
        width, height: picture size, px.
    """

    K: Float64[np.ndarray, "3 3"]
    w2c: Float64[np.ndarray, "4 4"]
    width: int
    height: int

    def to_camera(self, points_world: np.ndarray) -> np.ndarray:
        """Carry world points into the camera's axes, metres."""
        return points_world @ self.w2c[:3, :3].T + self.w2c[:3, 3]

    def project(self, points_world: np.ndarray) -> np.ndarray:
        """Project world points to pixels."""
        points = self.to_camera(points_world)
        return points[..., :2] / points[..., 2:] * np.diag(self.K)[:2] + self.K[:2, 2]

    def crop(self, x0: int, y0: int, width: int, height: int) -> View:
        """The same view restricted to a window whose top left pixel is (x0, y0)."""
        K = self.K.copy()
        K[0, 2] -= x0
        K[1, 2] -= y0
        return View(K, self.w2c, width, height)

    @property
    def position(self) -> Float64[np.ndarray, "3"]:
        """The camera's centre in the world, metres."""
        return -self.w2c[:3, :3].T @ self.w2c[:3, 3]


@dataclass(frozen=True)
class Skin:
    """What does not change when a mesh moves: its triangles and their pictures.

    Attributes:
        faces: vertex indices.
        uv: texture coordinates of each corner, 0..1, v downwards (row 0 of a texture lies at v = 0).
        material: which texture each face wears.
        textures: sRGB colour and alpha of each material; alpha under one half is a hole.
        has_holes: whether a material has any hole.
    """

    faces: Int32[np.ndarray, "F 3"]
    uv: Float32[np.ndarray, "F 3 2"]
    material: Int32[np.ndarray, "F"]
    textures: UInt8[np.ndarray, "M T T 4"]
    has_holes: Bool[np.ndarray, "M"]


@dataclass(frozen=True)
class Visible:
    """What each sample sees: a face (or -1) and the inverse of its camera depth (0 where nothing is)."""

    face: Int32[np.ndarray, "SH SW"]
    inverse_depth: Float32[np.ndarray, "SH SW"]


def look_at(eye: np.ndarray, target: np.ndarray) -> Float64[np.ndarray, "4 4"]:
    """World-to-camera of an upright camera at `eye` that looks at `target`; the world's y points up."""
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    w2c = np.eye(4)
    w2c[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    w2c[:3, 3] = -w2c[:3, :3] @ eye
    return w2c


def visible_faces(vertices: np.ndarray, skin: Skin, view: View, samples: int) -> Visible:
    """Find the nearest face behind every sample of a picture.

    Args:
        vertices: [V, 3] in the world, metres.
        samples: S, samples along the side of a pixel.
    """
    points = view.to_camera(vertices)
    inverse_depth = (1.0 / np.where(points[:, 2] > NEAR, points[:, 2], np.nan)).astype(np.float32)
    xy = (points[:, :2] * inverse_depth[:, None] * np.diag(view.K)[:2] + view.K[:2, 2]) * samples
    shape = (view.height * samples, view.width * samples)
    face, nearness = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    _draw(xy.astype(np.float32), inverse_depth, skin.faces, skin.uv, skin.material, skin.textures, skin.has_holes, face, nearness)
    return Visible(face, nearness)


def depth_maps(points: np.ndarray, faces: np.ndarray, size: int) -> Float32[np.ndarray, "D size size"]:
    """Depth of the nearest triangle along parallel rays, from D directions; infinity where none is.

    Args:
        points: [D, V, 3]: x and y in pixels of each map, z the depth along the ray, metres.
    """
    depth = np.full((len(points), size, size), np.inf, np.float32)
    _draw_depth(points.astype(np.float32), faces, depth)
    return depth


def paint_layout(uv: np.ndarray, size: int) -> tuple[Int32[np.ndarray, "T T"], Float32[np.ndarray, "T T 3"]]:
    """Which face covers each texel of a UV layout, and where on it (barycentric); -1 where none does."""
    flat = np.ascontiguousarray(uv.reshape(-1, 2) * size, dtype=np.float32)
    faces = np.arange(len(flat), dtype=np.int32).reshape(-1, 3)
    nothing = np.zeros((1, 1, 1, 4), np.uint8)
    face, nearness = np.full((size, size), -1, np.int32), np.zeros((size, size), np.float32)
    ones = np.ones(len(flat), np.float32)
    _draw(flat, ones, faces, uv.astype(np.float32), np.zeros(len(faces), np.int32), nothing, np.zeros(1, bool), face, nearness)
    weights = np.zeros((size, size, 3), np.float32)
    _layout_weights(flat, face, weights)
    return face, weights


@numba.njit(cache=True, inline="always")
def corner_weights(ax, ay, bx, by, cx, cy, px, py):
    """Barycentric weights of a point in the triangle a b c on the picture plane; a flat triangle gives -1."""
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if abs(area) < 1e-12:
        return -1.0, -1.0, -1.0
    wb = ((px - ax) * (cy - ay) - (cx - ax) * (py - ay)) / area
    wc = ((bx - ax) * (py - ay) - (px - ax) * (by - ay)) / area
    return 1.0 - wb - wc, wb, wc


@numba.njit(cache=True, inline="always")
def perspective_weights(wa, wb, wc, ia, ib, ic):
    """Weights on the triangle itself from weights on the picture plane and the corners' inverse depths."""
    total = wa * ia + wb * ib + wc * ic
    return wa * ia / total, wb * ib / total, wc * ic / total


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _draw(xy, inverse_depth, faces, uv, material, textures, has_holes, face_out, nearness):
    rows, columns = face_out.shape
    size = textures.shape[1]
    for turn in numba.prange(BANDS):
        # neighbouring turns draw distant strips, so that each thread gets its share of the person
        band = (turn * 2) % BANDS + (turn * 2) // BANDS
        first, last = band * rows // BANDS, (band + 1) * rows // BANDS
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ay, by, cy = xy[a, 1], xy[b, 1], xy[c, 1]
            low, high = min(ay, min(by, cy)), max(ay, max(by, cy))
            if not (high >= first and low <= last):
                continue
            ax, bx, cx = xy[a, 0], xy[b, 0], xy[c, 0]
            left, right = min(ax, min(bx, cx)), max(ax, max(bx, cx))
            ia, ib, ic = inverse_depth[a], inverse_depth[b], inverse_depth[c]
            if not (ia > 0 and ib > 0 and ic > 0) or right < 0 or left > columns:
                continue
            i0, i1 = max(first, int(np.ceil(low - 0.5))), min(last - 1, int(np.floor(high - 0.5)))
            j0, j1 = max(0, int(np.ceil(left - 0.5))), min(columns - 1, int(np.floor(right - 0.5)))
            for i in range(i0, i1 + 1):
                for j in range(j0, j1 + 1):
                    wa, wb, wc = corner_weights(ax, ay, bx, by, cx, cy, j + 0.5, i + 0.5)
                    if wa < 0 or wb < 0 or wc < 0:
                        continue
                    near = wa * ia + wb * ib + wc * ic
                    if near <= nearness[i, j]:
                        continue
                    m = material[f]
                    if has_holes[m]:
                        pa, pb, pc = perspective_weights(wa, wb, wc, ia, ib, ic)
                        u = pa * uv[f, 0, 0] + pb * uv[f, 1, 0] + pc * uv[f, 2, 0]
                        v = pa * uv[f, 0, 1] + pb * uv[f, 1, 1] + pc * uv[f, 2, 1]
                        ti = min(size - 1, max(0, int(v * size)))
                        tj = min(size - 1, max(0, int(u * size)))
                        if textures[m, ti, tj, 3] < CUTOUT:
                            continue
                    nearness[i, j] = near
                    face_out[i, j] = f


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _draw_depth(points, faces, depth):
    maps, size = depth.shape[0], depth.shape[1]
    strips = 2 if maps == 1 else 1
    for turn in numba.prange(maps * strips):
        d, strip = turn // strips, turn % strips
        first, last = strip * size // strips, (strip + 1) * size // strips
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, bx, cx = points[d, a, 0], points[d, b, 0], points[d, c, 0]
            ay, by, cy = points[d, a, 1], points[d, b, 1], points[d, c, 1]
            i0 = max(first, int(np.ceil(min(ay, min(by, cy)) - 0.5)))
            i1 = min(last - 1, int(np.floor(max(ay, max(by, cy)) - 0.5)))
            j0 = max(0, int(np.ceil(min(ax, min(bx, cx)) - 0.5)))
            j1 = min(size - 1, int(np.floor(max(ax, max(bx, cx)) - 0.5)))
            if i0 > i1 or j0 > j1:
                continue
            az, bz, cz = points[d, a, 2], points[d, b, 2], points[d, c, 2]
            for i in range(i0, i1 + 1):
                for j in range(j0, j1 + 1):
                    wa, wb, wc = corner_weights(ax, ay, bx, by, cx, cy, j + 0.5, i + 0.5)
                    if wa >= 0 and wb >= 0 and wc >= 0:
                        z = wa * az + wb * bz + wc * cz
                        if z < depth[d, i, j]:
                            depth[d, i, j] = z


@numba.njit(cache=True, parallel=True)
def _layout_weights(flat, face, weights):
    for i in numba.prange(face.shape[0]):
        for j in range(face.shape[1]):
            f = face[i, j]
            if f >= 0:
                a, b, c = 3 * f, 3 * f + 1, 3 * f + 2
                weights[i, j] = corner_weights(
                    flat[a, 0], flat[a, 1], flat[b, 0], flat[b, 1], flat[c, 0], flat[c, 1], j + 0.5, i + 0.5
                )


@numba.njit(cache=True)
def vertex_normals(vertices, faces):
    """Unit normals of the vertices: mean of their faces', weighted by area."""
    normals = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (a, b, c):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(len(normals)):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + 1e-12
        normals[v] /= length
    return normals
