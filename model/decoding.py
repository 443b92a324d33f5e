"""The decoder's steps as fast as they go: reading features at the points, products, and batch normalisation with its activation.

Activations are [C, N]: one channel is one row, so that sums over points and the sums of a matrix product both run along
memory. Each compiled function has a plain torch twin of the same name with `_reference`.

Sums have an order that no compiler may change: numba optimises what it compiles with
parallel=True otherwise when it is fresh than when it comes from its cache (its issue 10617), and with sums in any order the first
training on a machine would differ from the next.

Axes: C channels, N points, G texels per side of the feature map.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as nnf

EPSILON = 1e-5  # added to the variance, as in torch's BatchNorm
LANES = 32  # sums kept beside each other: their order is fixed, and they fill a core's vectors


# ------------------------------------------------------------------------------------------------- reading features


def bilinear_corners(uv: Float[Tensor, "N 2"], side: int) -> tuple[Int[Tensor, "N 4"], Float[Tensor, "N 4"]]:
    """Which four texels each point reads, and by which shares; texel centres lie at (j + 0.5) / G, borders repeat."""
    place = (uv * side - 0.5).clamp(0, side - 1)
    low = place.floor().clamp(max=side - 2).long()
    fraction = place - low
    texels = [(low[:, 1] + i) * side + low[:, 0] + j for i in (0, 1) for j in (0, 1)]
    x, y = fraction[:, 0], fraction[:, 1]
    return torch.stack(texels, dim=1), torch.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], dim=1)


def read_features(
    feature_map: Float[Tensor, "C G G"], corners: Int[Tensor, "N 4"], shares: Float[Tensor, "N 4"]
) -> Float[Tensor, "C N"]:
    """Bilinear samples of a feature map at the points. Differentiable in the map."""
    if feature_map.device.type != "cpu":
        return read_features_reference(feature_map, corners, shares)
    return _ReadFeatures.apply(feature_map, corners, shares)


def read_features_reference(feature_map: Tensor, corners: Tensor, shares: Tensor) -> Tensor:
    """The same in plain torch."""
    texels = feature_map.flatten(1)  # one corner at a time: its gradient is then an index_add, which a GPU does ten times faster
    return sum(texels.index_select(1, corner) * share for corner, share in zip(corners.unbind(1), shares.unbind(1), strict=True))


class _ReadFeatures(torch.autograd.Function):
    @staticmethod
    def forward(ctx, feature_map, corners, shares):
        ctx.where, ctx.shape = (corners.numpy(), shares.numpy()), feature_map.shape
        texels = feature_map.detach().flatten(1).contiguous().numpy()
        return torch.from_numpy(_gather(texels, *ctx.where))

    @staticmethod
    def backward(ctx, grad):
        size = ctx.shape[1] * ctx.shape[2]
        return torch.from_numpy(_scatter(grad.contiguous().numpy(), *ctx.where, size)).view(ctx.shape), None, None


@numba.njit(cache=True, parallel=True)
def _gather(texels, corners, shares):
    channels, count = texels.shape[0], len(corners)
    out = np.empty((channels, count), texels.dtype)
    for c in numba.prange(channels):
        row = texels[c]
        for i in range(count):
            out[c, i] = (
                shares[i, 0] * row[corners[i, 0]]
                + shares[i, 1] * row[corners[i, 1]]
                + shares[i, 2] * row[corners[i, 2]]
                + shares[i, 3] * row[corners[i, 3]]
            )
    return out


@numba.njit(cache=True, parallel=True)
def _scatter(grad, corners, shares, size):
    channels, count = grad.shape
    out = np.zeros((channels, size), grad.dtype)
    for c in numba.prange(channels):
        row = out[c]
        for i in range(count):
            g = grad[c, i]
            for k in range(4):
                row[corners[i, k]] += g * shares[i, k]
    return out


# --------------------------------------------------------------------------------------------------------- products


def mix(weight: Float[Tensor, "D C"], x: Float[Tensor, "C N"]) -> Float[Tensor, "D N"]:
    """The matrix product of a layer. Differentiable.

    On a GPU its factors are rounded to TF32, which is four times faster and enough for a layer that is normalised; products
    elsewhere keep float32, for places in space need it.
    """
    return weight @ x if x.device.type != "cuda" else RoundedProduct.apply(weight, x)


class RoundedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, x):
        ctx.save_for_backward(weight, x)
        with _tf32():
            return weight @ x

    @staticmethod
    def backward(ctx, grad):
        weight, x = ctx.saved_tensors
        to_weight, to_x = ctx.needs_input_grad
        with _tf32():
            return grad @ x.T if to_weight else None, weight.T @ grad if to_x else None


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    """TF32 products on a GPU for the length of a block."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


# ---------------------------------------------------------------------------------------------------- normalisation


def normalise(
    x: Float[Tensor, "C N"], weight: Float[Tensor, "C"], bias: Float[Tensor, "C"], *, relu: bool
) -> tuple[Float[Tensor, "C N"], Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Batch normalisation over the points, and ReLU where asked for.

    Returns:
        The result, and mean and variance of each channel (no gradient through these two).
    """
    if x.device.type == "cpu":
        return _Normalise.apply(x, weight, bias, relu)
    y, mean, variance = NormaliseInPasses.apply(x, weight, bias)
    return nnf.relu(y) if relu else y, mean, variance


def normalise_reference(x: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same in plain torch."""
    variance, mean = torch.var_mean(x, dim=1, correction=0)
    y = (x - mean[:, None]) * (weight / (variance + EPSILON).sqrt())[:, None] + bias[:, None]
    return nnf.relu(y) if relu else y, mean.detach(), variance.detach()


class NormaliseInPasses(torch.autograd.Function):
    """Normalisation, without ReLU, for any device, in as few passes over memory as plain torch can.

    cuDNN's and PyTorch's own are made for many pictures of many channels; PyTorch's took 1.6 times as long for 158,580 points on an H200.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        variance, mean = torch.var_mean(x, dim=1, correction=0)
        inverse = (variance + EPSILON).rsqrt()
        gain = weight * inverse
        ctx.save_for_backward(x, mean, inverse, gain)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul((bias - mean * gain)[:, None], x, gain[:, None]), mean, variance

    @staticmethod
    def backward(ctx, grad, _mean, _variance):
        x, mean, inverse, gain = ctx.saved_tensors
        plain = grad.sum(1)
        along = ((grad * x).sum(1) - mean * plain) * inverse
        slope = -gain * inverse * along / x.shape[1]
        start = -gain * plain / x.shape[1] - slope * mean
        return torch.addcmul(torch.addcmul(start[:, None], x, slope[:, None]), grad, gain[:, None]), along, plain


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, relu):
        arrays = [t.detach().contiguous().numpy() for t in (x, weight, bias)]
        y, mean, variance = _normalise_rows(*arrays, relu)
        ctx.arrays, ctx.relu = (arrays[0], arrays[1], y, mean, variance), relu
        mean, variance = torch.from_numpy(mean), torch.from_numpy(variance)
        ctx.mark_non_differentiable(mean, variance)
        return torch.from_numpy(y), mean, variance

    @staticmethod
    def backward(ctx, grad, _mean, _variance):
        found = _normalise_rows_back(grad.contiguous().numpy(), *ctx.arrays, ctx.relu)
        return *(torch.from_numpy(g) for g in found), None


@numba.njit(cache=True)
def _sums(values, row, shift):
    """The sum of some values, and of their products with what a row is beyond a shift."""
    count = len(values)
    sums = np.zeros((2, LANES), values.dtype)
    whole = count - count % LANES
    for start in range(0, whole, LANES):
        for k in range(LANES):
            value = values[start + k]
            sums[0, k] += value
            sums[1, k] += value * (row[start + k] - shift)
    for k in range(count - whole):
        value = values[whole + k]
        sums[0, k] += value
        sums[1, k] += value * (row[whole + k] - shift)
    return sums[0].sum(), sums[1].sum()


@numba.njit(cache=True, parallel=True)
def _normalise_rows(x, weight, bias, relu):
    channels, count = x.shape
    y = np.empty_like(x)
    means = np.empty(channels, x.dtype)
    variances = np.empty(channels, x.dtype)
    for c in numba.prange(channels):
        row, out = x[c], y[c]
        pivot = row[0]  # sums of differences keep their digits
        for i in range(count):
            out[i] = row[i] - pivot
        total, squares = _sums(out, row, pivot)
        shift = total / count
        variance = max(squares / count - shift * shift, x.dtype.type(0))
        gain = weight[c] / np.sqrt(variance + x.dtype.type(EPSILON))
        means[c], variances[c] = pivot + shift, variance
        start = bias[c] - means[c] * gain
        floor = x.dtype.type(0) if relu else x.dtype.type(-np.inf)
        for i in range(count):
            out[i] = max(row[i] * gain + start, floor)
    return y, means, variances


@numba.njit(cache=True, parallel=True)
def _normalise_rows_back(grad, x, weight, y, means, variances, relu):
    """With z = (x - mean) / std and g the gradient of y:  dx = weight / std (g - mean(g) - z mean(g z))."""
    channels, count = x.shape
    to_x = np.empty_like(x)
    to_weight = np.empty(channels, x.dtype)
    to_bias = np.empty(channels, x.dtype)
    zero = x.dtype.type(0)
    for c in numba.prange(channels):
        row, g_row, y_row, out = x[c], grad[c], y[c], to_x[c]
        inverse = x.dtype.type(1) / np.sqrt(variances[c] + x.dtype.type(EPSILON))
        mean = means[c]
        for i in range(count):
            out[i] = g_row[i] if (not relu or y_row[i] > zero) else zero
        plain, along = _sums(out, row, mean)
        along *= inverse
        to_bias[c], to_weight[c] = plain, along
        gain = weight[c] * inverse
        a, b = plain / count, along * inverse / count
        for i in range(count):
            out[i] = gain * (out[i] - a - (row[i] - mean) * b)
    return to_x, to_weight, to_bias
