"""Stand-ins for the two CUDA packages: they take what the packages take, check it, and draw with the plain torch twin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import torch

from model.camera import Camera
from model.gaussians import Gaussians, Rendered
from model.render.cpu import rasterize_cpu
from model.render.reference import rasterize_reference


def _draw(gaussians: Gaussians, camera: Camera, background: torch.Tensor) -> Rendered:
    """With the twin; what lies on another device goes by way of the compiled rasteriser, which is faster."""
    if gaussians.means.device.type == "cpu":
        return rasterize_reference(gaussians, camera, background)
    drawn = rasterize_cpu(Gaussians(*(part.cpu() for part in vars(gaussians).values())), camera.to("cpu"), background.cpu())
    return Rendered(*(plane.to(background.device) for plane in vars(drawn).values()))


class AuthorsSettings(NamedTuple):
    """The fields of GaussianRasterizationSettings, first published version."""

    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: torch.Tensor
    scale_modifier: float
    viewmatrix: torch.Tensor
    projmatrix: torch.Tensor
    sh_degree: int
    campos: torch.Tensor
    prefiltered: bool
    debug: bool


class AuthorsRasterizer(torch.nn.Module):
    """Reads its settings as the authors' CUDA code does, then draws with the twin."""

    def __init__(self, raster_settings):
        super().__init__()
        self.settings = raster_settings

    def forward(self, means3D, means2D, opacities, shs=None, colors_precomp=None, scales=None, rotations=None, cov3D_precomp=None):
        s = self.settings
        assert shs is None and cov3D_precomp is None and s.scale_modifier == 1
        assert means2D.shape == means3D.shape and opacities.shape == (len(means3D), 1)
        assert torch.equal(rotations, rotations.new_tensor([[1.0, 0.0, 0.0, 0.0]]).expand(len(means3D), 4))
        assert all(x.is_contiguous() for x in (means3D, opacities, colors_precomp, scales, rotations, s.viewmatrix, s.projmatrix))
        w2c = s.viewmatrix.T
        projection = s.projmatrix.T @ torch.linalg.inv(w2c)
        fx, fy = s.image_width / (2 * s.tanfovx), s.image_height / (2 * s.tanfovy)
        # its footprints take the focal length from the field of view, its centres from the matrix: they have to agree
        torch.testing.assert_close(projection[0, 0].item() * s.image_width / 2, fx, rtol=1e-5, atol=0)
        torch.testing.assert_close(projection[1, 1].item() * s.image_height / 2, fy, rtol=1e-5, atol=0)
        cx, cy = (projection[0, 2] + 1) * s.image_width / 2, (projection[1, 2] + 1) * s.image_height / 2
        assert abs(cx - s.image_width / 2) <= 0.51 and abs(cy - s.image_height / 2) <= 0.51  # its clamp assumes a centred view
        torch.testing.assert_close(s.campos, torch.linalg.inv(w2c)[:3, 3])
        K = torch.tensor([[fx, 0, float(cx)], [0, fy, float(cy)], [0, 0, 1]])
        camera = Camera(K, w2c.cpu(), s.image_width, s.image_height)
        drawn = _draw(Gaussians(means3D, scales[:, 0], colors_precomp, opacities[:, 0]), camera, s.bg.detach())
        return drawn.image.permute(2, 0, 1), torch.zeros(len(means3D))


def gsplat_rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height,
    near_plane=0.01, far_plane=1e10, radius_clip=0.0, eps2d=0.3, sh_degree=None, packed=True, tile_size=16,
    backgrounds=None, render_mode="RGB", sparse_grad=False, absgrad=False, rasterize_mode="classic",
):  # fmt: skip
    """Checks shapes as gsplat 1.5.3 does (its signature), then draws with the twin."""
    num_gaussians = len(means)
    assert quats.shape == (num_gaussians, 4) and scales.shape == colors.shape == (num_gaussians, 3)
    assert opacities.shape == (num_gaussians,) and viewmats.shape == (1, 4, 4) and Ks.shape == (1, 3, 3)
    assert near_plane == 0.2 and eps2d == 0.3 and not packed and backgrounds is None and render_mode == "RGB+D"
    camera = Camera(Ks[0], viewmats[0], width, height)
    drawn = _draw(Gaussians(means, scales[:, 0], colors, opacities), camera, means.new_zeros(3))
    return torch.cat([drawn.image, drawn.depth[..., None]], dim=-1)[None], drawn.alpha[None, ..., None], {}


FAKE_PACKAGES = {
    "diff_gaussian_rasterization": SimpleNamespace(
        GaussianRasterizer=AuthorsRasterizer, GaussianRasterizationSettings=AuthorsSettings
    ),
    "gsplat": SimpleNamespace(rasterization=gsplat_rasterization),
}
