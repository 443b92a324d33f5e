"""Paints skin, hair and clothes: display colours and alpha for places on the open body's mean shape.

Axes: N places. Places are metres on the mean shape in its rest pose (see garments.py); colours are sRGB 0..1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from demo.garments import ANKLE_HEM, WAIST, above_hairline, collar_top, smooth_step
from demo.mesh_renderer import paint_layout
from demo.noise import layered_noise
from demo.people import Person
from demo.shells import Shell

EYE = np.array([0.031, 0.3975])  # middle of the left eye's opening


def paint_shell(shell: Shell, painter, person: Person, size: int) -> UInt8[np.ndarray, "T T 4"]:
    """Fill a texture: every texel asks the painter for the colour of the place that it covers."""
    face, weights = paint_layout(shell.uv, size)
    rows, columns = np.nonzero(face >= 0)
    texture = np.zeros((size, size, 4), np.float32)
    corners = shell.paint[shell.faces[face[rows, columns]]]
    places = (corners * weights[rows, columns][..., None]).sum(axis=1)
    uv = np.stack([(columns + 0.5) / size, (rows + 0.5) / size], axis=1)
    texture[rows, columns] = painter(places, uv, person)
    return _spread((np.clip(texture, 0, 1) * 255 + 0.5).astype(np.uint8), face >= 0)


def _spread(texture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Let the borders of the charts grow by a few texels, so that interpolation never meets emptiness."""
    for _ in range(4):
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            moved, moved_known = np.roll(texture, step, axis), np.roll(known, step, axis)
            take = moved_known & ~known
            texture[take] = moved[take]
            known = known | take
    return texture


def _mix(color: np.ndarray, other: object, share: np.ndarray) -> np.ndarray:
    return color + (np.asarray(other, np.float32) - color) * share[:, None]


def _opaque(color: np.ndarray, alpha: np.ndarray | None = None) -> Float32[np.ndarray, "N 4"]:
    alpha = np.ones(len(color), np.float32) if alpha is None else alpha
    return np.concatenate([color, alpha[:, None]], axis=1).astype(np.float32)


def _line(x: np.ndarray, half: float, soft: float = 0.0012) -> np.ndarray:
    """1 within `half` of zero, falling to 0 over `soft`, metres."""
    return 1 - smooth_step(half, half + soft, np.abs(x))


def paint_skin(p: np.ndarray, uv: np.ndarray, person: Person) -> Float32[np.ndarray, "N 4"]:
    """Skin with a face: eyes, brows, lips, stubble, warm cheeks and knuckles."""
    look, seed = person.palette, person.seed
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    skin = np.array(look.skin, np.float32)
    color = np.tile(skin, (len(p), 1))
    blotch = layered_noise(p, 0.03, 3, seed + 1)
    color *= 1 + 0.05 * blotch[:, None] + 0.035 * layered_noise(p, 0.005, 2, seed + 2)[:, None]
    color *= 1 + np.float32([0.02, -0.02, -0.03]) * layered_noise(p, 0.06, 2, seed + 3)[:, None]
    front = smooth_step(0.10, 0.13, z) * (y > 0.26)

    def spot(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return front * np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)

    red = skin * [1.06, 0.80, 0.78]
    color = _mix(color, red, 0.30 * spot(0.042, 0.362, 0.018, 0.016) + 0.38 * spot(0.0, 0.365, 0.014, 0.010))
    ears = smooth_step(0.074, 0.080, x) * (y > 0.34) * (y < 0.42) * (x < 0.12) * (z > 0.03)
    color = _mix(color, red, 0.6 * ears)
    hands = smooth_step(0.70, 0.76, x)
    color = _mix(color, red, 0.35 * hands * (0.6 + 0.4 * blotch))
    nails = smooth_step(0.845, 0.85, x) * (y > 0.158)
    color = _mix(color, skin * [1.08, 0.98, 0.97], 0.6 * nails)
    # shade that sits in the face itself
    color = _mix(color, skin * [0.62, 0.50, 0.47], 0.45 * spot(0.030, 0.409, 0.018, 0.006) + 0.28 * spot(0.027, 0.384, 0.013, 0.006))
    color = _mix(color, skin * [0.45, 0.30, 0.28], 0.8 * spot(0.0085, 0.356, 0.0045, 0.0028))
    color = _mix(color, skin * [0.78, 0.68, 0.64], 0.35 * spot(0.021, 0.352, 0.006, 0.014))
    # stubble
    if person.beard > 0:
        jaw = front * (1 - smooth_step(0.338, 0.362, y + 0.30 * np.maximum(0, 0.05 - x)))
        jaw += 0.9 * smooth_step(0.05, 0.12, z) * (x > 0.04) * (y < 0.40) * (y > 0.285) * (1 - smooth_step(0.34, 0.40, y))
        moustache = spot(0.0, 0.346, 0.026, 0.006) + spot(0.020, 0.338, 0.008, 0.010)
        chin = smooth_step(0.255, 0.285, y)
        dots = 0.75 + 0.5 * layered_noise(p, 0.0035, 2, seed + 5)
        cover = np.clip(np.clip(jaw, 0, 1) * chin + moustache, 0, 1)
        color = _mix(color, np.array(look.hair) * 0.55 + skin * 0.30, 0.55 * person.beard * cover * dots)
    # lips
    half = 0.0245
    across = np.clip(x / half, 0, 1)
    seam = 0.3305 - 0.0012 * across**2
    upper = seam + 0.0085 * (1 - across**1.8) * (1 - 0.22 * np.exp(-((x / 0.004) ** 2)))
    lower = seam - 0.0105 * np.sqrt(np.maximum(0, 1 - across**2.2))
    lips = front * (x < half) * smooth_step(-0.001, 0.0012, upper - y) * smooth_step(-0.001, 0.0012, y - lower)
    color = _mix(color, np.array(look.lips) * (1 + 0.06 * layered_noise(p, (0.002, 0.01, 0.01), 1, seed + 6)[:, None]), 0.85 * lips)
    color = _mix(color, np.array(look.lips) * 0.35, 0.85 * front * (x < half) * _line(y - seam, 0.0008, 0.001))
    # brows
    arch = 0.4175 + 0.0065 * np.sin(np.clip((x - 0.012) / 0.042, 0, 1) * np.pi * 0.72)
    taper = smooth_step(0.010, 0.016, x) * (1 - smooth_step(0.044, 0.056, x))
    hairs = 0.78 + 0.35 * layered_noise(p, (0.0022, 0.006, 0.01), 2, seed + 7)
    color = _mix(color, np.array(look.hair) * 0.75, front * taper * (1 - smooth_step(0.0030, 0.0058, np.abs(y - arch))) * hairs)
    # eyes: the opening is an almond; the ball behind it is white, iris, pupil
    ex, ey = x - EYE[0], y - EYE[1] - 0.0008 * (x - EYE[0]) / 0.012
    almond = (np.abs(ex) / 0.0140) ** 2 + (np.abs(ey) / np.where(ey > 0, 0.0056, 0.0052)) ** 2
    opening = front * (almond < 1)
    lid_shade = smooth_step(-0.002, 0.006, ey)
    white = np.float32([0.86, 0.83, 0.81]) * (1 - 0.45 * lid_shade)[:, None]
    color = np.where(opening[:, None] > 0, white, color)
    iris = np.hypot(ex, ey - 0.0006)
    color = _mix(color, np.array(look.eyes) * (0.75 + 0.5 * smooth_step(0, 0.006, iris) * (ey < 0))[:, None], opening * (1 - smooth_step(0.0056, 0.0064, iris)))
    color = _mix(color, np.array(look.eyes) * 0.4, opening * np.exp(-(((iris - 0.0060) / 0.0007) ** 2)))
    color = _mix(color, [0.03, 0.025, 0.025], opening * (1 - smooth_step(0.0023, 0.0030, iris)))
    color = _mix(color, [1, 1, 1], opening * (np.hypot(p[:, 0] - np.sign(p[:, 0]) * EYE[0] + 0.002, ey - 0.003) < 0.0012))
    lash = front * np.exp(-(((np.sqrt(almond) - 1.05) / 0.14) ** 2)) * np.where(ey > 0, 0.95, 0.35)
    color = _mix(color, np.array(look.hair) * 0.35, lash)
    # the scalp under the hair
    color = _mix(color, np.array(look.hair) * 0.9, (y > 0.28) * (x < 0.15) * smooth_step(-0.004, 0.006, above_hairline(p) + 0.003 * layered_noise(p, 0.006, 2, seed + 8)))
    return _opaque(color)


def paint_hair(p: np.ndarray, uv: np.ndarray, person: Person) -> Float32[np.ndarray, "N 4"]:
    """Strands that run back from the forehead and down the sides; a ragged hairline."""
    seed = person.seed
    bent = p + 0.008 * np.stack([layered_noise(p, 0.04, 2, seed + k) for k in (20, 21, 22)], axis=1)
    top = smooth_step(0.44, 0.49, p[:, 1])[:, None]
    strands = top[:, 0] * layered_noise(bent, (0.0035, 0.03, 0.03), 3, seed + 23) + (1 - top[:, 0]) * layered_noise(bent, (0.0045, 0.03, 0.0045), 3, seed + 24)
    locks = layered_noise(bent, (0.014, 0.03, 0.03), 2, seed + 25)
    color = np.array(person.palette.hair, np.float32) * np.clip(1 + 0.75 * strands + 0.35 * locks, 0.25, 2.2)[:, None]
    color = _mix(color, np.array(person.palette.hair) * [2.0, 1.8, 1.6], 0.25 * smooth_step(0.3, 0.7, strands))
    edge = above_hairline(p) + 0.0065 * layered_noise(p, (0.004, 0.02, 0.004), 2, seed + 26) + 0.003 * layered_noise(p, 0.02, 1, seed + 27)
    return _opaque(color, smooth_step(-0.0005, 0.0005, edge))


def paint_shirt(p: np.ndarray, uv: np.ndarray, person: Person) -> Float32[np.ndarray, "N 4"]:
    """A checked shirt: bands and thin lines, placket with buttons, chest pocket with a label, an emblem on the back."""
    look, cut, seed = person.palette, person.cut, person.seed
    x, y, z = p.T
    arm = np.abs(x)
    on_sleeve = arm > 0.188
    front = z > 0.045
    yoke = (y > np.where(front, 0.207, 0.165)) & ~on_sleeve
    around = np.arctan2(x, z - 0.045) * 0.145
    u = np.where(on_sleeve, arm, np.where(yoke, x, around))
    v = np.where(on_sleeve, np.arctan2(y - 0.194, z - 0.063) * 0.062, np.where(yoke, np.where(front, 0.207 - (z - 0.10), 0.165 + (z + 0.02)), y))
    in_pocket = front & (np.abs(x - 0.085) < 0.043) & (np.abs(y - 0.085) < 0.048)
    u, v = u + 0.031 * in_pocket, v + 0.022 * in_pocket  # a pocket never quite meets the check around it
    wave = 0.0015 * layered_noise(p, 0.10, 2, seed + 30)
    color = np.tile(np.float32(look.shirt), (len(p), 1))
    threads = layered_noise(p, 0.004, 2, seed + 31)
    color *= 1 + 0.07 * threads[:, None] + 0.05 * layered_noise(p, 0.08, 3, seed + 32)[:, None]
    color = _weave(color, u + wave, v + wave, threads, person)
    dark = np.array(look.shirt_band) * 0.8
    # seams: armhole, yoke, sides
    color = _mix(color, dark, 0.7 * (_line(arm - 0.188, 0.0012) * (y > 0.09) + _line(y - 0.165, 0.001) * ~on_sleeve * ~front))
    # placket, collar and hems
    placket = front * ~on_sleeve * (z > 0.05)
    color = _mix(color, np.array(look.shirt) * 1.04, 0.55 * placket * _line(x, 0.0135))
    color = _mix(color, dark, 0.75 * placket * _line(np.abs(x) - 0.0145, 0.0008))
    button = np.hypot(x, (y - 0.005) % 0.078 - 0.039)
    color = _mix(color, [0.93, 0.91, 0.86], placket * (y < 0.23) * (1 - smooth_step(0.0048, 0.0056, button)))
    color = _mix(color, [0.35, 0.32, 0.30], placket * (y < 0.23) * np.exp(-(((button - 0.0058) / 0.0008) ** 2)) * 0.8)
    collar_base = 0.228 + 0.10 * np.clip(0.06 - z, 0, 0.05)
    collar = (arm < 0.10) * smooth_step(collar_base, collar_base + 0.001, y)
    color = _mix(color, np.array(look.shirt_band) * 1.15, 0.85 * collar)
    hem = cut.hem + 0.035 * smooth_step(0.05, 0.17, arm) * (y < 0)
    color = _mix(color, dark, 0.6 * (_line(y - hem - 0.016, 0.0009) * (arm < 0.25) + _line(arm - cut.sleeve + 0.022, 0.0009)))
    # pocket on the left chest with a label
    px, py = x - 0.085, y - 0.085
    pocket = front * (np.abs(px) < 0.043) * (np.abs(py) < 0.048) * (py > -0.048 + 0.25 * (np.abs(px) - 0.02) * (np.abs(px) > 0.02))
    rim = np.maximum(np.abs(px) - 0.041, np.abs(py) - 0.046)
    color = _mix(color, dark, 0.8 * front * (np.abs(px) < 0.046) * (np.abs(py) < 0.051) * _line(rim, 0.0012))
    color = _mix(color, np.array(look.shirt) * 0.9, 0.25 * pocket)
    label = np.maximum(np.abs(px - 0.018) - 0.013, np.abs(py - 0.012) - 0.010)
    color = _mix(color, look.shirt_accent, front * (1 - smooth_step(-0.0006, 0.0006, label)))
    color = _mix(color, look.emblem, front * (np.hypot(px - 0.018, py - 0.012) < 0.0058))
    # emblem between the shoulder blades: a ring with a star
    bx, by = x, y - 0.085
    radius, turn = np.hypot(bx, by), np.arctan2(bx, by)
    star = 0.030 + 0.012 * np.cos(5 * turn)
    back = (~front & ~on_sleeve).astype(np.float32)
    color = _mix(color, look.shirt_band, back * (1 - smooth_step(0.062, 0.0632, radius)))
    color = _mix(color, look.emblem, back * _line(radius - 0.054, 0.0035))
    color = _mix(color, look.shirt_line, back * (1 - smooth_step(-0.0006, 0.0006, radius - star)))
    color = _mix(color, look.shirt_accent, back * (1 - smooth_step(0.011, 0.012, radius)))
    # edges: hem, sleeves, neck, and an open collar in front
    notch = 0.011 + 0.30 * (y - 0.205)
    open_neck = front & (z > 0.06) & (y > 0.205) & (arm < notch)
    alive = (y > hem + 0.0015 * np.sin(x * 90)) & (arm < cut.sleeve) & ((y < collar_top(p)) | (arm > 0.10)) & ~open_neck
    return _opaque(color, alive.astype(np.float32))


def _weave(color: np.ndarray, u: np.ndarray, v: np.ndarray, threads: np.ndarray, person: Person) -> np.ndarray:
    """The pattern of the shirt's cloth, laid over its ground colour; u and v are metres around and up."""
    look, period = person.palette, person.cut.plaid
    ways = {"check": ((u, 1.0), (v, 0.92)), "stripes": ((v, 1.0),), "plain": ()}[person.cut.pattern]
    for t, tint in ways:
        phase = ((t / period + 0.25) % 1.0 - 0.5) * period
        twill = 0.62 + 0.25 * threads
        color = _mix(color, np.array(look.shirt_band) * tint, twill * _line(phase, 0.155 * period))
        color = _mix(color, look.shirt_line, 0.75 * _line(np.abs(phase) - 0.30 * period, 0.026 * period))
        color = _mix(color, look.shirt_accent, 0.90 * _line(np.abs(phase - 0.46 * period), 0.034 * period))
        color = _mix(color, look.shirt_accent, 0.90 * _line(np.abs(phase + 0.54 * period), 0.034 * period))
    return color


def paint_skirt(p: np.ndarray, uv: np.ndarray, person: Person) -> Float32[np.ndarray, "N 4"]:
    """A tunic's skirt in the cloth of its shirt, or a skirt in one colour with a border; both with a hem."""
    look, seed, hem = person.palette, person.seed, person.cut.skirt
    x, y, z = p.T
    threads = layered_noise(p, 0.004, 2, seed + 31)
    ground = np.float32(look.shirt if person.cut.trousers else look.trousers)
    color = np.tile(ground, (len(p), 1))
    color *= 1 + 0.07 * threads[:, None] + 0.06 * layered_noise(p, 0.08, 3, seed + 32)[:, None]
    if person.cut.trousers:
        color = _weave(color, np.arctan2(x, z - 0.045) * 0.145, y, threads, person)
    else:
        color = _mix(color, look.emblem, 0.8 * _line(y - hem - 0.055, 0.010))
        color = _mix(color, look.belt, smooth_step(WAIST - 0.045, WAIST - 0.043, y))
    color = _mix(color, ground * 0.55, 0.6 * _line(y - hem - 0.018, 0.001))
    return _opaque(color)


def paint_trousers(p: np.ndarray, uv: np.ndarray, person: Person) -> Float32[np.ndarray, "N 4"]:
    """Cotton trousers with belt, pockets, seams and worn thighs."""
    look, seed = person.palette, person.seed
    x, y, z = p.T
    side = np.abs(x)
    base = np.array(look.trousers, np.float32)
    color = np.tile(base, (len(p), 1))
    color *= 1 + 0.06 * layered_noise(p, (0.004, 0.012, 0.004), 2, seed + 40)[:, None] + 0.07 * layered_noise(p, 0.09, 3, seed + 41)[:, None]
    worn = np.exp(-(((side - 0.11) / 0.05) ** 2) - ((y + 0.55) / 0.17) ** 2) * (z > 0.06)
    color = _mix(color, base * 1.28, 0.45 * worn)
    color = _mix(color, base * 0.78, 0.5 * (1 - smooth_step(ANKLE_HEM, ANKLE_HEM + 0.05, y)))
    dark, thread = base * 0.55, base * 1.35
    # the outer seam runs down the leg's side
    middle = np.interp(y, [-1.12, -0.70, -0.32, -0.12], [0.042, 0.070, 0.045, 0.04])
    outer = side > np.interp(y, [-1.12, -0.70, -0.375, -0.12], [0.128, 0.131, 0.10, 0.05])
    color = _mix(color, dark, 0.75 * outer * _line(z - middle, 0.0011))
    color = _mix(color, thread, 0.5 * outer * _line(z - middle - 0.006, 0.0007))
    color = _mix(color, dark, 0.7 * (side < 0.004) * (y > -0.40) * (z > 0.1))
    color = _mix(color, thread, 0.6 * (z > 0.09) * (y > -0.30) * _line(x - 0.030 - 0.25 * np.clip(-0.26 - y, 0, 0.1), 0.0008) * (x > 0))
    # slanted front pockets
    slant = (side - 0.085) * 0.9 + (y + 0.165)
    front_pocket = (z > 0.06) * (side > 0.085) * (y > -0.30) * (y < WAIST - 0.03)
    color = _mix(color, dark, 0.8 * front_pocket * _line(slant + 0.03, 0.0016))
    color = _mix(color, thread, 0.5 * front_pocket * _line(slant + 0.038, 0.0008))
    # back pockets with a flap
    bx, by = side - 0.085, y + 0.285
    rim = np.maximum(np.abs(bx) - 0.052, np.abs(by) - 0.060)
    back = (z < 0.02).astype(np.float32)
    color = _mix(color, dark, 0.8 * back * _line(rim, 0.0014))
    color = _mix(color, base * 0.92, 0.5 * back * (rim < 0))
    color = _mix(color, dark, 0.8 * back * (rim < 0) * _line(by - 0.025 - 0.3 * np.abs(bx) * 0.5, 0.0012))
    color = _mix(color, [0.80, 0.74, 0.60], back * (np.hypot(bx, by - 0.018) < 0.0055))
    hem = ANKLE_HEM + 0.004
    color = _mix(color, dark, 0.6 * _line(y - hem - 0.025, 0.001))
    # belt
    belt = smooth_step(-0.153, -0.152, y)
    color = _mix(color, np.array(look.belt) * (1 + 0.12 * layered_noise(p, 0.01, 2, seed + 42))[:, None], belt)
    buckle = np.maximum(np.abs(x) - 0.022, np.abs(y + 0.136) - 0.017)
    color = _mix(color, [0.76, 0.74, 0.70], (z > 0.08) * _line(buckle + 0.003, 0.003))
    return _opaque(color, ((y > hem) & (y < WAIST)).astype(np.float32))


def paint_shoes(p: np.ndarray, uv: np.ndarray, person: Person) -> Float32[np.ndarray, "N 4"]:
    """Sneakers: suede upper with laces and a coloured heel, a pale sole with a line.

    The texture coordinates tell the place: u around the slice (0 outwards, 0.25 up), v from heel to toe.
    """
    look, seed = person.palette, person.seed
    u, v = uv.T
    on_sole = v > 0.71
    length = np.clip(v / 0.7, 0, 1)
    color = np.tile(np.float32(look.shoes), (len(p), 1))
    color *= 1 + 0.22 * layered_noise(p, 0.006, 3, seed + 60)[:, None]
    top = np.abs(u - 0.25)
    toe = smooth_step(0.83, 0.84, length)
    color = _mix(color, np.array(look.shoes) * 1.5 + 0.05, 0.5 * toe)
    color = _mix(color, np.array(look.soles) * 0.9, 0.9 * (np.abs((length - 0.45) - 0.35 * (top - 0.16)) < 0.035) * (top > 0.11) * (top < 0.22))
    color = _mix(color, look.shirt_accent, (1 - smooth_step(0.09, 0.10, length)) * (top < 0.2))
    lace = (top < 0.075) * (length > 0.42) * (length < 0.72) * (np.abs((length * 24 + 3.0 * top * np.sign(u - 0.25)) % 1 - 0.5) < 0.24)
    color = _mix(color, look.soles, lace)
    tread = np.clip((v - 0.72) / 0.27, 0, 1)
    sole = np.array(look.soles, np.float32) * (1 + 0.06 * layered_noise(p, 0.01, 3, seed + 61))[:, None]
    sole = _mix(sole, np.array(look.soles) * 0.45, 0.7 * (np.abs(tread - 0.45) < 0.03))
    sole = _mix(sole, np.array(look.soles) * 0.55, 0.5 * (1 - smooth_step(0.2, 0.5, tread)))
    return _opaque(np.where(on_sole[:, None], sole, color))
