"""Light fixed in the world, of low order: what makes a turning person change shade.

A surface point shows albedo times shade, and the shade of a matt surface under distant light depends on its normal alone;
nine spherical harmonics carry 99 % of it (Ramamoorthi and Hanrahan 2001). Colours here are display values; a product stays
a product under gamma, so the shade is modelled there too.

Axes: N points, B basis functions: 1, 4 or 9 for degree 0, 1 or 2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

MIN_SHADE = 0.05  # the darkest a surface gets; keeps albedo and shade apart where there is no light


def harmonics(normals: Float[Tensor, "*N 3"], degree: int) -> Float[Tensor, "*N B"]:
    """Real spherical harmonics up to a degree of 2, scaled so that each has mean square 1 over the sphere."""
    x, y, z = normals.unbind(-1)
    columns = [torch.ones_like(x)]
    if degree >= 1:
        columns += [3**0.5 * x, 3**0.5 * y, 3**0.5 * z]
    if degree >= 2:
        columns += [15**0.5 * x * y, 15**0.5 * y * z, 15**0.5 * z * x]
        columns += [5**0.5 / 2 * (3 * z * z - 1), 15**0.5 / 2 * (x * x - y * y)]
    return torch.stack(columns, dim=-1)


class Light(nn.Module):
    """Shade of one clip: mean 1 over all directions, per colour channel."""

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree
        self.coefficients = nn.Parameter(torch.zeros((degree + 1) ** 2 - 1, 3))

    def shade(self, normals_world: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Factor on the albedo: 1 + the harmonics above degree 0. Differentiable in the coefficients.

        The constant term is 1 by construction, or albedo and light could trade a factor for ever.
        """
        basis = harmonics(normals_world, self.degree)[:, 1:]
        return (1 + basis @ self.coefficients).clamp_min(MIN_SHADE)
