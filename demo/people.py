"""Who is filmed: everything that tells one generated person, their clothes and their light from another.

Colours are display (sRGB) values 0..1; lengths are metres or ratios.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        plaid: width of one repeat of the check, metres.
        hair_height: thickness of the hair on the crown, metres.
    """

    hem: float
    sleeve: float
    ease: float
    leg_ease: float
    plaid: float
    hair_height: float


@dataclass(frozen=True)
class Person:
    """One generated person.

    Attributes:
        seed: of every random detail.
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


FIRST = Person(
    seed=0,
    betas=(0.55, 0.2, 0.6, 1.1, 0.0, 0.0, 0.3, -0.2, 0.3, 0.0),
    proportions=Proportions(upper_arm=0.97, forearm=1.07, thigh=0.955, shin=1.03, neck=1.14, shoulders=1.07, head=1.02, foot=1.03),
    palette=Palette(
        skin=(0.78, 0.59, 0.48), hair=(0.20, 0.135, 0.09), eyes=(0.27, 0.34, 0.30), lips=(0.66, 0.40, 0.36),
        shirt=(0.42, 0.52, 0.62), shirt_band=(0.13, 0.19, 0.31), shirt_line=(0.90, 0.87, 0.79), shirt_accent=(0.80, 0.16, 0.10),
        emblem=(0.95, 0.72, 0.12), trousers=(0.47, 0.42, 0.33), belt=(0.26, 0.15, 0.09), shoes=(0.16, 0.17, 0.20), soles=(0.86, 0.85, 0.80),
    ),
    cut=Cut(hem=-0.31, sleeve=0.385, ease=1.0, leg_ease=1.0, plaid=0.085, hair_height=0.026),
    girth=0.006,
    beard=0.55,
)  # fmt: skip

_SKINS = ((0.93, 0.76, 0.66), (0.85, 0.66, 0.54), (0.72, 0.52, 0.40), (0.55, 0.38, 0.28), (0.38, 0.26, 0.20))
_HAIRS = ((0.10, 0.085, 0.08), (0.24, 0.16, 0.11), (0.45, 0.31, 0.18), (0.42, 0.20, 0.12), (0.55, 0.53, 0.50))


def make_person(seed: int) -> Person:
    """The person of a seed; seed 0 is the one of the demo."""
    if seed == 0:
        return FIRST
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
    return Person(seed, tuple(float(b) for b in betas), Proportions(*(float(r) for r in ratios)), palette, cut, float(rng.uniform(0.003, 0.008)), beard)


def make_light(seed: int) -> Light:
    """The light of a seed: sun through thin cloud over one shoulder of the camera, sky, and a warm ground."""
    rng = np.random.default_rng([seed, 2])
    turn = np.deg2rad(-42.0 if seed == 0 else rng.choice([-1, 1]) * rng.uniform(25, 65))
    height = np.deg2rad(44.0 if seed == 0 else rng.uniform(35, 58))
    to_key = np.array([np.sin(turn) * np.cos(height), np.sin(height), np.cos(turn) * np.cos(height)])

    def linear(*values: float) -> np.ndarray:
        return np.array(values, np.float32)

    return Light(
        to_key=to_key.astype(np.float32), key=linear(1.50, 1.36, 1.16), key_size=0.07, ambient=linear(0.52, 0.55, 0.60),
        ambient_x=linear(-0.05, -0.03, 0.0), ambient_y=linear(0.10, 0.15, 0.23), ambient_z=linear(0.09, 0.10, 0.12),
    )  # fmt: skip
