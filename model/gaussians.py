"""The primitives that an avatar is made of: isotropic Gaussians without rotation.

Axes: N Gaussians, H x W pixels. Lengths are metres, colours are display (sRGB) values in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """A set of isotropic Gaussians in world space.

    Attributes:
        means: centres, metres.
        scales: standard deviations, metres, positive.
        colors: colours, 0..1.
        opacities: peak opacity, 0..1.
    """

    means: Float[Tensor, "N 3"]
    scales: Float[Tensor, "N"]
    colors: Float[Tensor, "N 3"]
    opacities: Float[Tensor, "N"]


def without_transparent(gaussians: Gaussians) -> Gaussians:
    """The Gaussians that show at all."""
    shown = gaussians.opacities.nonzero()[:, 0]
    parts = (gaussians.means, gaussians.scales, gaussians.colors, gaussians.opacities)
    return Gaussians(*(part.index_select(0, shown) for part in parts))


@dataclass(frozen=True)
class Rendered:
    """What a rasteriser returns for one view.

    Attributes:
        image: colour composited over the background.
        alpha: share of each pixel that the Gaussians cover, 0..1.
        depth: sum of weight * camera z, metres; divide by alpha for the mean depth.
    """

    image: Float[Tensor, "H W 3"]
    alpha: Float[Tensor, "H W"]
    depth: Float[Tensor, "H W"]
