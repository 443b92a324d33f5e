"""How good a picture or a pose is, in the figures that the field uses..

Axes: H x W pixels, F frames, J joints, P points. Pictures are 0..1, lengths metres. SSIM is model/ssim.py's, LPIPS
model/lpips.py's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def psnr(
    image: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], inside: Bool[Tensor, "H W"] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB: -10 log10 of the mean squared error, over the whole picture or inside a mask.

    Infinite for equal pictures. Raises ValueError where the mask is empty.
    """
    squared = (image - target).square()
    if inside is not None:
        if not inside.any():
            raise ValueError("expected a mask with at least one pixel, came an empty one")
        squared = squared[inside]
    error = float(squared.mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def mask_iou(first: Float[Tensor, "H W"], second: Float[Tensor, "H W"]) -> float:
    """Intersection over union of two soft masks, each cut at one half; 1 where both are empty."""
    a, b = first > 0.5, second > 0.5
    union = int((a | b).sum())
    return 1.0 if union == 0 else int((a & b).sum()) / union


@dataclass(frozen=True)
class Similarity:
    """target = scale rotation point + shift."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    shift: Float[Tensor, "3"]

    def __call__(self, points: Float[Tensor, "*P 3"]) -> Float[Tensor, "*P 3"]:
        return self.scale * points @ self.rotation.T + self.shift


def fit_similarity(points: Float[Tensor, "P 3"], targets: Float[Tensor, "P 3"]) -> Similarity:
    """The similarity that brings points nearest to targets in the least-squares sense (Umeyama 1991). No reflections."""
    x, y = points.double(), targets.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    U, D, Vt = torch.linalg.svd(y.T @ x)
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.sign(torch.linalg.det(U @ Vt))
    rotation = U @ torch.diag(sign) @ Vt
    scale = float((D * sign).sum() / x.square().sum().clamp_min(1e-300))
    shift = mean_y - scale * rotation @ mean_x
    return Similarity(scale, rotation.to(points.dtype), shift.to(points.dtype))


def mpjpe(joints: Float[Tensor, "F J 3"], truth: Float[Tensor, "F J 3"]) -> float:
    """Mean distance of joints after each frame's roots (joint 0) are brought together, metres."""
    return float(((joints - joints[:, :1]) - (truth - truth[:, :1])).norm(dim=-1).mean())


def pa_mpjpe(joints: Float[Tensor, "F J 3"], truth: Float[Tensor, "F J 3"]) -> float:
    """Mean distance of joints after the best similarity of each frame, metres."""
    errors = [(fit_similarity(j, t)(j) - t).norm(dim=-1).mean() for j, t in zip(joints, truth, strict=True)]
    return float(torch.stack(errors).mean())
