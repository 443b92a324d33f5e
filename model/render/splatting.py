"""What splatting means in this project: the constants that every backend shares.

The formulas are those of 3D Gaussian splatting (Kerbl et al. 2023), with EWA projection (Zwicker et al. 2001), for
isotropic Gaussians. model/render/reference.py writes them out; the other backends compute the same thing faster.

**What is drawn.** A Gaussian at camera position (x, y, z) with standard deviation s has on the picture the covariance
`s^2 J J^T + DILATION_PX2 I`, where J is the derivative of the projection. In J alone, x/z and y/z are held to the
picture's field of view plus CLAMP_MARGIN of half its extent on each side. Its opacity at a pixel centre is
`alpha = min(MAX_ALPHA, opacity exp(-p))`, with p half the squared Mahalanobis distance, where p <= CUTOFF_SIGMAS^2 / 2
and alpha >= MIN_ALPHA; elsewhere it is 0. Gaussians are composited from near to far by camera z, ties by index, and a
pixel is finished by the first Gaussian that would take its transmittance under MIN_TRANSMITTANCE, which is not drawn.

**What is skipped.** A Gaussian nearer than NEAR_PLANE_M, behind the camera, or with a non-finite mean, scale, colour or
opacity draws nothing and gets gradient zero. A scale of zero draws a dot of the dilation's size.

**Gradients** flow to means, scales, colours, opacities and background, from image, alpha and depth; the camera gets
none. They pass through `min(MAX_ALPHA, .)` as if it were not there, as the authors' CUDA code does, so that an opaque
Gaussian still learns from the pixels at its centre; the cut-offs and the order pass nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from model.camera import Camera
from model.gaussians import Gaussians

NEAR_PLANE_M = 0.2  # metres; fixed in the authors' CUDA code
DILATION_PX2 = 0.3  # square pixels, added to both variances so that no Gaussian falls between pixels
CLAMP_MARGIN = 0.3  # of half the picture: for a centred view the authors' 1.3 tan(fov / 2)
CUTOFF_SIGMAS = 3.0  # standard deviations, the extent of a footprint
MAX_ALPHA = 0.99  # keeps 1 - alpha away from zero
MIN_ALPHA = 1.0 / 255.0  # fainter than one step of an 8-bit picture
MIN_TRANSMITTANCE = 1e-4  # what lies behind cannot be seen


def is_drawable(gaussians: Gaussians) -> Bool[Tensor, "N"]:
    """Tell the Gaussians whose every number is finite; the others are skipped."""
    finite = torch.isfinite(gaussians.means).all(-1) & torch.isfinite(gaussians.colors).all(-1)
    return finite & torch.isfinite(gaussians.scales) & torch.isfinite(gaussians.opacities)


def slope_limits(camera: Camera) -> tuple[float, float, float, float]:
    """Bounds of x/z and y/z inside J: (x_min, x_max, y_min, y_max).

    They follow the picture's own edges, so a window cut from a picture keeps the footprints of the whole.
    """
    fx, fy, cx, cy = (float(camera.K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    margin_x, margin_y = CLAMP_MARGIN * camera.width / (2 * fx), CLAMP_MARGIN * camera.height / (2 * fy)
    return -cx / fx - margin_x, (camera.width - cx) / fx + margin_x, -cy / fy - margin_y, (camera.height - cy) / fy + margin_y


def check_camera(camera: Camera) -> None:
    """Refuse intrinsics that the splatting formulas do not cover.

    Raises:
        ValueError: the picture is empty, a focal length is not positive, or K has skew.
    """
    if camera.width < 1 or camera.height < 1:
        raise ValueError(f"a picture needs at least one pixel, but the camera has {camera.width} x {camera.height}")
    fx, skew, fy = float(camera.K[0, 0]), float(camera.K[0, 1]), float(camera.K[1, 1])
    if not (fx > 0 and fy > 0):
        raise ValueError(f"focal lengths must be positive, but K has fx = {fx} and fy = {fy} pixels")
    if skew != 0:
        raise ValueError(f"the rasteriser takes no skew, but K[0, 1] = {skew} pixels; undistort the picture first")
