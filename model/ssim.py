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


def window_weights_on(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "11"]:
    """The same as a tensor, computed where it is needed: a copy would wait for a GPU."""
    x = torch.arange(WINDOW, dtype=dtype, device=device) - WINDOW // 2
    weights = torch.exp(-x.square() / (2 * SIGMA**2))
    return weights / weights.sum()


def ssim(image: Float[Tensor, "H W C"], target: Float[Tensor, "H W C"]) -> Float[Tensor, ""]:
    """Mean structural similarity, 1 for equal pictures.

    On the CPU one compiled pass yields value and gradient, elsewhere a few passes of plain torch. Differentiable in `image` only.

    Raises:
        ValueError: the pictures differ in shape or are smaller than the window.
    """
    if image.shape != target.shape or min(image.shape[:2]) < WINDOW:
        raise ValueError(f"expected two pictures of one shape, at least {WINDOW} px a side, came {tuple(image.shape)} and {tuple(target.shape)}")
    return (_FusedSsim if image.device.type == "cpu" else SsimInPasses).apply(image, target)


def ssim_reference(image: Float[Tensor, "H W C"], target: Float[Tensor, "H W C"]) -> Float[Tensor, ""]:
    """The same in plain torch, in any floating type: the twin that the fused one is tested against."""
    weights = window_weights_on(image.device, image.dtype)
    x, y = image.permute(2, 0, 1)[:, None], target.permute(2, 0, 1)[:, None]

    def blur(planes: Tensor) -> Tensor:
        return nnf.conv2d(nnf.conv2d(planes, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))

    mu_x, mu_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mu_x**2, blur(y * y) - mu_y**2, blur(x * y) - mu_x * mu_y
    return ((2 * mu_x * mu_y + C1) * (2 * cov + C2) / ((mu_x**2 + mu_y**2 + C1) * (var_x + var_y + C2))).mean()


class SsimInPasses(torch.autograd.Function):
    """Value and gradient in plain torch, with a third of the operations that autograd would record: a GPU waits for each of them.

    The formulas are those of `_ssim_with_gradient`. Each plane is a group of its own in the convolutions: that takes PyTorch's
    kernel in full precision, where cuDNN's would round to TF32 and lose the variances in their cancellation.
    """

    @staticmethod
    def forward(ctx, image, target):
        x, y = image.detach().permute(2, 0, 1), target.detach().permute(2, 0, 1)
        weights = window_weights_on(image.device, image.dtype)
        m, n, p, r, q = _blur(torch.cat([x, y, x * x, y * y, x * y]), weights).chunk(5)
        mn, squares = m * n, m * m + n * n
        a1, a2 = (2 * mn).add_(C1), torch.sub(q, mn).mul_(2).add_(C2)
        b1, b2 = squares + C1, (p + r).sub_(squares).add_(C2)
        inverse = (b1 * b2).reciprocal_()
        s = a1 * a2 * inverse
        if ctx.needs_input_grad[0]:
            by_mean = (n * (a2 - a1) + m * s * (b1 - b2)).mul_(inverse).mul_(2)
            slopes = torch.cat([by_mean, -s / b2, (a1 * inverse).mul_(2)])
            by_m, by_p, by_q = _blur(nnf.pad(slopes, [WINDOW - 1] * 4), weights).chunk(3)
            ctx.gradient = ((by_m + 2 * x * by_p + y * by_q) / s.numel()).permute(1, 2, 0)
        return s.mean()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.gradient, None


def _blur(planes: Float[Tensor, "P H W"], weights: Float[Tensor, "11"]) -> Float[Tensor, "P h w"]:
    """Each plane averaged under the window, where that lies wholly inside."""
    count = len(planes)
    rows = nnf.conv2d(planes[None], weights.expand(count, 1, 1, -1), groups=count)
    return nnf.conv2d(rows, weights.view(1, 1, -1, 1).expand(count, -1, -1, -1), groups=count)[0]


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


@numba.njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract"})  # sums keep their order: see model/decoding.py
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
