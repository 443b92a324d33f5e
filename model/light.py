"""Light fixed in the world: what makes a turning person change shade.

A surface point shows albedo times shade. The shade of a matt surface under distant light depends on its normal alone: light
from all sides varies it slowly, one strong lamp leaves a kink where its light begins to graze, and shadows where the body
stands in its way (lamp_light.py). Cloth and skin are brighter besides where the viewer grazes them (Schlick's form of it,
which falls as a power of 1 - cosine); read as light, that would light all that a still camera never sees. Colours here are
display values; a product stays a product under gamma, so the shade is modelled there too.

The shade is 1 plus what rows of coefficients, a column a colour channel, weigh; docs/adr/0007 compares the forms:

    none        no rows
    linear      3: harmonics of degree 1
    quadratic   8: harmonics of degree 1 and 2, 99 % of what a matt surface shows (Ramamoorthi and Hanrahan 2001)
    lamp        5: harmonics of degree 1; the lamp's strength; the sheen

Axes: N points, B rows, K of them harmonics.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

ROWS = {"none": 0, "linear": 3, "quadratic": 8, "lamp": 5}
LAMP, SHEEN = 3, 4  # their rows, where there are ROWS["lamp"]
SHEEN_POWER = 3
MIN_SHADE = 0.05  # the darkest a surface gets; keeps albedo and shade apart where there is no light
TINT_FACTOR = 10.0  # how much less a tint is believed than a shade
DEGREE_FACTOR = 28.0  # how much less a harmonic of degree 2 is believed than one of degree 1; see unevenness


def has_lamp(light: Float[Tensor, "B 3"]) -> bool:
    """Whether rows of coefficients hold a lamp and a sheen."""
    return len(light) == ROWS["lamp"]


def parts(light: Float[Tensor, "B 3"]) -> tuple[Float[Tensor, "K 3"], Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Weights of the harmonics, of the lamp and of the sheen; zeros for a lamp or a sheen that is not there."""
    if has_lamp(light):
        return light[:LAMP], light[LAMP], light[SHEEN]
    return light, light.new_zeros(3), light.new_zeros(3)


def harmonics(normals: Float[Tensor, "*N 3"], count: int) -> Float[Tensor, "*N K"]:
    """The first `count` real spherical harmonics above degree 0, scaled so that each has mean square 1 over the sphere."""
    x, y, z = normals.unbind(-1)
    columns = [3**0.5 * x, 3**0.5 * y, 3**0.5 * z]
    columns += [15**0.5 * x * y, 15**0.5 * y * z, 15**0.5 * z * x]
    columns += [5**0.5 / 2 * (3 * z * z - 1), 15**0.5 / 2 * (x * x - y * y)]
    return torch.stack(columns, dim=-1)[..., :count]


def grazing(facing: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """How much of the sheen a viewer sees: 0 where a point faces them, 1 at the outline and beyond it."""
    return (1 - facing.clamp(0, 1)) ** SHEEN_POWER


def weighed(
    normals_world: Float[Tensor, "N 3"], facing: Float[Tensor, "N"] | None, lamp: Float[Tensor, "N"], count: int
) -> Float[Tensor, "N B"]:
    """What `count` rows of coefficients weigh at each point; arguments as in `shade`."""
    if count != ROWS["lamp"]:
        return harmonics(normals_world, count)
    rim = torch.zeros_like(lamp) if facing is None else grazing(facing)
    return torch.cat([harmonics(normals_world, LAMP), lamp[:, None], rim[:, None]], dim=1)


def shade(
    normals_world: Float[Tensor, "N 3"], facing: Float[Tensor, "N"] | None, lamp: Float[Tensor, "N"], light: Float[Tensor, "B 3"]
) -> Float[Tensor, "N 3"]:
    """Factor on the albedo, per colour channel. Differentiable in the light.

    Without sheen and shadows it averages to 1 over all directions by construction; otherwise albedo and light could trade a
    factor for ever.

    Args:
        normals_world: unit normals.
        facing: cosine between each normal and the direction to the viewer; None for no viewer, who would see no sheen.
        lamp: what each point gets of the lamp's light, from `lamp_share`.
        light: coefficients, see above.
    """
    return (1 + weighed(normals_world, facing, lamp, len(light)) @ light).clamp_min(MIN_SHADE)


def unevenness(light: Float[Tensor, "B 3"]) -> Float[Tensor, ""]:
    """How unlikely a light is: the mean square of each of its parts over all directions, quick changes counted more. Differentiable.

    A still camera sees only surfaces that face it, so the other half of all directions is decided by this term alone:
    whatever the light does beyond the half that was fitted, a person seen from behind shows it.

    Real light varies slowly: from degree to degree of its harmonics the mean square radiance falls about as l^-2 (Dror,
    Willsky and Adelson 2004), and a matt surface passes on 2/3 of degree 1 and 1/4 of degree 2 (Ramamoorthi and Hanrahan
    2001). Together a harmonic of degree 2 has 1/28 of the variance of one of degree 1. A lamp's max(0, n . d) - 1 / 4 has
    mean square 5/48, a sheen's, over the directions in sight, 1 / (2 SHEEN_POWER + 1). A tint counts TINT_FACTOR times.
    """
    others = ((1, 5 / 48), (1, 1 / (2 * SHEEN_POWER + 1))) if has_lamp(light) else ((5, DEGREE_FACTOR),)
    factors = torch.cat([light.new_full((count, 1), factor) for count, factor in ((3, 1.0), *others)])[: len(light)]
    tint = light - light.mean(1, keepdim=True)
    return (factors * (light.square() + TINT_FACTOR * tint.square())).sum() / 3
