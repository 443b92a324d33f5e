"""Views that are finer than the clip: no Gaussian is drawn smaller than the clip could show.

A scale s was fitted by what the rasteriser drew, a variance of s^2 + DILATION_PX2 p^2 with p the size of a pixel at the
person. Seen from nearer, or in a larger picture, the dilation falls short of that, and gaps open between points that the clip
could not tell apart; what falls short is added here. After the 3-D smoothing filter of Mip-Splatting (Yu et al. 2024), with
one p for all points, that of the root joint in the nearest frame: in the clip's own pictures what lies before it grows by a few
hundredths of a square pixel.

Axes: N points.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model.camera import Camera
from model.render.splatting import DILATION_PX2


def resolved_scales(
    means: Float[Tensor, "N 3"], scales: Float[Tensor, "N"], camera: Camera, pixel_size: Float[Tensor, ""]
) -> Float[Tensor, "N"]:
    """Standard deviations for a view, metres. Differentiable in the scales.

    Args:
        means: in the world, metres.
        camera: the view; nothing changes for points at which its pixels are no smaller than `pixel_size`.
        pixel_size: of the clip, at the person, metres; 0 changes nothing.
    """
    if means.device.type != "cpu" or means.dtype != torch.float32 or (scales.requires_grad and torch.is_grad_enabled()):
        return resolved_scales_reference(means, scales, camera, pixel_size)
    depth_row, focal = camera.w2c[2].double().numpy(), float(camera.K[0, 0])
    found = np.empty(len(scales), np.float32)
    _resolve(means.detach().contiguous().numpy(), scales.detach().contiguous().numpy(), depth_row / focal, float(pixel_size), found)
    return torch.from_numpy(found)


def resolved_scales_reference(
    means: Float[Tensor, "N 3"], scales: Float[Tensor, "N"], camera: Camera, pixel_size: Float[Tensor, ""]
) -> Float[Tensor, "N"]:
    """The same in plain torch."""
    here = camera.to(means.device, means.dtype)
    pixel = here.to_camera(means.detach())[:, 2] / here.K[0, 0]
    return (scales.square() + DILATION_PX2 * (pixel_size.square() - pixel.square()).clamp_min(0)).sqrt()


def lasting_scales(scales: Float[Tensor, "N"], pixel_size: Float[Tensor, ""]) -> Float[Tensor, "N"]:
    """Standard deviations that leave no gaps from however near they are seen, for programs that know no `resolved_scales`; metres."""
    return (scales.square() + DILATION_PX2 * pixel_size.square()).sqrt()


@numba.njit(nogil=True, cache=True)
def _resolve(means, scales, row, pixel_size, found):
    """In one pass: torch's threads would go on spinning, and the rasteriser's wait for them."""
    for i in range(len(scales)):
        pixel = row[0] * means[i, 0] + row[1] * means[i, 1] + row[2] * means[i, 2] + row[3]
        short = max(pixel_size**2 - pixel**2, 0.0)
        found[i] = np.sqrt(scales[i] ** 2 + DILATION_PX2 * short)
