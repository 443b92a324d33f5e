"""Structural similarity of two pictures, fused: value and gradient in one pass over the picture.

Definition: Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, values in 0..1 (Wang et al. 2004); the mean
over the three channels and over the windows that lie wholly inside the picture, without padding.

Axes: H x W pixels, h x w windows (h = H - 10), C channels.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as nnf

WINDOW, SIGMA = 11, 1.5  # pixels
C1, C2 = 0.01**2, 0.03**2


def window_weights() -> np.ndarray:
    """The one-dimensional window; its outer product with itself is the two-dimensional one."""
    x = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(x**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def ssim(image: Float[Tensor, "H W C"], target: Float[Tensor, "H W C"]) -> Float[Tensor, ""]:
    """Mean structural similarity, 1 for equal pictures.

    On the CPU one compiled pass yields value and gradient; elsewhere plain torch is used. Differentiable in `image` only.

    Raises:
        ValueError: the pictures differ in shape or are smaller than the window.
    """
    if image.shape != target.shape or min(image.shape[:2]) < WINDOW:
        raise ValueError(f"expected two pictures of one shape, at least {WINDOW} px a side, came {tuple(image.shape)} and {tuple(target.shape)}")
    if image.device.type == "cpu":
        return _FusedSsim.apply(image, target)
    return ssim_reference(image, target.detach())


def ssim_reference(image: Float[Tensor, "H W C"], target: Float[Tensor, "H W C"]) -> Float[Tensor, ""]:
    """The same in plain torch, in any floating type: the twin that the fused one is tested against."""
    x, y = image.permute(2, 0, 1), target.permute(2, 0, 1)
    planes = torch.cat([x, y, x * x, y * y, x * y])[None]
    count = planes.shape[1]
    weights = torch.as_tensor(window_weights(), dtype=image.dtype, device=image.device).expand(count, 1, 1, -1)
    # one group a plane: PyTorch's own kernel in full precision, where cuDNN's would round to TF32 and lose var_x in its cancellation
    blurred = nnf.conv2d(nnf.conv2d(planes, weights, groups=count), weights.mT.contiguous(), groups=count)
    mu_x, mu_y, square_x, square_y, product = blurred[0].chunk(5)
    var_x, var_y, cov = square_x - mu_x**2, square_y - mu_y**2, product - mu_x * mu_y
    return ((2 * mu_x * mu_y + C1) * (2 * cov + C2) / ((mu_x**2 + mu_y**2 + C1) * (var_x + var_y + C2))).mean()


class _FusedSsim(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, target):
        x, y = (t.detach().permute(2, 0, 1).contiguous().numpy() for t in (image, target))
        value, gradient = _ssim_with_gradient(x, y, window_weights().astype(x.dtype))
        ctx.gradient = torch.from_numpy(gradient).permute(1, 2, 0).contiguous()
        return image.new_tensor(value)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.gradient, None


@numba.njit(cache=True, parallel=True, fastmath={"contract", "nsz", "arcp", "reassoc"})
def _ssim_with_gradient(x, y, weights):
    """With S the similarity of a window and m, p, q the window's means of x, x^2, xy:

    dS/dx_i = sum over windows of  w_i (dS/dm + 2 x_i dS/dp + y_i dS/dq)
    """
    channels, height, width = x.shape
    h, w = height - WINDOW + 1, width - WINDOW + 1
    c1, c2 = x.dtype.type(C1), x.dtype.type(C2)
    two, one = x.dtype.type(2), x.dtype.type(1)
    rows = np.zeros((channels, height, 5, w), x.dtype)
    for job in numba.prange(channels * height):
        c, i = job // height, job % height
        xs, ys, out = x[c, i], y[c, i], rows[c, i]
        for k in range(WINDOW):
            g = weights[k]
            for j in range(w):
                a, b = xs[j + k], ys[j + k]
                out[0, j] += g * a
                out[1, j] += g * b
                out[2, j] += g * a * a
                out[3, j] += g * b * b
                out[4, j] += g * a * b
    slopes = np.zeros((channels, h, 3, w), x.dtype)
    sums = np.zeros(channels * h)
    for job in numba.prange(channels * h):
        c, i = job // h, job % h
        means = np.zeros((5, w), x.dtype)
        for k in range(WINDOW):
            g = weights[k]
            for plane in range(5):
                for j in range(w):
                    means[plane, j] += g * rows[c, i + k, plane, j]
        total = 0.0
        for j in range(w):
            m, n, p, r, q = means[0, j], means[1, j], means[2, j], means[3, j], means[4, j]
            a1, a2 = two * m * n + c1, two * (q - m * n) + c2
            b1, b2 = m * m + n * n + c1, p - m * m + r - n * n + c2
            inverse = one / (b1 * b2)
            s = a1 * a2 * inverse
            total += s
            slopes[c, i, 0, j] = (two * n * (a2 - a1) + two * m * s * (b1 - b2)) * inverse
            slopes[c, i, 1, j] = -s / b2
            slopes[c, i, 2, j] = two * a1 * inverse
        sums[job] = total
    spread = np.zeros((channels, height, 3, w), x.dtype)
    for job in numba.prange(channels * height):
        c, i = job // height, job % height
        for k in range(max(0, i - h + 1), min(WINDOW, i + 1)):
            g = weights[k]
            for plane in range(3):
                for j in range(w):
                    spread[c, i, plane, j] += g * slopes[c, i - k, plane, j]
    gradient = np.zeros_like(x)
    count = channels * h * w
    scale = x.dtype.type(1.0 / count)
    for job in numba.prange(channels * height):
        c, i = job // height, job % height
        fine = np.zeros((3, width), x.dtype)
        for k in range(WINDOW):
            g = weights[k]
            for plane in range(3):
                for j in range(w):
                    fine[plane, j + k] += g * spread[c, i, plane, j]
        for j in range(width):
            gradient[c, i, j] = scale * (fine[0, j] + two * x[c, i, j] * fine[1, j] + y[c, i, j] * fine[2, j])
    return sums.sum() / count, gradient
