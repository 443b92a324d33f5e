"""Cuts clothes, hair and shoes for one body.

Places are told on a mean person in the rest pose (arms out, y up, facing +z, pelvis at y = -0.22; the joints are
REFERENCE_JOINTS), so that they fit every person and every bake of the open body. Axes: V vertices. Lengths are metres.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from demo.noise import layered_noise
from demo.people import Cut
from demo.shells import Shell, cut_out_shell, drape, evened, hang, smoothed, subdivide, tube_axis

REFERENCE_JOINTS = np.array(
    [
        [0, -0.223, 0.029], [0.080, -0.314, 0.049], [-0.080, -0.314, 0.049], [0, -0.118, 0.033], [0.131, -0.701, 0.077],
        [-0.131, -0.701, 0.077], [0, 0.010, 0.029], [0.128, -1.119, 0.048], [-0.128, -1.119, 0.048], [0, 0.058, 0.024],
        [0.128, -1.160, 0.170], [-0.128, -1.160, 0.170], [0, 0.259, 0.051], [0.071, 0.203, 0.068], [-0.071, 0.203, 0.068],
        [0, 0.330, 0.075], [0.176, 0.192, 0.062], [-0.176, 0.192, 0.062], [0.442, 0.194, 0.063], [-0.442, 0.194, 0.063],
        [0.679, 0.194, 0.063], [-0.679, 0.194, 0.063], [0.762, 0.193, 0.066], [-0.762, 0.193, 0.066],
    ]
)  # fmt: skip
WAIST = -0.115  # height of the trousers' upper edge
ANKLE_HEM = -1.10  # height of their lower edge
CROTCH = -0.375
COLLAR = 0.262  # height of the collar's upper edge
SHOE_TOP = -1.075
HAIRLINE_Z = np.array([-0.05, 0.00, 0.03, 0.052, 0.062, 0.10, 0.108, 0.122, 0.145, 0.165, 0.185, 0.25])
HAIRLINE_Y = np.array([0.305, 0.305, 0.325, 0.360, 0.418, 0.418, 0.385, 0.392, 0.446, 0.462, 0.468, 0.475])


def smooth_step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 under `low`, 1 over `high`, smooth between."""
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def above_hairline(paint: np.ndarray) -> np.ndarray:
    """How far a place on the head lies inside the hair, metres; negative outside."""
    line = np.interp(paint[:, 2], HAIRLINE_Z, HAIRLINE_Y)
    temple = 0.012 * smooth_step(0.03, 0.06, np.abs(paint[:, 0])) * smooth_step(0.13, 0.16, paint[:, 2])
    ear = 0.05 * smooth_step(0.079, 0.083, np.abs(paint[:, 0])) * (paint[:, 1] < 0.41)
    return paint[:, 1] - line - temple - ear


def collar_top(paint: np.ndarray) -> np.ndarray:
    """Height of the collar's upper edge around the neck: lower in front."""
    return COLLAR - 0.05 * smooth_step(0.03, 0.11, paint[:, 2])


def cut_shirt(body: Shell, cut: Cut) -> Shell:
    """A loose short-sleeved shirt with a band collar and a hem that hangs free."""
    p = body.paint
    arm = np.abs(p[:, 0])
    keep = (p[:, 1] > cut.hem - 0.03) & (p[:, 1] < COLLAR + 0.02) & (arm < cut.sleeve + 0.03)
    shell = cut_out_shell(body, keep)
    p = shell.paint
    arm = np.abs(p[:, 0])
    torso = 1 - smooth_step(0.16, 0.20, arm)
    lift = 0.007 + 0.006 * (1 - smooth_step(-0.05, 0.15, p[:, 1])) * torso + 0.013 * (1 - smooth_step(cut.hem, -0.10, p[:, 1])) * torso
    lift += 0.007 * smooth_step(0.20, cut.sleeve, arm) + 0.006 * smooth_step(0.215, 0.25, p[:, 1])
    shell = drape(shell, lift * cut.ease, rounds=6)
    # the body hangs from the chest and the shoulder blades, the sleeves from the shoulders
    in_torso = (p[:, 1] < 0.12) & (arm < 0.21)
    centre = tube_axis(shell.vertices, in_torso, axis=1)
    x, y, z = np.eye(3)
    move = 0.75 * hang(shell.vertices, 0.12 - p[:, 1], centre, x, z, in_torso, slope=0.11)
    for sign in (1, -1):
        sleeve = (sign * p[:, 0] > 0.20) & (p[:, 1] > 0.08)
        centre = tube_axis(shell.vertices, sleeve, axis=0)
        move += 0.8 * hang(shell.vertices, arm, centre, z, y, sleeve, slope=0.05)
    shell = replace(shell, vertices=shell.vertices + smoothed(shell, move, rounds=4))
    shell = subdivide(shell)
    return replace(shell, vertices=evened(shell, rounds=4), weights=soft_weights(shell, rounds=14))


def cut_trousers(body: Shell, cut: Cut) -> Shell:
    """Straight trousers that fall over the shoes."""
    p = body.paint
    shell = cut_out_shell(body, (p[:, 1] < WAIST + 0.02) & (p[:, 1] > ANKLE_HEM - 0.01) & (np.abs(p[:, 0]) < 0.4))
    p = shell.paint
    lift = 0.004 + 0.007 * (1 - smooth_step(-0.45, -0.25, p[:, 1])) + 0.004 * (1 - smooth_step(-0.9, -0.6, p[:, 1]))
    shell = drape(shell, lift * cut.leg_ease, rounds=6)
    move = np.zeros_like(shell.vertices)
    for sign in (1, -1):
        leg = (sign * p[:, 0] > 0) & (p[:, 1] < CROTCH - 0.01)
        centre = tube_axis(shell.vertices, leg, axis=1)
        move += 0.85 * hang(shell.vertices, -p[:, 1], centre, np.eye(3)[0], np.eye(3)[2], leg, slope=0.085, least=0.078 * cut.leg_ease)
    shell = replace(shell, vertices=shell.vertices + smoothed(shell, move, rounds=4))
    shell = subdivide(shell)
    return replace(shell, vertices=evened(shell, rounds=4), weights=soft_weights(shell, rounds=8))


def cut_skirt(body: Shell, cut: Cut, under: Shell | None) -> Shell:
    """What hangs from the waist in one tube around both legs: a skirt, or the skirt of a tunic that is sewn to its shirt.

    At every height it spans the hollows between the legs, and going down it widens and never comes in.

    Args:
        under: a shirt that it is worn over; without one it begins at the waist.
    """
    top = WAIST - 0.01 if under is None else cut.hem + 0.075
    slices, angles = 64, 96
    heights = np.linspace(top, cut.skirt, slices)
    turn = np.arange(angles) / angles * 2 * np.pi
    directions = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    cosines = np.cos(turn[:, None] - turn[None])
    inside = np.concatenate([body.vertices, under.vertices]) if under is not None else body.vertices
    paint = np.concatenate([body.paint, under.paint]) if under is not None else body.paint
    trunk = np.abs(paint[:, 0]) < 0.3
    inside, paint = inside[trunk].astype(float), paint[trunk]
    rings, radius = np.empty((slices, angles, 3)), np.zeros(angles)
    step = (top - cut.skirt) / (slices - 1)
    near = np.abs(paint[:, 1] - top) < 0.012
    middle = (inside[near][:, ::2].min(axis=0) + inside[near][:, ::2].max(axis=0)) / 2
    for k, height in enumerate(heights):
        near = np.abs(paint[:, 1] - height) < 0.012
        flat = inside[near][:, ::2] - middle
        support = (flat @ directions.T).max(axis=0)
        hull = np.where(cosines > 0.2, support[None] / np.maximum(cosines, 0.2), np.inf).min(axis=1)
        fall = float(smooth_step(0.03, 0.20, np.asarray(top - height)))  # close at the waist, free below the hips
        radius = np.maximum(hull + 0.006 + 0.012 * fall, radius + cut.flare * step * fall)
        rings[k, :, ::2] = middle + radius[:, None] * directions
        rings[k, :, 1] = inside[near][:, 1].mean()
    rings[..., 1] = gaussian_filter1d(rings[..., 1], 2.0, axis=0, mode="nearest")
    places = rings.copy()
    places[..., 1] = heights[:, None]
    faces, uv = _grid_faces(slices, angles)
    vertices = rings.reshape(-1, 3).astype(np.float32)
    # from the pelvis to the thighs; each half goes with its leg, front and back are shared
    low = smooth_step(0.08, 0.34, top - np.repeat(heights, angles))
    left = smooth_step(-0.14, 0.14, vertices[:, 0])
    weights = np.zeros((len(vertices), body.weights.shape[1]), np.float32)
    thighs = 0.80 * low
    weights[:, 0], weights[:, 1], weights[:, 2] = 1 - thighs, thighs * left, thighs * (1 - left)
    return Shell(vertices, vertices, places.reshape(-1, 3).astype(np.float32), faces.astype(np.int32), uv.astype(np.float32), weights)


def grow_hair(body: Shell, cut: Cut, seed: int) -> Shell:
    """Short hair with volume: thin at the hairline, full on the crown, in tousled locks."""
    shell = cut_out_shell(body, (above_hairline(body.paint) > -0.012) & (body.paint[:, 1] > 0.28) & (np.abs(body.paint[:, 0]) < 0.15))
    shell = subdivide(shell)
    shell = replace(shell, vertices=smoothed(shell, shell.vertices, rounds=3))
    shell = subdivide(shell)
    p = shell.paint
    inside = above_hairline(p)
    depth = smooth_step(-0.005, 0.05, inside)
    crown = smooth_step(0.40, 0.49, p[:, 1])
    front = smooth_step(0.10, 0.17, p[:, 2])
    locks = layered_noise(p + 0.02 * layered_noise(p, 0.05, 2, seed + 50)[:, None], (0.016, 0.03, 0.04), 3, seed + 51)
    lift = 0.0025 + depth * (0.008 + crown * (cut.hair_height - 0.010) + 0.006 * front * crown) * (1 + 0.45 * locks)
    shell = drape(shell, lift.astype(np.float32), rounds=1, least=0.8)
    return replace(shell, vertices=smoothed(shell, shell.vertices, rounds=1), weights=soft_weights(shell, rounds=4))


def soft_weights(shell: Shell, rounds: int) -> np.ndarray:
    """Skinning weights smoothed over the cloth: it does not follow every joint as the skin does."""
    weights = smoothed(shell, shell.weights, rounds=rounds)
    return weights / weights.sum(axis=1, keepdims=True)


def make_shoe(body: Shell, side: int, *, face_in: bool = False) -> Shell:
    """A shoe around one foot: the convex hull of its slices, and a sole under its outline.

    Its uv covers the unit square: the upper lies at v under 0.7, the sole over 0.72.
    """
    sign = 1 if side == 0 else -1
    foot = body.vertices[(body.paint[:, 1] < SHOE_TOP) & (sign * body.paint[:, 0] > 0)].astype(float)
    ground, heel, toe = foot[:, 1].min(), foot[:, 2].min() - 0.010, foot[:, 2].max() + 0.014
    slices, angles = 40, 40
    turn = np.arange(angles) / angles * 2 * np.pi
    directions = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    share = (1 - np.cos(np.linspace(0.04, np.pi - 0.04, slices))) / 2  # slices lie denser at heel and toe
    places = heel + share * (toe - heel)
    middle, radius = np.empty((slices, 2)), np.empty((slices, angles))
    for k, z in enumerate(places):
        near = foot[np.abs(foot[:, 2] - z) < 0.016][:, :2]
        middle[k] = [(near[:, 0].min() + near[:, 0].max()) / 2, ground + 0.45 * (near[:, 1].max() - ground)]
        support = ((near - middle[k]) @ directions.T).max(axis=0) + 0.0065
        cosines = np.cos(turn[:, None] - turn[None])
        radius[k] = np.where(cosines > 0.2, support[None] / np.maximum(cosines, 0.2), np.inf).min(axis=1)
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    middle = np.stack([np.convolve(np.pad(middle[:, a], 2, mode="edge"), kernel, "valid") for a in range(2)], axis=1)
    radius = np.stack([np.convolve(np.pad(radius[:, a], 2, mode="edge"), kernel, "valid") for a in range(angles)], axis=1)
    radius *= np.sqrt(np.clip(1 - (2 * share - 1) ** 8, 0.0, 1))[:, None]  # rounded at both ends
    upper = np.concatenate(
        [(middle[:, None, :] + radius[..., None] * directions), np.broadcast_to(places[:, None, None], (slices, angles, 1))], axis=2
    )
    upper[..., 1] = np.maximum(upper[..., 1], ground - 0.002)
    # the sole: the outline of the upper, seen from above
    half = (np.abs(radius * directions[:, 0])).max(axis=1) + 0.004
    outline = np.concatenate([np.stack([middle[:, 0] + half, places], 1), np.stack([middle[::-1, 0] - half[::-1], places[::-1]], 1)])
    centre = outline.mean(axis=0)
    rings = []
    for height, inset in ((-0.026, 0.35), (-0.026, 0.010), (-0.021, 0.0), (0.006, -0.001), (0.009, 0.004), (0.009, 0.020)):
        away = outline - centre
        length = np.linalg.norm(away, axis=1, keepdims=True)
        ring = centre + away * (1 - (inset / length if inset < 0.3 else 0.97))
        rings.append(np.stack([ring[:, 0], np.full(len(ring), ground + height), ring[:, 1]], axis=1))
    sole = np.stack(rings)

    vertices = np.concatenate([upper.reshape(-1, 3), sole.reshape(-1, 3)]).astype(np.float32)
    faces_upper, uv_upper = _grid_faces(slices, angles)
    faces_sole, uv_sole = _grid_faces(len(rings), outline.shape[0])
    uv_upper[..., 1] *= 0.7
    uv_sole = np.stack([uv_sole[..., 0], 0.72 + 0.27 * uv_sole[..., 1]], axis=-1)
    wound = slice(None, None, -1 if face_in else 1)
    faces = np.concatenate([faces_upper[:, wound], faces_sole[:, ::-1] + upper.shape[0] * upper.shape[1]])
    uv = np.concatenate([uv_upper[:, wound], uv_sole[:, ::-1]])
    nearest = cKDTree(body.vertices).query(vertices, k=6)[1]
    weights = body.weights[nearest].mean(axis=1)
    shell = Shell(vertices, vertices, vertices, faces.astype(np.int32), uv.astype(np.float32), weights)
    return replace(shell, weights=soft_weights(shell, rounds=12))


def _grid_faces(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles and texture corners of a grid that is closed along its columns."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    faces = np.stack([np.stack([a, b, d], -1), np.stack([a, d, c], -1)], axis=2).reshape(-1, 3)
    u0, u1, v0, v1 = j / columns, (j + 1) / columns, i / (rows - 1), (i + 1) / (rows - 1)
    first = np.stack([np.stack([u0, v0], -1), np.stack([u1, v0], -1), np.stack([u1, v1], -1)], axis=2)
    second = np.stack([np.stack([u0, v0], -1), np.stack([u1, v1], -1), np.stack([u0, v1], -1)], axis=2)
    return faces, np.stack([first, second], axis=2).reshape(-1, 3, 2)
