"""The two CUDA backends: the authors' diff-gaussian-rasterization and gsplat. This is the one file that calls them.

Axes: N Gaussians, H x W pixels. float32, tensors on the GPU. The packages are imported on first use; neither is needed
for anything else in the project. What they compute differs from model/render/splatting.py in a few places:

| | diff-gaussian-rasterization | gsplat 1.5.3 |
|---|---|---|
| extent of a footprint | 3 standard deviations, rounded to tiles of 16 pixels | 3.33 standard deviations |
| a tile of which only the first row or column is reached | left out | drawn |
| largest alpha | 0.99, gradient passes | 0.999, no gradient above it |
| x/z and y/z in J | clamped about the picture's centre | the same |

so pictures of opaque Gaussians agree to about one grey level, not to rounding. Where every footprint is fainter than 1/255
before it ends, all are equal: on an H200 gsplat was within 1e-7 of plain float64 torch in the mean, its gradients within 4e-4, and
the authors' code as well but for the pixels of the second row (`benchmarks/reports/gpu.json`).
"""

from __future__ import annotations

import math
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from model.camera import Camera
from model.gaussians import Gaussians, Rendered
from model.render.splatting import DILATION_PX2, NEAR_PLANE_M, check_camera

FAR_PLANE_M = 1000.0  # only shapes the z row of the projection, which neither package uses


def rasterize_diff_gaussian(
    gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"], package: ModuleType
) -> Rendered:
    """Draw Gaussians with the authors' CUDA code.

    The package returns colours alone, and no gradient of the background. So it runs twice over black, once with the
    colours and once with (1, z, 0) in their place, which gives alpha and depth; the background is added here. Its
    footprints assume that the optical axis meets the middle of the picture, so a view that is off centre is drawn on the
    smallest canvas that is centred, and its window cut out.

    Args:
        gaussians, camera, background: as in `rasterize`, on the GPU.
        package: the imported `diff_gaussian_rasterization`.

    Returns:
        Image, alpha and depth (metres times alpha). Differentiable in the Gaussians and the background.
    """
    check_camera(camera)
    gaussians, device = _hide_undrawable(gaussians), gaussians.means.device
    canvas, left, top = centered_canvas(camera.to(dtype=torch.float32))
    rasterizer = package.GaussianRasterizer(_diff_gaussian_settings(canvas, device, package))
    rows, columns = slice(top, top + camera.height), slice(left, left + camera.width)

    def draw(values: Float[Tensor, "N 3"]) -> Float[Tensor, "H W 3"]:
        picture = rasterizer(
            means3D=gaussians.means.contiguous(),
            means2D=torch.zeros_like(gaussians.means, requires_grad=torch.is_grad_enabled()),
            opacities=gaussians.opacities[:, None].contiguous(),
            colors_precomp=values.contiguous(),
            scales=gaussians.scales[:, None].expand(-1, 3).contiguous(),
            rotations=_identity_quaternions(gaussians.means),
        )[0]
        return picture.permute(1, 2, 0)[rows, columns]

    z = camera.to(device, torch.float32).to_camera(gaussians.means)[:, 2]
    color = draw(gaussians.colors)
    alpha, depth, _ = draw(torch.stack([torch.ones_like(z), z, torch.zeros_like(z)], dim=-1)).unbind(-1)
    return Rendered(color + (1 - alpha[..., None]) * background, alpha, depth)


def rasterize_gsplat(gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"], package: ModuleType) -> Rendered:
    """Draw Gaussians with gsplat.

    Args:
        gaussians, camera, background: as in `rasterize`, on the GPU.
        package: the imported `gsplat`.

    Returns:
        Image, alpha and depth (metres times alpha). Differentiable in the Gaussians and the background.
    """
    check_camera(camera)
    gaussians, camera = _hide_undrawable(gaussians), camera.to(gaussians.means.device, torch.float32, non_blocking=True)
    planes, alphas, _ = package.rasterization(
        means=gaussians.means.contiguous(),
        quats=_identity_quaternions(gaussians.means),
        scales=gaussians.scales[:, None].expand(-1, 3).contiguous(),
        opacities=gaussians.opacities.contiguous(),
        colors=gaussians.colors.contiguous(),
        viewmats=camera.w2c[None].contiguous(),
        Ks=camera.K[None].contiguous(),
        width=camera.width,
        height=camera.height,
        near_plane=NEAR_PLANE_M,
        eps2d=DILATION_PX2,
        packed=False,
        render_mode="RGB+D",
    )
    alpha = alphas[0, ..., 0]
    return Rendered(planes[0, ..., :3] + (1 - alpha[..., None]) * background, alpha, planes[0, ..., 3])


def centered_canvas(camera: Camera) -> tuple[Camera, int, int]:
    """The smallest picture around a view whose middle is within half a pixel of the principal point.

    Returns:
        The larger view, and the column and row where the window of the given one starts in it.
    """
    cx, cy = float(camera.K[0, 2]), float(camera.K[1, 2])
    left, right = math.floor(max(0.0, camera.width - 2 * cx) + 0.5), math.floor(max(0.0, 2 * cx - camera.width) + 0.5)
    top, bottom = math.floor(max(0.0, camera.height - 2 * cy) + 0.5), math.floor(max(0.0, 2 * cy - camera.height) + 0.5)
    return camera.crop(-left, -top, camera.width + left + right, camera.height + top + bottom), left, top


def projection_matrix(camera: Camera) -> Float[Tensor, "4 4"]:
    """Camera axes to normalised device coordinates: the left picture edge at x = -1, the right at 1, the top at y = -1.

        x_ndc = 2 (fx x/z + cx) / width - 1

    The authors' code puts pixel i's centre at i and maps x_ndc to ((x_ndc + 1) width - 1) / 2, which is u - 1/2 in our
    convention: the same place. Built from all of K, so any principal point is right.
    """
    K, near, far = camera.K, NEAR_PLANE_M, FAR_PLANE_M
    projection = torch.zeros(4, 4, dtype=K.dtype, device=K.device)
    projection[0, 0], projection[0, 2] = 2 * K[0, 0] / camera.width, 2 * K[0, 2] / camera.width - 1
    projection[1, 1], projection[1, 2] = 2 * K[1, 1] / camera.height, 2 * K[1, 2] / camera.height - 1
    projection[2, 2], projection[2, 3] = far / (far - near), -far * near / (far - near)
    projection[3, 2] = 1
    return projection


def _diff_gaussian_settings(camera: Camera, device: torch.device, package: ModuleType):
    """The view as the authors' code wants it: matrices transposed, for row vectors, on the GPU."""
    fields = dict(
        image_height=camera.height,
        image_width=camera.width,
        tanfovx=camera.width / (2 * float(camera.K[0, 0])),
        tanfovy=camera.height / (2 * float(camera.K[1, 1])),
        bg=torch.zeros(3, device=device),
        scale_modifier=1.0,
        viewmatrix=camera.w2c.T.contiguous().to(device),
        projmatrix=(projection_matrix(camera) @ camera.w2c).T.contiguous().to(device),
        sh_degree=0,
        campos=camera.eye.to(device),
        prefiltered=False,
        debug=False,
        antialiasing=False,  # a field of later versions
    )
    known = package.GaussianRasterizationSettings._fields
    return package.GaussianRasterizationSettings(**{name: value for name, value in fields.items() if name in known})


def _hide_undrawable(gaussians: Gaussians) -> Gaussians:
    """Give Gaussians with a non-finite number harmless values and no opacity; their gradient is zero."""
    numbers = torch.cat([gaussians.means, gaussians.colors, gaussians.scales[:, None], gaussians.opacities[:, None]], dim=1).float()
    numbers = torch.where(torch.isfinite(numbers).all(1, keepdim=True), numbers, 0.0)
    means, colors, scales, opacities = numbers.split((3, 3, 1, 1), dim=1)
    return Gaussians(means, scales[:, 0], colors, opacities[:, 0])


def _identity_quaternions(means: Float[Tensor, "N 3"]) -> Float[Tensor, "N 4"]:
    """No rotation, real part first."""
    turns = means.new_zeros(len(means), 4)
    turns[:, 0] = 1
    return turns
