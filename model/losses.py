"""What training minimises: distances between pictures, and terms that keep the avatar and its motion plausible.

Axes: H x W pixels, N surface points, L neighbours of a point, C channels, F frames, J joints. Pictures are 0..1, lengths metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.avatar import Attributes
from model.lpips import Lpips
from model.ssim import ssim


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; 0 leaves a term out.

    Attributes:
        l1, ssim, lpips: distances between the rendered and the masked picture; LPIPS joins after `lpips_after` of the steps.
        alpha: mean absolute difference of rendered coverage and mask.
        offset: mean squared offset, m^2; it is multiplied by `offset_decay` at every tenth of the steps.
        offset_smooth: mean squared difference of an offset from those around it, m^2.
        color_smooth: mean squared difference of a point's free colour (logits) from those around it.
        feature: mean squared entry of the feature tensor.
        scale: mean scale, m.
        light: mean squared departure of the shade from 1, over all directions (model/light.py).
        pose_feature: mean squared pose feature (stage 2).
        pose_prior: mean squared joint correction, rad^2, times the fit's confidence in frame and joint.
        pose_smooth: mean squared difference of a frame's correction from those before and after, rad^2 (and 10 cm units
            for the shift), at 25 frames a second.
        foot_slide: mean squared distance of feet that rest from where they rest, m^2 (model/planted_feet.py).
    """

    l1: float
    ssim: float
    lpips: float
    lpips_after: float
    alpha: float
    offset: float
    offset_decay: float
    offset_smooth: float
    color_smooth: float
    feature: float
    scale: float
    light: float
    pose_feature: float
    pose_prior: float
    pose_smooth: float
    foot_slide: float


def picture_loss(
    image: Float[Tensor, "H W 3"],
    alpha: Float[Tensor, "H W"],
    target: Float[Tensor, "H W 3"],
    mask: Float[Tensor, "H W"],
    weights: LossWeights,
    *,
    lpips: Lpips | None,
) -> Float[Tensor, ""]:
    """Weighted distance of a rendered picture and its coverage to target and mask, all over the same background. Differentiable."""
    loss = weights.l1 * (image - target).abs().mean()
    if weights.ssim:
        loss = loss + weights.ssim * (1 - ssim(image, target))
    if weights.alpha:
        loss = loss + weights.alpha * (alpha - mask).abs().mean()
    if lpips is not None and weights.lpips:
        loss = loss + weights.lpips * lpips(image, target)
    return loss


def surface_loss(
    attributes: Attributes, neighbours: Int[Tensor, "N L"], weights: LossWeights, *, progress: float | Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """What keeps points near the body, their offsets smooth and their sizes small. Differentiable.

    Args:
        progress: share of the training that is done, for the decay of the offset's weight.
    """
    offsets = attributes.offsets
    loss = weights.offset * weights.offset_decay ** (10 * progress) * offsets.square().mean()
    if weights.offset_smooth:
        loss = loss + weights.offset_smooth * roughness(offsets, neighbours)
    return loss + weights.scale * attributes.scales.mean()


def roughness(values: Float[Tensor, "N C"], neighbours: Int[Tensor, "N L"]) -> Float[Tensor, ""]:
    """Mean squared difference of each point from the mean of the points around it (the graph's Laplacian). Differentiable."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return roughness_reference(values, neighbours)
    return _Roughness.apply(values, neighbours)


def roughness_reference(values: Float[Tensor, "N C"], neighbours: Int[Tensor, "N L"]) -> Float[Tensor, ""]:
    """The same in plain torch."""
    around = values.index_select(0, neighbours.flatten()).view(*neighbours.shape, -1).mean(1)
    return (values - around).square().mean()


class _Roughness(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, neighbours):
        around = neighbours.contiguous().numpy()
        departures = np.empty(values.shape, np.float32)
        total = _departures(values.detach().contiguous().numpy(), around, departures)
        ctx.arrays = departures, around
        return values.new_tensor(total / departures.size)

    @staticmethod
    def backward(ctx, grad):
        departures, around = ctx.arrays
        found = np.zeros_like(departures)
        _spread_departures(departures, around, np.float32(2 * float(grad) / departures.size), found)
        return torch.from_numpy(found), None


@numba.njit(nogil=True, cache=True)
def _departures(values, neighbours, out):
    """Write how far each point is from the mean around it; return the sum of the squares."""
    count, channels = values.shape
    share = np.float32(1) / neighbours.shape[1]
    total = 0.0
    for i in range(count):
        for c in range(channels):
            mean = np.float32(0)
            for k in range(neighbours.shape[1]):
                mean += values[neighbours[i, k], c]
            away = values[i, c] - mean * share
            out[i, c] = away
            total += away * away
    return total


@numba.njit(nogil=True, cache=True)
def _spread_departures(departures, neighbours, factor, out):
    """Add each point's departure to itself and take its share from those around it."""
    count, channels = departures.shape
    share = np.float32(1) / neighbours.shape[1]
    for i in range(count):
        for c in range(channels):
            slope = factor * departures[i, c]
            out[i, c] += slope
            for k in range(neighbours.shape[1]):
                out[neighbours[i, k], c] -= slope * share


def random_background(generator: torch.Generator) -> Float[Tensor, "3"]:
    """One colour, uniform in the cube: what is behind the person must not matter."""
    return torch.rand(3, generator=generator)


def composite(
    image: Float[Tensor, "H W 3"], mask: Float[Tensor, "H W"], background: Float[Tensor, "3"]
) -> Float[Tensor, "H W 3"]:
    """The person of a picture in front of one colour."""
    return image * mask[..., None] + background * (1 - mask[..., None])
