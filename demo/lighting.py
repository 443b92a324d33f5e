"""Light that is fixed in the world, and the colour it gives to what a camera sees.

A key light (the sun behind thin cloud) with a soft shadow, a sky that is brighter on one side, and a warm bounce from the
ground. How much of the sky a point sees is measured with depth maps from many directions, so limbs darken what they
cover in every pose. All colours here are linear light.

Axes: V vertices, F faces, M materials, D directions, H x W pixels. Lengths are metres, the world's y points up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float32

from demo.mesh_renderer import Skin, View, Visible, depth_maps

KEY_MAP = 1024  # texels along the side of the key light's depth map
SKY_MAP = 160
SKY_DIRECTIONS = 14
SHADOW_TAPS = 12
SHADOW_BIAS = 0.012  # m, along the normal and towards the light, so that a surface does not shade itself
SKY_BIAS = 0.022


@dataclass(frozen=True)
class Light:
    """The light of one scene.

    Attributes:
        to_key: unit direction towards the key light.
        key: its colour times strength.
        key_size: its apparent radius, rad: how fast shadows soften with distance.
        ambient: light from all around.
        ambient_x, ambient_y, ambient_z: how it changes with the normal (linear in it).
    """

    to_key: Float32[np.ndarray, "3"]
    key: Float32[np.ndarray, "3"]
    key_size: float
    ambient: Float32[np.ndarray, "3"]
    ambient_x: Float32[np.ndarray, "3"]
    ambient_y: Float32[np.ndarray, "3"]
    ambient_z: Float32[np.ndarray, "3"]

    @property
    def ambient_terms(self) -> Float32[np.ndarray, "4 3"]:
        """The low-order ambient light as one table: constant, x, y, z."""
        return np.stack([self.ambient, self.ambient_x, self.ambient_y, self.ambient_z]).astype(np.float32)


@dataclass(frozen=True)
class Shadow:
    """Depth along parallel rays from one direction.

    Attributes:
        depth: distance along the ray of what the light meets first, metres.
        rays: world point (homogeneous) to (column, row, depth): px, px, metres.
    """

    depth: Float32[np.ndarray, "size size"]
    rays: Float32[np.ndarray, "3 4"]


def cast(vertices: np.ndarray, faces: np.ndarray, to_light: np.ndarray, *, centre: np.ndarray, radius: float, size: int) -> Shadow:
    """Draw the depth map that a far light sees of everything within `radius` of `centre`."""
    rays = _rays(to_light, centre, radius, size)
    return Shadow(depth_maps((vertices @ rays[:, :3].T + rays[:, 3])[None], faces, size)[0], rays)


def cast_all(vertices: np.ndarray, faces: np.ndarray, to_lights: np.ndarray, *, centre: np.ndarray, radius: float, size: int) -> list[Shadow]:
    """The same for many lights at once."""
    rays = [_rays(to_light, centre, radius, size) for to_light in to_lights]
    depths = depth_maps(np.stack([vertices @ r[:, :3].T + r[:, 3] for r in rays]), faces, size)
    return [Shadow(depth, r) for depth, r in zip(depths, rays)]


def _rays(to_light: np.ndarray, centre: np.ndarray, radius: float, size: int) -> Float32[np.ndarray, "3 4"]:
    """World point to column, row and depth of a far light's map."""
    across = np.cross([0.0, 1.0, 0.0] if abs(to_light[1]) < 0.95 else [1.0, 0.0, 0.0], to_light)
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(to_light, across), -np.asarray(to_light)])
    scale = np.array([size / (2 * radius)] * 2 + [1.0])
    rays = np.concatenate([axes * scale[:, None], (np.array([size / 2, size / 2, 0]) - scale * (axes @ centre))[:, None]], axis=1)
    return rays.astype(np.float32)


def sky_directions(count: int = SKY_DIRECTIONS) -> Float32[np.ndarray, "D 3"]:
    """Directions spread evenly over the upper hemisphere and a little below the horizon (a golden spiral)."""
    k = np.arange(count) + 0.5
    y = 1.0 - k / count * 1.25
    turn = k * np.pi * (3 - np.sqrt(5))
    side = np.sqrt(np.maximum(0.0, 1 - y * y))
    return np.stack([side * np.cos(turn), y, side * np.sin(turn)], axis=1).astype(np.float32)


def sky_visibility(
    points: np.ndarray, normals: np.ndarray, shadows: list[Shadow], directions: np.ndarray
) -> Float32[np.ndarray, "V"]:
    """The share of the light from all around that reaches points: cosine-weighted, 0 closed in, 1 open."""
    depths = np.stack([shadow.depth for shadow in shadows])
    rays = np.stack([shadow.rays for shadow in shadows])
    return _sky_visibility(points.astype(np.float32), normals.astype(np.float32), depths, rays, directions)


@numba.njit(cache=True, parallel=True, fastmath={"nsz", "arcp", "contract"})
def _sky_visibility(points, normals, depths, rays, directions):
    size = depths.shape[1]
    share = np.empty(len(points), np.float32)
    for v in numba.prange(len(points)):
        reached, whole = 0.0, 1e-6
        x = points[v, 0] + SKY_BIAS * normals[v, 0]
        y = points[v, 1] + SKY_BIAS * normals[v, 1]
        z = points[v, 2] + SKY_BIAS * normals[v, 2]
        for d in range(len(directions)):
            facing = normals[v, 0] * directions[d, 0] + normals[v, 1] * directions[d, 1] + normals[v, 2] * directions[d, 2]
            weight = max(0.0, facing + 0.15)
            if weight <= 0:
                continue
            whole += weight
            u = rays[d, 0, 0] * x + rays[d, 0, 1] * y + rays[d, 0, 2] * z + rays[d, 0, 3] - 0.5
            w = rays[d, 1, 0] * x + rays[d, 1, 1] * y + rays[d, 1, 2] * z + rays[d, 1, 3] - 0.5
            depth = rays[d, 2, 0] * x + rays[d, 2, 1] * y + rays[d, 2, 2] * z + rays[d, 2, 3]
            j, i = int(np.floor(u)), int(np.floor(w))
            if i < 0 or j < 0 or i >= size - 1 or j >= size - 1:
                reached += weight
                continue
            fu, fw = u - j, w - i
            lit = 0.0
            for di in range(2):
                for dj in range(2):
                    share_of = (fu if dj else 1 - fu) * (fw if di else 1 - fw)
                    behind = depth - depths[d, i + di, j + dj]
                    lit += share_of * min(1.0, max(0.0, 1.0 - (behind - 0.01) / 0.03))
            reached += weight * lit
        share[v] = reached / whole
    return share


@numba.njit(cache=True, inline="always")
def _hash_turn(i, j):
    """An angle that looks random from pixel to pixel (interleaved gradient noise, Jimenez 2014)."""
    a = 0.06711056 * j + 0.00583715 * i
    b = 52.9829189 * (a - np.floor(a))
    return 2 * np.pi * (b - np.floor(b))


def _sunflower(count: int) -> np.ndarray:
    """Points spread evenly over the unit disk."""
    k = np.arange(count)
    radius, angle = np.sqrt((k + 0.5) / count), k * np.pi * (3 - np.sqrt(5))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


SEARCH_POINTS, SHADOW_POINTS = _sunflower(8), _sunflower(SHADOW_TAPS)


@numba.njit(cache=True, fastmath={"nsz", "arcp", "contract"})
def key_share(x, y, z, depth_map_, rays, key_size, turn):
    """The share of the key light that reaches a point: percentage-closer soft shadow (Fernando 2005)."""
    cosine, sine = np.cos(turn), np.sin(turn)
    size = depth_map_.shape[0]
    texels = np.sqrt(rays[0, 0] ** 2 + rays[0, 1] ** 2 + rays[0, 2] ** 2)  # a metre in texels
    u = rays[0, 0] * x + rays[0, 1] * y + rays[0, 2] * z + rays[0, 3]
    w = rays[1, 0] * x + rays[1, 1] * y + rays[1, 2] * z + rays[1, 3]
    depth = rays[2, 0] * x + rays[2, 1] * y + rays[2, 2] * z + rays[2, 3]
    gap, found = 0.0, 0
    reach = 0.07 * texels
    for k in range(8):
        du, dw = SEARCH_POINTS[k, 0], SEARCH_POINTS[k, 1]
        j, i = int(u + reach * (cosine * du - sine * dw)), int(w + reach * (sine * du + cosine * dw))
        if 0 <= i < size and 0 <= j < size and depth_map_[i, j] < depth:
            gap += depth - depth_map_[i, j]
            found += 1
    if found == 0:
        return 1.0
    spread = min(0.12, max(0.004, key_size * gap / found)) * texels
    lit = 0.0
    for k in range(SHADOW_TAPS):
        du, dw = SHADOW_POINTS[k, 0], SHADOW_POINTS[k, 1]
        j, i = int(u + spread * (cosine * du - sine * dw)), int(w + spread * (sine * du + cosine * dw))
        if not (0 <= i < size and 0 <= j < size) or depth_map_[i, j] >= depth:
            lit += 1.0
    return lit / SHADOW_TAPS


@numba.njit(cache=True, parallel=True)
def ground_light(points, depth_map_, rays, key_size):
    """Share of the key light at ground points [N, 3]."""
    share = np.empty(len(points), np.float32)
    for n in numba.prange(len(points)):
        share[n] = key_share(points[n, 0], points[n, 1] + 0.003, points[n, 2], depth_map_, rays, key_size, _hash_turn(n, n * 7))
    return share


@dataclass(frozen=True)
class Lit:
    """A mesh at one moment with the light that reaches it.

    Attributes:
        vertices, normals: world, metres and unit.
        sky_share: share of the ambient light at each vertex.
        shadow: the key light's depth map.
    """

    vertices: Float32[np.ndarray, "V 3"]
    normals: Float32[np.ndarray, "V 3"]
    sky_share: Float32[np.ndarray, "V"]
    shadow: Shadow


def shade(
    visible: Visible, lit: Lit, skin: Skin, gloss: Float32[np.ndarray, "M 4"], light: Light, view: View, samples: int
) -> tuple[Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """Light every sample and average them into pixels.

    Args:
        gloss: of each material: strength of the highlight, its sharpness (Blinn exponent), how far light wraps around
            (skin), brightening towards grazing (cloth fuzz).

    Returns:
        Linear colour times alpha, and alpha (the share of each pixel that the mesh covers).
    """
    to_world = np.linalg.inv(view.w2c)
    return _shade(
        visible.face, visible.inverse_depth, lit.vertices, lit.normals, lit.sky_share, skin.faces, skin.uv, skin.material,
        skin.textures, gloss.astype(np.float32), light.to_key.astype(np.float32), light.key.astype(np.float32),
        light.ambient_terms, np.float32(light.key_size), lit.shadow.depth, lit.shadow.rays,
        np.array([view.K[0, 0], view.K[1, 1], view.K[0, 2], view.K[1, 2]], np.float32), to_world.astype(np.float32),
        view.w2c.astype(np.float32), samples,
    )  # fmt: skip


@numba.njit(cache=True)
def srgb_table():
    """Linear light of the 256 levels of an 8-bit picture."""
    table = np.empty(256, np.float32)
    for k in range(256):
        s = k / 255
        table[k] = s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4
    return table


@numba.njit(cache=True, parallel=True, fastmath={"nsz", "arcp", "contract"}, error_model="numpy")
def _shade(
    face_of, inverse_depth, vertices, normals, sky_share, faces, uv, material, textures, gloss, to_key, key, ambient, key_size,
    shadow, rays, intrinsics, to_world, w2c, samples,
):  # fmt: skip
    height, width = face_of.shape[0] // samples, face_of.shape[1] // samples
    image, alpha = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    decode = srgb_table()
    size = textures.shape[1]
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    for turn in numba.prange(height):
        row = (turn * 2) % height if height % 2 else (turn * 2) % height + (turn * 2) // height
        for column in range(width):
            red, green, blue, count = 0.0, 0.0, 0.0, 0
            for si in range(samples):
                for sj in range(samples):
                    i, j = row * samples + si, column * samples + sj
                    f = face_of[i, j]
                    if f < 0:
                        continue
                    count += 1
                    z = 1 / inverse_depth[i, j]
                    xc, yc = ((j + 0.5) / samples - cx) / fx * z, ((i + 0.5) / samples - cy) / fy * z
                    px = to_world[0, 0] * xc + to_world[0, 1] * yc + to_world[0, 2] * z + to_world[0, 3]
                    py = to_world[1, 0] * xc + to_world[1, 1] * yc + to_world[1, 2] * z + to_world[1, 3]
                    pz = to_world[2, 0] * xc + to_world[2, 1] * yc + to_world[2, 2] * z + to_world[2, 3]
                    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                    # weights of the world point on its triangle, on the plane of its two largest axes
                    e1x, e1y, e1z = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
                    e2x, e2y, e2z = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
                    dx, dy, dz = px - vertices[a, 0], py - vertices[a, 1], pz - vertices[a, 2]
                    d11, d12, d22 = e1x * e1x + e1y * e1y + e1z * e1z, e1x * e2x + e1y * e2y + e1z * e2z, e2x * e2x + e2y * e2y + e2z * e2z
                    p1, p2 = dx * e1x + dy * e1y + dz * e1z, dx * e2x + dy * e2y + dz * e2z
                    area = d11 * d22 - d12 * d12 + 1e-20
                    wb = min(1.0, max(0.0, (d22 * p1 - d12 * p2) / area))
                    wc = min(1.0 - wb, max(0.0, (d11 * p2 - d12 * p1) / area))
                    wa = 1.0 - wb - wc
                    nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
                    ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
                    nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
                    vx, vy, vz = to_world[0, 3] - px, to_world[1, 3] - py, to_world[2, 3] - pz
                    away = 1 / np.sqrt(vx * vx + vy * vy + vz * vz)
                    vx, vy, vz = vx * away, vy * away, vz * away
                    gx, gy, gz = e1y * e2z - e1z * e2y, e1z * e2x - e1x * e2z, e1x * e2y - e1y * e2x
                    inside = gx * vx + gy * vy + gz * vz < 0  # the back of a cloth: its lining
                    scale = (-1.0 if inside else 1.0) / (np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
                    nx, ny, nz = nx * scale, ny * scale, nz * scale
                    sky = wa * sky_share[a] + wb * sky_share[b] + wc * sky_share[c]
                    if inside:
                        sky *= 0.35
                    u = wa * uv[f, 0, 0] + wb * uv[f, 1, 0] + wc * uv[f, 2, 0]
                    v = wa * uv[f, 0, 1] + wb * uv[f, 1, 1] + wc * uv[f, 2, 1]
                    m = material[f]
                    tx, ty = u * size - 0.5, v * size - 0.5
                    tj, ti = min(size - 2, max(0, int(tx))), min(size - 2, max(0, int(ty)))
                    ft, fs = min(1.0, max(0.0, ty - ti)), min(1.0, max(0.0, tx - tj))
                    w00, w01, w10, w11 = (1 - ft) * (1 - fs), (1 - ft) * fs, ft * (1 - fs), ft * fs
                    facing = nx * to_key[0] + ny * to_key[1] + nz * to_key[2]
                    wrap = gloss[m, 2]
                    direct = max(0.0, (facing + wrap) / (1 + wrap))
                    share = 0.0
                    if direct > 0:
                        bias = SHADOW_BIAS
                        share = key_share(
                            px + bias * (nx + 0.5 * to_key[0]), py + bias * (ny + 0.5 * to_key[1]), pz + bias * (nz + 0.5 * to_key[2]),
                            shadow, rays, key_size, _hash_turn(i, j),
                        )
                        direct *= share
                    hx, hy, hz = vx + to_key[0], vy + to_key[1], vz + to_key[2]
                    half = max(0.0, (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-9))
                    facing_view = max(0.0, nx * vx + ny * vy + nz * vz)
                    grazing = (1 - facing_view) ** 4
                    shine = gloss[m, 0] * (half ** gloss[m, 1]) * share * max(0.0, facing) * (gloss[m, 1] + 8) / 25.0
                    for k in range(3):
                        texel = (
                            w00 * decode[textures[m, ti, tj, k]] + w01 * decode[textures[m, ti, tj + 1, k]]
                            + w10 * decode[textures[m, ti + 1, tj, k]] + w11 * decode[textures[m, ti + 1, tj + 1, k]]
                        )
                        around = ambient[0, k] + nx * ambient[1, k] + ny * ambient[2, k] + nz * ambient[3, k]
                        # light that bounces inside a fold takes the cloth's own colour
                        open_ = sky * (1 - 0.45 * (1 - sky) * (1 - texel))
                        received = direct * key[k] + max(0.0, around) * open_
                        if k == 0 and wrap > 0:  # light scattered in skin comes back red
                            received *= 1 + 0.10 * (1 - min(1.0, direct * 2))
                        value = texel * received * (1 + gloss[m, 3] * grazing) + shine * key[k] + 0.25 * gloss[m, 0] * grazing * open_ * around
                        if k == 0:
                            red += value
                        elif k == 1:
                            green += value
                        else:
                            blue += value
            if count:
                total = samples * samples
                image[row, column, 0] = red / total
                image[row, column, 1] = green / total
                image[row, column, 2] = blue / total
                alpha[row, column] = count / total
    return image, alpha
