"""Gaussian splatting in plain torch: the specification, slow and in any floating-point type.

Axes: N Gaussians, M of them drawable and in front of the camera, P pixels, H x W the picture. Lengths are metres in
the world and pixels on the picture. Gradients are autograd's; see model/render/splatting.py for the constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.camera import Camera
from model.gaussians import Gaussians, Rendered
from model.render.splatting import (
    CUTOFF_SIGMAS,
    DILATION_PX2,
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    NEAR_PLANE_M,
    check_camera,
    is_drawable,
    slope_limits,
)


@dataclass(frozen=True)
class Footprints:
    """Gaussians on the picture, from near to far.

    Attributes:
        centers: projected means, pixels.
        covariances: variance in x, covariance, variance in y; square pixels.
        depths: camera z, metres.
        colors, opacities: as given.
    """

    centers: Float[Tensor, "M 2"]
    covariances: Float[Tensor, "M 3"]
    depths: Float[Tensor, "M"]
    colors: Float[Tensor, "M 3"]
    opacities: Float[Tensor, "M"]

    def select(self, chosen: Bool[Tensor, "M"]) -> Footprints:
        """Keep some of them, in the same order."""
        return Footprints(
            self.centers[chosen], self.covariances[chosen], self.depths[chosen], self.colors[chosen], self.opacities[chosen]
        )


def rasterize_reference(
    gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"], *, tile_px: int | None = None
) -> Rendered:
    """Draw Gaussians in plain torch.

    Args:
        gaussians: what to draw; its type is the type of the computation.
        camera: the view.
        background: colour behind everything, 0..1.
        tile_px: compare each Gaussian only with the square tiles that its footprint touches, this many pixels wide;
            without it, every Gaussian with every pixel. The picture is the same.

    Returns:
        Image, alpha and depth (metres times alpha). Differentiable in the Gaussians and the background.
    """
    check_camera(camera)
    footprints = project_gaussians(gaussians, camera)
    if tile_px is None:
        rows = [_composite_window(footprints, background, 0, 0, camera.width, camera.height)]
    else:
        rows = [
            torch.cat(
                [
                    _composite_tile(footprints, background, x0, y0, min(tile_px, camera.width - x0), min(tile_px, camera.height - y0))
                    for x0 in range(0, camera.width, tile_px)
                ],
                dim=1,
            )
            for y0 in range(0, camera.height, tile_px)
        ]
    planes = torch.cat(rows, dim=0)
    return Rendered(image=planes[..., :3], alpha=planes[..., 3], depth=planes[..., 4])


def project_gaussians(gaussians: Gaussians, camera: Camera) -> Footprints:
    """Project isotropic Gaussians onto the picture, near to far.

        covariance = s^2 J J^T + 0.3 I,  J = [[fx/z, 0, -fx x/z^2], [0, fy/z, -fy y/z^2]]     EWA, Zwicker et al. 2001

    with x/z and y/z clamped in J. The world's rotation drops out because s^2 I looks the same from everywhere.
    """
    camera = camera.to(gaussians.means.device, gaussians.means.dtype)
    drawable = is_drawable(gaussians).nonzero()[:, 0]
    points = camera.to_camera(gaussians.means[drawable])
    in_front = points[:, 2] >= NEAR_PLANE_M
    drawable, points = drawable[in_front], points[in_front]
    order = torch.argsort(points[:, 2].detach(), stable=True)
    drawable, (x, y, z) = drawable[order], points[order].unbind(-1)

    (fx, fy), (cx, cy) = camera.K.diagonal()[:2], camera.K[:2, 2]
    x_min, x_max, y_min, y_max = slope_limits(camera)
    slope_x, slope_y = (x / z).clamp(x_min, x_max), (y / z).clamp(y_min, y_max)
    variance = (gaussians.scales[drawable] / z) ** 2
    covariances = torch.stack(
        [
            variance * fx**2 * (1 + slope_x**2) + DILATION_PX2,
            variance * fx * fy * slope_x * slope_y,
            variance * fy**2 * (1 + slope_y**2) + DILATION_PX2,
        ],
        dim=-1,
    )
    centers = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)
    return Footprints(centers, covariances, z, gaussians.colors[drawable], gaussians.opacities[drawable])


def _composite_tile(
    footprints: Footprints, background: Float[Tensor, "3"], x0: int, y0: int, width: int, height: int
) -> Float[Tensor, "H W 5"]:
    """Composite one window with the Gaussians that can touch it."""
    reach = CUTOFF_SIGMAS * footprints.covariances.detach()[:, ::2].sqrt()
    corner = reach.new_tensor([x0, y0])
    extent = reach.new_tensor([width, height])
    centers = footprints.centers.detach()
    touches = ((centers + reach >= corner) & (centers - reach <= corner + extent)).all(-1)
    return _composite_window(footprints.select(touches), background, x0, y0, width, height)


def _composite_window(
    footprints: Footprints, background: Float[Tensor, "3"], x0: int, y0: int, width: int, height: int
) -> Float[Tensor, "H W 5"]:
    """Composite from near to far at every pixel of a window.

        weight_i = alpha_i prod_{j<i} (1 - alpha_j)        colour = sum_i weight_i c_i + (1 - sum_i weight_i) background

    Returns:
        Colour, alpha and depth of each pixel.
    """
    var_x, cov_xy, var_y = footprints.covariances.unbind(-1)
    determinant = var_x * var_y - cov_xy**2
    like = footprints.centers
    columns = torch.arange(width, dtype=like.dtype, device=like.device) + (x0 + 0.5)
    rows = torch.arange(height, dtype=like.dtype, device=like.device) + (y0 + 0.5)
    dx = (columns[None, :, None] - footprints.centers[:, 0]).expand(height, -1, -1).flatten(0, 1)
    dy = (rows[:, None, None] - footprints.centers[:, 1]).expand(-1, width, -1).flatten(0, 1)
    power = (var_y * dx**2 - 2 * cov_xy * dx * dy + var_x * dy**2) / (2 * determinant)

    raw = footprints.opacities * torch.exp(-power)
    alpha = raw + (raw.clamp(max=MAX_ALPHA) - raw).detach()  # the gradient passes through the clamp
    drawn = (power <= CUTOFF_SIGMAS**2 / 2) & (alpha >= MIN_ALPHA)
    alpha = torch.where(drawn, alpha, 0.0)
    unfinished = torch.cumprod(1 - alpha.detach(), dim=-1) >= MIN_TRANSMITTANCE
    alpha = torch.where(unfinished, alpha, 0.0)
    passed = torch.cumprod(1 - alpha, dim=-1)
    before = torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], dim=-1)
    weights = alpha * before

    values = torch.cat([footprints.colors, torch.ones_like(like[:, :1]), footprints.depths[:, None]], dim=-1)
    planes = weights @ values
    behind = torch.cat([background.to(planes.dtype), planes.new_zeros(2)])
    return (planes + (1 - planes[:, 3:4]) * behind).unflatten(0, (height, width))
