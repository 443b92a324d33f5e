"""Who is filmed: everything that tells one generated person, their clothes and their light from another.

Colours are display (sRGB) values 0..1; lengths are metres or ratios.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from demo.lighting import Light

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Proportions:
    """How this person's bones differ from the open body's, beyond what its shape coefficients can say (ratios)."""

    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    neck: float
    shoulders: float
    head: float
    foot: float


@dataclass(frozen=True)
class Palette:
    """The colours of one person and their clothes."""

    skin: Color
    hair: Color
    eyes: Color
    lips: Color
    shirt: Color
    shirt_band: Color
    shirt_line: Color
    shirt_accent: Color
    emblem: Color
    trousers: Color
    belt: Color
    shoes: Color
    soles: Color


@dataclass(frozen=True)
class Cut:
    """How the clothes are cut, on the open body's rest pose.

    Attributes:
        hem: height of the shirt's hem, metres (the pelvis is at -0.22).
        sleeve: where the sleeve ends along x, metres (shoulder 0.18, elbow 0.44, wrist 0.68).
        ease: how far the shirt stands off, relative to a regular fit.
        leg_ease: the same for the trousers.
        plaid: width of one repeat of the pattern, metres.
        hair_height: thickness of the hair on the crown, metres.
        pattern: of the shirt.
        skirt: height of the hem of what hangs from the waist, metres; None where nothing does.
        flare: how fast it widens downwards, metres per metre.
        trousers: whether there are any; without them a skirt shows bare legs.
        shoes_face_in: the uppers' triangles are wound the wrong way round, and so lie in the dark. The demo's clip was first filmed
            with such shoes, and stays as it is.
    """

    hem: float
    sleeve: float
    ease: float
    leg_ease: float
    plaid: float
    hair_height: float
    pattern: Literal["check", "stripes", "plain"] = "check"
    skirt: float | None = None
    flare: float = 0.12
    trousers: bool = True
    shoes_face_in: bool = False


@dataclass(frozen=True)
class Person:
    """One generated person.

    Attributes:
        seed: of every random detail.
        name: what tables and folders call them.
        motion: what they do in their clip, by its name in demo/routines.py.
        betas: shape coefficients of the open body.
        girth: strength of local bumps that no shape coefficient makes, metres.
        beard: 0 shaven .. 1 full stubble.
    """

    seed: int
    betas: tuple[float, ...]
    proportions: Proportions
    palette: Palette
    cut: Cut
    girth: float
    beard: float
    name: str = "nameless"
    motion: str = "medley"


@dataclass(frozen=True)
class Weather:
    """What the light of one clip is like.

    Attributes:
        turn, height: where the sun stands: degrees from the camera's axis, and above the horizon.
        key, sky: strength of the sun and of the sky, relative to a bright day with thin cloud.
        size: apparent radius of the sun behind its cloud, rad.
        tint: of all light.
    """

    turn: float
    height: float
    key: float = 1.0
    sky: float = 1.0
    size: float = 0.07
    tint: Color = (1.0, 1.0, 1.0)


FIRST = Person(
    seed=0,
    betas=(0.55, 0.2, 0.6, 1.1, 0.0, 0.0, 0.3, -0.2, 0.3, 0.0),
    proportions=Proportions(upper_arm=0.97, forearm=1.07, thigh=0.955, shin=1.03, neck=1.14, shoulders=1.07, head=1.02, foot=1.03),
    palette=Palette(
        skin=(0.78, 0.59, 0.48), hair=(0.20, 0.135, 0.09), eyes=(0.27, 0.34, 0.30), lips=(0.66, 0.40, 0.36),
        shirt=(0.42, 0.52, 0.62), shirt_band=(0.13, 0.19, 0.31), shirt_line=(0.90, 0.87, 0.79), shirt_accent=(0.80, 0.16, 0.10),
        emblem=(0.95, 0.72, 0.12), trousers=(0.47, 0.42, 0.33), belt=(0.26, 0.15, 0.09), shoes=(0.16, 0.17, 0.20), soles=(0.86, 0.85, 0.80),
    ),
    cut=Cut(hem=-0.31, sleeve=0.385, ease=1.0, leg_ease=1.0, plaid=0.085, hair_height=0.026, shoes_face_in=True),
    girth=0.006,
    beard=0.55,
    name="demo",
)  # fmt: skip

# The cast beside the demo's man, each unlike the others in build, clothes, light and motion.
CAST = (
    FIRST,
    Person(  # a tall slim woman in a checked tunic and wide trousers, under a hard bright sun
        seed=1, name="ada", motion="turntable", girth=0.003, beard=0.0,
        betas=(0.6, -1.0, -0.2, -1.0, 0.5, 0.2, -0.3, 0.2, -0.4, 0.0),
        proportions=Proportions(upper_arm=1.02, forearm=0.98, thigh=1.03, shin=1.02, neck=1.08, shoulders=0.97, head=0.99, foot=0.98),
        palette=replace(
            FIRST.palette, skin=(0.93, 0.76, 0.66), hair=(0.45, 0.31, 0.18), eyes=(0.30, 0.42, 0.50), lips=(0.78, 0.46, 0.44),
            shirt=(0.72, 0.30, 0.26), shirt_band=(0.40, 0.10, 0.13), shirt_line=(0.93, 0.84, 0.66), shirt_accent=(0.20, 0.26, 0.42),
            emblem=(0.90, 0.80, 0.50), trousers=(0.24, 0.28, 0.38), belt=(0.20, 0.15, 0.12), shoes=(0.62, 0.55, 0.46),
        ),
        cut=Cut(hem=-0.27, sleeve=0.36, ease=1.25, leg_ease=1.55, plaid=0.075, hair_height=0.034, skirt=-0.53, flare=0.16),
    ),
    Person(  # a short woman in a plain blouse and a skirt to the knee, in the dim light of an overcast day
        seed=2, name="bela", motion="walk", girth=0.004, beard=0.0,
        betas=(-0.9, 0.1, -0.3, -1.0, -0.2, -0.2, -0.2, 0.5, 0.1, 0.1),
        proportions=Proportions(upper_arm=0.97, forearm=1.03, thigh=0.98, shin=0.97, neck=0.95, shoulders=0.97, head=1.03, foot=0.96),
        palette=replace(
            FIRST.palette, skin=(0.55, 0.38, 0.28), hair=(0.10, 0.085, 0.08), eyes=(0.20, 0.14, 0.10), lips=(0.52, 0.27, 0.24),
            shirt=(0.83, 0.80, 0.70), shirt_band=(0.50, 0.46, 0.38), shirt_accent=(0.55, 0.30, 0.30), emblem=(0.70, 0.55, 0.30),
            trousers=(0.18, 0.33, 0.30), belt=(0.15, 0.12, 0.10), shoes=(0.30, 0.13, 0.13),
        ),
        cut=Cut(hem=-0.195, sleeve=0.40, ease=1.3, leg_ease=1.0, plaid=0.08, hair_height=0.030, pattern="plain", skirt=-0.70, flare=0.22, trousers=False),
    ),
    Person(  # a heavy man in a striped shirt, lit from the side by a low evening sun
        seed=3, name="caspar", motion="arms", girth=0.007, beard=1.0,
        betas=(0.3, 1.5, 0.1, 1.0, -0.2, 0.0, 0.4, 0.3, 1.4, 0.1),
        proportions=Proportions(upper_arm=1.03, forearm=0.96, thigh=0.97, shin=1.02, neck=0.92, shoulders=1.04, head=1.01, foot=1.02),
        palette=replace(
            FIRST.palette, skin=(0.85, 0.66, 0.54), hair=(0.55, 0.53, 0.50), eyes=(0.25, 0.35, 0.45), lips=(0.72, 0.44, 0.38),
            shirt=(0.80, 0.79, 0.74), shirt_band=(0.16, 0.30, 0.26), shirt_line=(0.86, 0.84, 0.78), shirt_accent=(0.72, 0.42, 0.14),
            emblem=(0.72, 0.42, 0.14), trousers=(0.33, 0.30, 0.28), belt=(0.13, 0.10, 0.09), shoes=(0.26, 0.20, 0.15),
        ),
        cut=Cut(hem=-0.32, sleeve=0.37, ease=1.25, leg_ease=0.95, plaid=0.07, hair_height=0.014, pattern="stripes"),
    ),
    Person(  # a tall slim man in a plain close shirt, dark of skin, in the sun
        seed=4, name="dayo", motion="knee_bends", girth=0.004, beard=0.25,
        betas=(1.3, -0.6, 0.8, 1.0, 0.4, 0.3, 0.2, -0.3, -0.3, -0.2),
        proportions=Proportions(upper_arm=1.03, forearm=1.05, thigh=1.02, shin=1.04, neck=1.06, shoulders=1.02, head=0.99, foot=1.04),
        palette=replace(
            FIRST.palette, skin=(0.36, 0.24, 0.18), hair=(0.07, 0.06, 0.06), eyes=(0.14, 0.10, 0.08), lips=(0.38, 0.20, 0.18),
            shirt=(0.86, 0.62, 0.16), shirt_band=(0.52, 0.34, 0.08), shirt_accent=(0.20, 0.20, 0.22), emblem=(0.20, 0.20, 0.22),
            trousers=(0.28, 0.34, 0.46), belt=(0.12, 0.10, 0.10), shoes=(0.75, 0.74, 0.72), soles=(0.92, 0.91, 0.88),
        ),
        cut=Cut(hem=-0.29, sleeve=0.34, ease=1.15, leg_ease=0.9, plaid=0.08, hair_height=0.012, pattern="plain"),
    ),
    Person(  # a short round woman in a long-sleeved loose shirt and wide trousers, in warm dim light
        seed=5, name="edda", motion="dance", girth=0.006, beard=0.0,
        betas=(-1.1, 1.2, -0.5, -1.0, -0.3, -0.2, -0.1, 0.6, 0.7, 0.1),
        proportions=Proportions(upper_arm=0.98, forearm=1.03, thigh=1.02, shin=0.96, neck=0.96, shoulders=0.98, head=1.02, foot=0.97),
        palette=replace(
            FIRST.palette, skin=(0.72, 0.52, 0.40), hair=(0.42, 0.20, 0.12), eyes=(0.26, 0.30, 0.18), lips=(0.62, 0.34, 0.28),
            shirt=(0.36, 0.30, 0.48), shirt_band=(0.20, 0.14, 0.30), shirt_line=(0.80, 0.74, 0.84), shirt_accent=(0.78, 0.56, 0.20),
            emblem=(0.80, 0.62, 0.24), trousers=(0.52, 0.47, 0.40), belt=(0.24, 0.16, 0.10), shoes=(0.14, 0.13, 0.15),
        ),
        cut=Cut(hem=-0.345, sleeve=0.62, ease=1.35, leg_ease=1.25, plaid=0.10, hair_height=0.036),
    ),
)  # fmt: skip

_WEATHER = {
    0: Weather(turn=-42.0, height=44.0),
    1: Weather(turn=38.0, height=56.0, key=1.25, sky=1.05, size=0.02),
    2: Weather(turn=-30.0, height=60.0, key=0.10, sky=0.55, size=0.30, tint=(0.94, 1.0, 1.06)),
    3: Weather(turn=74.0, height=20.0, key=0.75, sky=0.45, size=0.05, tint=(1.10, 0.98, 0.82)),
    4: Weather(turn=-60.0, height=48.0, key=1.15, sky=1.0, size=0.03),
    5: Weather(turn=28.0, height=35.0, key=0.28, sky=0.30, size=0.15, tint=(1.14, 0.98, 0.80)),
}

_SKINS = ((0.93, 0.76, 0.66), (0.85, 0.66, 0.54), (0.72, 0.52, 0.40), (0.55, 0.38, 0.28), (0.38, 0.26, 0.20))
_HAIRS = ((0.10, 0.085, 0.08), (0.24, 0.16, 0.11), (0.45, 0.31, 0.18), (0.42, 0.20, 0.12), (0.55, 0.53, 0.50))


def make_person(seed: int) -> Person:
    """The person of a seed: one of the cast, whose first is the demo's, or beyond it anybody."""
    if 0 <= seed < len(CAST):
        return CAST[seed]
    rng = np.random.default_rng([seed, 1])
    betas = rng.normal(size=10) * 0.7
    betas[3] = rng.choice([-1.1, 1.1]) * rng.uniform(0.7, 1.1)
    ratios = 1 + rng.normal(size=8) * np.array([0.03, 0.05, 0.035, 0.03, 0.08, 0.04, 0.02, 0.03])

    def color(low: float, high: float) -> Color:
        """A colour of any hue between two brightnesses."""
        return tuple(float(c) for c in np.clip(rng.uniform(low, high) * (1 + 0.2 * rng.normal(size=3)), 0.04, 0.95))

    palette = replace(
        FIRST.palette,
        skin=_SKINS[rng.integers(len(_SKINS))], hair=_HAIRS[rng.integers(len(_HAIRS))],
        shirt=color(0.3, 0.7), shirt_band=color(0.1, 0.3), shirt_line=color(0.75, 0.9), shirt_accent=color(0.3, 0.6),
        emblem=color(0.4, 0.8), trousers=color(0.2, 0.5), shoes=color(0.1, 0.5), belt=color(0.1, 0.25),
    )  # fmt: skip
    skin = np.array(palette.skin)
    palette = replace(palette, lips=tuple(float(c) for c in skin * [0.86, 0.66, 0.68]))
    cut = Cut(
        hem=rng.uniform(-0.30, -0.25), sleeve=rng.uniform(0.33, 0.40), ease=rng.uniform(0.8, 1.3), leg_ease=rng.uniform(0.7, 1.3),
        plaid=rng.uniform(0.06, 0.12), hair_height=rng.uniform(0.012, 0.034),
    )  # fmt: skip
    beard = float(rng.uniform(0, 1)) if betas[3] > 0 else 0.0
    return Person(
        seed, tuple(float(b) for b in betas), Proportions(*(float(r) for r in ratios)), palette, cut, float(rng.uniform(0.003, 0.008)), beard,
        name=f"seed-{seed}",
    )  # fmt: skip


def make_light(seed: int) -> Light:
    """The light of a seed: sun through cloud over one shoulder of the camera, sky, and a warm ground."""
    weather = _WEATHER.get(seed) or _any_weather(seed)
    turn, height = np.deg2rad(weather.turn), np.deg2rad(weather.height)
    to_key = np.array([np.sin(turn) * np.cos(height), np.sin(height), np.cos(turn) * np.cos(height)])
    tint = np.array(weather.tint, np.float32)

    def linear(strength: float, *values: float) -> np.ndarray:
        return np.array(values, np.float32) * np.float32(strength) * tint

    sun, sky = weather.key, weather.sky
    return Light(
        to_key=to_key.astype(np.float32), key=linear(sun, 1.50, 1.36, 1.16), key_size=weather.size, ambient=linear(sky, 0.52, 0.55, 0.60),
        ambient_x=linear(sky, -0.05, -0.03, 0.0), ambient_y=linear(sky, 0.10, 0.15, 0.23), ambient_z=linear(sky, 0.09, 0.10, 0.12),
    )  # fmt: skip


def _any_weather(seed: int) -> Weather:
    rng = np.random.default_rng([seed, 2])
    return Weather(turn=rng.choice([-1, 1]) * rng.uniform(25, 65), height=rng.uniform(35, 58))
