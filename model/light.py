"""Light fixed in the world, of low order: what makes a turning person change shade.

A surface point shows albedo times shade, and the shade of a matt surface under distant light depends on its normal alone;
nine spherical harmonics carry 99 % of it (Ramamoorthi and Hanrahan 2001). Colours here are display values; a product stays
a product under gamma, so the shade is modelled there too.

Axes: N points, B harmonics above degree 0: none, 3 or 8 for degree 0, 1 or 2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MIN_SHADE = 0.05  # the darkest a surface gets; keeps albedo and shade apart where there is no light
TINT_FACTOR = 10.0  # how much less a tint is believed than a shade
DEGREE_FACTOR = 28.0  # how much less a harmonic of degree 2 is believed than one of degree 1; see unevenness


def harmonics(normals: Float[Tensor, "*N 3"], count: int) -> Float[Tensor, "*N B"]:
    """The first `count` real spherical harmonics above degree 0, scaled so that each has mean square 1 over the sphere."""
    x, y, z = normals.unbind(-1)
    columns = [3**0.5 * x, 3**0.5 * y, 3**0.5 * z]
    columns += [15**0.5 * x * y, 15**0.5 * y * z, 15**0.5 * z * x]
    columns += [5**0.5 / 2 * (3 * z * z - 1), 15**0.5 / 2 * (x * x - y * y)]
    return torch.stack(columns, dim=-1)[..., :count]


def shade(normals_world: Float[Tensor, "N 3"], light: Float[Tensor, "B 3"]) -> Float[Tensor, "N 3"]:
    """Factor on the albedo, per colour channel: 1 plus the weighted harmonics. Differentiable in both.

    The constant term is 1 by construction, so the mean over all directions is too; otherwise albedo and light could trade
    a factor for ever.
    """
    return (1 + harmonics(normals_world, light.shape[0]) @ light).clamp_min(MIN_SHADE)


def unevenness(light: Float[Tensor, "B 3"]) -> Float[Tensor, ""]:
    """How unlikely a light is: the mean square of shade - 1 over all directions, quick changes counted more. Differentiable.

    A still camera sees only surfaces that face it, so the other half of all directions is decided by this term alone:
    whatever the harmonics do beyond the half that was fitted, a person seen from behind shows it.

    Real light varies slowly: from degree to degree of its harmonics the mean square radiance falls about as l^-2 (Dror,
    Willsky and Adelson 2004), and a matt surface passes on 2/3 of degree 1 and 1/4 of degree 2 (Ramamoorthi and Hanrahan
    2001). Together a harmonic of degree 2 has 1/28 of the variance of one of degree 1. A tint counts TINT_FACTOR times.
    """
    factors = torch.cat([light.new_ones(3, 1), light.new_full((5, 1), DEGREE_FACTOR)])[: light.shape[0]]
    tint = light - light.mean(1, keepdim=True)
    return (factors * (light.square() + TINT_FACTOR * tint.square())).sum() / 3


def num_harmonics(degree: int) -> int:
    """How many harmonics above degree 0 a light of some degree has."""
    return (degree + 1) ** 2 - 1
