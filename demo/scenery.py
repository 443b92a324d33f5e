"""The place where the clip is filmed: a courtyard of boxes, ray-traced once, because the camera stands still.

Light that comes straight from the key is kept apart from light from all around, so that the person's shadow can be laid
over the ground frame by frame.

Axes: H x W pixels, B boxes. World: y up, floor at y = 0, metres; colours are linear light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
from jaxtyping import Bool, Float32, Float64

from demo.lighting import Light
from demo.mesh_renderer import View
from demo.noise import layers_at, lattice

PAVING, BRICK, DOOR, GLASS, LEAVES, WOOD, STONE, CLAY, PLASTER, METAL, POSTER = range(11)
SAMPLES = 2  # along the side of a pixel
FOCUS = 4.2  # m, where the picture is sharp
BLUR = 5.0  # px of blur (standard deviation) at infinity, relative to a 1280 px wide picture

# centre x, y, z, half sizes, material
COURTYARD = np.array(
    [
        [0.0, 1.7, -3.9, 9.0, 1.9, 0.4, BRICK],
        [0.0, 0.16, -3.47, 9.0, 0.16, 0.05, STONE],
        [0.0, 2.86, -3.46, 9.0, 0.10, 0.09, STONE],
        [-2.15, 1.1, -3.46, 0.62, 1.1, 0.07, STONE],
        [-2.15, 1.06, -3.42, 0.50, 1.04, 0.06, DOOR],
        [-2.15, 0.06, -3.2, 0.75, 0.06, 0.30, STONE],
        [-1.78, 1.02, -3.34, 0.03, 0.06, 0.03, METAL],
        [1.75, 1.72, -3.45, 0.98, 0.68, 0.06, STONE],
        [1.75, 1.72, -3.43, 0.90, 0.60, 0.06, GLASS],
        [1.75, 1.72, -3.38, 0.025, 0.60, 0.03, PLASTER],
        [1.75, 1.90, -3.38, 0.90, 0.022, 0.03, PLASTER],
        [1.75, 1.0, -3.36, 1.08, 0.04, 0.16, STONE],
        [0.02, 1.45, -3.44, 0.05, 1.45, 0.05, METAL],
        [-0.72, 1.62, -3.48, 0.36, 0.48, 0.02, POSTER],
        [1.75, 0.44, -2.85, 0.80, 0.028, 0.20, WOOD],
        [1.75, 0.70, -3.07, 0.80, 0.09, 0.02, WOOD],
        [1.08, 0.21, -2.85, 0.04, 0.21, 0.18, METAL],
        [2.42, 0.21, -2.85, 0.04, 0.21, 0.18, METAL],
        [-3.35, 0.30, -2.6, 0.34, 0.30, 0.34, CLAY],
        [-3.35, 1.0, -2.6, 0.44, 0.46, 0.42, LEAVES],
        [-1.12, 0.20, -2.95, 0.20, 0.20, 0.20, CLAY],
        [-1.12, 0.62, -2.95, 0.27, 0.25, 0.25, LEAVES],
        [3.35, 0.75, -2.5, 0.55, 0.75, 0.55, LEAVES],
        [-4.6, 1.9, -1.0, 0.4, 1.9, 3.0, PLASTER],
    ]
)


@dataclass(frozen=True)
class Backdrop:
    """The empty place as the camera sees it.

    Attributes:
        direct, around: light from the key and from everywhere else, linear; their sum is the empty picture.
        is_ground: where the picture shows the ground.
        ground_points: the world point of each pixel of the ground, metres (elsewhere undefined).
    """

    direct: Float32[np.ndarray, "H W 3"]
    around: Float32[np.ndarray, "H W 3"]
    is_ground: Bool[np.ndarray, "H W"]
    ground_points: Float32[np.ndarray, "H W 3"]


def any_place(rng: np.random.Generator) -> Float64[np.ndarray, "B 7"]:
    """Boxes of a place that nobody has seen before: a wall behind, sometimes one beside, and things along them."""
    depth = rng.uniform(1.3, 4.5)
    boxes = [[0.0, 2.5, -depth - 0.4, 9.0, 2.5, 0.4, rng.choice([BRICK, STONE, PLASTER, WOOD, DOOR, GLASS, LEAVES])]]
    if rng.random() < 0.4:
        boxes.append([rng.choice([-1, 1]) * rng.uniform(2.5, 4.5), 2.5, -1.0, 0.4, 2.5, 3.0, rng.choice([BRICK, PLASTER, STONE])])
    for _ in range(rng.integers(0, 16)):
        half = rng.uniform([0.03, 0.05, 0.02], [0.6, 0.9, 0.3])
        stands = rng.random() < 0.6
        x, y = rng.uniform(-3.0, 3.0), half[1] if stands else rng.uniform(0.6, 2.4)
        z = rng.uniform(-depth, min(-1.0, -depth + 1.5)) if stands else -depth
        boxes.append([x, y, z, *half, rng.integers(POSTER + 1)])
    return np.array(boxes, float)


def film_backdrop(view: View, light: Light, seed: int, boxes: Float64[np.ndarray, "B 7"] = COURTYARD) -> Backdrop:
    """Trace the courtyard, or another place, and blur what lies out of focus."""
    to_world = np.linalg.inv(view.w2c)
    intrinsics = np.array([view.K[0, 0], view.K[1, 1], view.K[0, 2], view.K[1, 2]])
    direct, around, distance, ground = _trace(
        view.height, view.width, intrinsics, to_world, boxes, light.to_key.astype(float), light.key.astype(float),
        light.ambient_terms.astype(float), seed,
    )  # fmt: skip
    sharp = np.concatenate([direct, around], axis=2)
    pixels = view.width / 1280
    layered, level = sharp.copy(), BLUR * pixels * np.clip(1 - FOCUS / distance, 0, 1) + 0.25 * pixels * np.clip(FOCUS / distance - 1, 0, 2)
    last = sharp
    for k, sigma in enumerate((0.7, 1.4, 2.1, 2.8)):
        # each pixel takes from the two blurred pictures on either side of its own blur
        blurred = cv2.GaussianBlur(sharp[..., :3], (0, 0), sigma * pixels), cv2.GaussianBlur(sharp[..., 3:], (0, 0), sigma * pixels)
        blurred = np.concatenate(blurred, axis=2)
        share = np.clip(level / pixels / 0.7 - k, 0, 1)[..., None]
        layered = layered + share * (blurred - last)
        last = blurred
    layered = layered.astype(np.float32)
    return Backdrop(layered[..., :3].copy(), layered[..., 3:].copy(), ground[..., 3] > 0.99, ground[..., :3].copy())


@numba.njit(cache=True, error_model="numpy")
def _hit(ox, oy, oz, dx, dy, dz, boxes, nearest):
    """The first box along a ray: its index (-1 for the ground, -2 for nothing) and the distance."""
    found = -2
    if dy < -1e-6:
        t = -oy / dy
        if 1e-3 < t < nearest:
            nearest, found = t, -1
    for b in range(len(boxes)):
        t0, t1 = -1e9, 1e9
        for axis in range(3):
            o = ox if axis == 0 else oy if axis == 1 else oz
            d = dx if axis == 0 else dy if axis == 1 else dz
            d = d if abs(d) > 1e-9 else 1e-9
            ta = (boxes[b, axis] - boxes[b, 3 + axis] - o) / d
            tb = (boxes[b, axis] + boxes[b, 3 + axis] - o) / d
            t0, t1 = max(t0, min(ta, tb)), min(t1, max(ta, tb))
        if t0 < t1 and 1e-3 < t0 < nearest:
            nearest, found = t0, b
    return found, nearest


@numba.njit(cache=True)
def _surface(material, x, y, z, u, v, seed):
    """Albedo (linear) and relief of a material at a point; u, v run along the surface, metres."""
    grain = layers_at(u * 9, v * 9, material * 7.1, 4, seed)
    fine = layers_at(u * 60, v * 60, material * 3.3, 2, seed + 9)
    if material == PAVING:
        row = np.floor(z / 0.42)
        shift = 0.21 if int(row) % 2 else 0.0
        slab = np.floor((x + shift) / 0.62)
        edge = min(min((x + shift) / 0.62 - slab, slab + 1 - (x + shift) / 0.62) * 0.62, min(z / 0.42 - row, row + 1 - z / 0.42) * 0.42)
        tone = 0.27 + 0.09 * (lattice(int(slab), int(row), 3, seed) - 0.5) + 0.045 * grain + 0.05 * fine
        tone += 0.05 * layers_at(x * 0.9, z * 0.9, 1.5, 3, seed + 31)
        joint = min(1.0, max(0.0, (edge - 0.003) / 0.006))
        tone *= 0.38 + 0.62 * joint
        leaf = lattice(int(np.floor(x * 9)), int(np.floor(z * 9)), 5, seed)
        if leaf > 0.992:
            cx, cz = (np.floor(x * 9) + 0.5) / 9, (np.floor(z * 9) + 0.5) / 9
            if (x - cx) ** 2 * 2 + (z - cz) ** 2 + 0.6 * (x - cx) * (z - cz) < 0.0007:
                return 0.30, 0.16, 0.05
        return tone * 1.03, tone * 0.97, tone * 0.88
    if material == BRICK:
        row = np.floor(y / 0.078)
        shift = 0.115 if int(row) % 2 else 0.0
        brick = np.floor((u + shift) / 0.23)
        eu, ev = (u + shift) / 0.23 - brick, y / 0.078 - row
        edge = min(min(eu, 1 - eu) * 0.23, min(ev, 1 - ev) * 0.078) + 0.0015 * grain
        pick = lattice(int(brick), int(row), 1, seed)
        tone = 0.75 + 0.5 * (pick - 0.5) + 0.22 * grain + 0.25 * fine
        weather = 0.86 + 0.22 * layers_at(u * 0.7, y * 0.5, 2.0, 3, seed + 4)
        if edge < 0.006:
            return 0.34 * weather, 0.32 * weather, 0.285 * weather
        warm = 0.85 + 0.3 * lattice(int(brick), int(row), 2, seed)
        return 0.225 * tone * warm * weather, 0.145 * tone * weather, 0.11 * tone * weather
    if material == DOOR:
        panel_u, panel_v = abs((u / 0.46) - np.floor(u / 0.46) - 0.5), abs((v / 0.66) - np.floor(v / 0.66) - 0.5)
        inset = 0.75 if panel_u > 0.37 and panel_u < 0.40 or panel_v > 0.40 and panel_v < 0.42 else 1.0
        tone = inset * (1 + 0.10 * grain + 0.05 * fine)
        return 0.045 * tone, 0.085 * tone, 0.115 * tone
    if material == GLASS:
        glow = 0.10 + 0.20 * max(0.0, 0.6 + layers_at(u * 1.3, v * 1.1, 0.4, 3, seed + 5)) * (0.4 + 0.3 * v)
        curtain = 0.10 * (1 + np.sin(u * 40)) if abs(u - 1.75) > 0.62 else 0.0
        return glow * 0.75 + curtain, glow * 0.9 + curtain * 0.95, glow + curtain * 0.85
    if material == LEAVES:
        i, j, k = int(np.floor(x * 26)), int(np.floor(y * 26)), int(np.floor(z * 26))
        leaf = lattice(i, j, k, seed)
        deep = max(0.15, 0.75 + 0.9 * layers_at(x * 7, y * 7, z * 7, 3, seed + 6))
        tone = (0.45 + 1.1 * leaf) * deep
        return 0.060 * tone + 0.02 * leaf, 0.105 * tone, 0.030 * tone
    if material == WOOD:
        ring = np.sin(60 * v + 5 * layers_at(u * 1.5, v * 14, 0.2, 3, seed + 7))
        slat = 0.5 if abs(z / 0.1 - np.floor(z / 0.1) - 0.5) > 0.46 else 1.0
        tone = slat * (1 + 0.22 * ring + 0.12 * fine)
        return 0.24 * tone, 0.135 * tone, 0.07 * tone
    if material == CLAY:
        tone = 1 + 0.25 * grain + 0.15 * fine
        return 0.30 * tone, 0.125 * tone, 0.07 * tone
    if material == METAL:
        tone = 1 + 0.15 * grain
        return 0.10 * tone, 0.105 * tone, 0.11 * tone
    if material == POSTER:
        pu, pv = (u + 0.72) / 0.36, (y - 1.62) / 0.48
        if abs(pu) > 0.9 or abs(pv) > 0.92:
            return 0.55, 0.54, 0.50
        if pu * pu + (pv - 0.25) ** 2 * 1.7 < 0.30:
            return 0.50, 0.24, 0.045
        if pv < -0.35 and (int(np.floor(pv * 16)) % 2 == 0) and abs(pu) < 0.7:
            return 0.08, 0.10, 0.16
        return 0.16, 0.30, 0.36
    if material == STONE:
        tone = 0.40 + 0.07 * grain + 0.06 * fine
        return tone, tone * 0.96, tone * 0.88
    tone = 0.42 + 0.04 * grain + 0.03 * fine
    return tone, tone * 0.95, tone * 0.84


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _trace(height, width, intrinsics, to_world, boxes, to_key, key, ambient, seed):
    direct, around = np.zeros((height, width, 3), np.float32), np.zeros((height, width, 3), np.float32)
    distance, ground = np.zeros((height, width), np.float32), np.zeros((height, width, 4), np.float32)
    ox, oy, oz = to_world[0, 3], to_world[1, 3], to_world[2, 3]
    share = 1.0 / SAMPLES**2
    for i in numba.prange(height):
        for j in range(width):
            for s in range(SAMPLES * SAMPLES):
                xc = (j + (s % SAMPLES + 0.5) / SAMPLES - intrinsics[2]) / intrinsics[0]
                yc = (i + (s // SAMPLES + 0.5) / SAMPLES - intrinsics[3]) / intrinsics[1]
                dx = to_world[0, 0] * xc + to_world[0, 1] * yc + to_world[0, 2]
                dy = to_world[1, 0] * xc + to_world[1, 1] * yc + to_world[1, 2]
                dz = to_world[2, 0] * xc + to_world[2, 1] * yc + to_world[2, 2]
                b, t = _hit(ox, oy, oz, dx, dy, dz, boxes, 60.0)
                distance[i, j] += share * t
                if b == -2:
                    haze = 0.75 + 0.1 * layers_at(dx * 3, dy * 5, 0.0, 3, seed)
                    around[i, j, 0] += share * haze * 0.80
                    around[i, j, 1] += share * haze * 0.90
                    around[i, j, 2] += share * haze
                    continue
                x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
                nx, ny, nz, u, v, material, sky = 0.0, 1.0, 0.0, x, z, PAVING, 1.0
                if b >= 0:
                    px, py, pz = (x - boxes[b, 0]) / boxes[b, 3], (y - boxes[b, 1]) / boxes[b, 4], (z - boxes[b, 2]) / boxes[b, 5]
                    material = int(boxes[b, 6])
                    if abs(px) > abs(py) and abs(px) > abs(pz):
                        nx, ny, u, v = np.sign(px), 0.0, z, y
                    elif abs(pz) >= abs(py):
                        nz, ny, u, v = np.sign(pz), 0.0, x, y
                    else:
                        ny = np.sign(py)
                    sky = 0.55 + 0.45 * min(1.0, y / 0.5)
                else:
                    ground[i, j, 0] += share * x
                    ground[i, j, 2] += share * z
                    ground[i, j, 3] += share
                # what stands close by hides part of the sky
                for k in range(len(boxes)):
                    if k == b:
                        continue
                    gx = max(0.0, abs(x - boxes[k, 0]) - boxes[k, 3])
                    gy = max(0.0, abs(y - boxes[k, 1]) - boxes[k, 4])
                    gz = max(0.0, abs(z - boxes[k, 2]) - boxes[k, 5])
                    reach = 0.10 + 0.30 * min(boxes[k, 3], boxes[k, 4])
                    sky *= 1 - 0.5 * np.exp(-(gx * gx + gy * gy + gz * gz) / (reach * reach))
                red, green, blue = _surface(material, x, y, z, u, v, seed)
                if material == LEAVES:  # leaves face everywhere
                    tilt = layers_at(x * 30, y * 30, z * 30, 1, seed + 3)
                    nx, ny, nz = 0.6 * nx + 0.5 * tilt, 0.6 * ny + 0.5, 0.6 * nz - 0.4 * tilt
                facing = max(0.0, nx * to_key[0] + ny * to_key[1] + nz * to_key[2])
                if facing > 0:
                    blocked, _ = _hit(x + 0.01 * nx, y + 0.01 * ny, z + 0.01 * nz, to_key[0], to_key[1], to_key[2], boxes, 30.0)
                    if blocked >= 0:
                        facing = 0.0
                if material == GLASS:
                    facing *= 0.1
                for c in range(3):
                    albedo = max(0.0, red if c == 0 else green if c == 1 else blue)
                    light = max(0.0, ambient[0, c] + nx * ambient[1, c] + ny * ambient[2, c] + nz * ambient[3, c])
                    direct[i, j, c] += share * albedo * facing * key[c]
                    around[i, j, c] += share * albedo * light * sky
    return direct, around, distance, ground
