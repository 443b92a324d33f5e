"""A fine, soft outline from a coarse mask: compare each pixel near the edge with the person beside it and the background
behind it.

Axes: F frames, H x W pixels. Pictures are float 0..1 RGB, masks 0..1 with 1 = person; radii are pixels.

The colour of a pixel on the edge is I = alpha P + (1 - alpha) B. P is taken from the nearest pixel that is surely person; B
from the clip's background where the person has stepped aside, or else from the nearest pixel that is surely background.
Solving for alpha (least squares over the colour channels) is trusted as far as P and B differ; elsewhere the coarse mask
stands.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

COLOUR_NOISE = 0.10  # distance of two colours (0..1 RGB) at which colour and coarse mask are trusted alike
SURE = 0.05  # coarse masks within this of 0 or 1, away from the edge, are taken at their word
MAX_SPREAD = 0.03  # median deviation (0..1) of a background pixel that is one colour over the clip
MIN_SEEN = 3  # frames that must show a background pixel
MAX_PLATE_FRAMES = 48
GUIDE_RADIUS = 4
GUIDE_EPSILON = 1e-3  # squared colour difference (0..1) below which two sides of an edge look alike
SHARPEN = 2.5  # slope of the mask after filtering


def background_plate(
    images: UInt8[np.ndarray, "F H W 3"], masks: Float[np.ndarray, "F H W"], *, radius: int
) -> tuple[Float[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """The picture behind the person, for a camera that stands still: the median of the frames in which a pixel is free.

    Args:
        radius: how far from a mask a pixel must be to count as free.

    Returns:
        The background, and where it is known: seen often enough, and of one colour.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), MAX_PLATE_FRAMES)).astype(int))
    grown = np.stack([cv2.dilate(masks[i], _disc(radius)) for i in chosen])
    free = grown < SURE
    count = free.sum(axis=0)
    middle = np.maximum(count - 1, 0)[None, ..., None] // 2

    def median(values: np.ndarray) -> np.ndarray:
        hidden_last = np.sort(np.where(free[..., None], values, 999), axis=0)
        return np.take_along_axis(hidden_last, middle, axis=0)[0]

    values = images[chosen].astype(np.int16)
    plate = median(values)
    spread = median(np.abs(values - plate)).max(axis=-1)
    known = (count >= MIN_SEEN) & (spread <= MAX_SPREAD * 255)
    return np.where(known[..., None], plate, 0).astype(np.float32) / 255, known


def refine_outline(
    image: Float[np.ndarray, "H W 3"],
    coarse: Float[np.ndarray, "H W"],
    *,
    radius: int,
    plate: Float[np.ndarray, "H W 3"] | None = None,
    plate_known: Bool[np.ndarray, "H W"] | None = None,
) -> Float[np.ndarray, "H W"]:
    """Sharpen a coarse mask against its picture.

    Args:
        radius: half the width of the band around the coarse edge in which the outline is decided anew.
        plate, plate_known: the background and where it is known; None: taken from beside the person only.

    Returns:
        A soft mask with an edge of one to two pixels; 0 and 1 beyond the band.
    """
    person = cv2.erode((coarse > 1 - SURE).astype(np.uint8), _disc(radius // 2)).astype(bool)
    nothing = ~cv2.dilate((coarse > SURE).astype(np.uint8), _disc(radius // 2)).astype(bool)
    band = ~person & ~nothing
    if not band.any() or not person.any() or not nothing.any():
        return (coarse > 0.5).astype(np.float32)
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    beside_person = _nearest_colour(smooth, person)
    behind = _nearest_colour(smooth, nothing)
    if plate is not None:
        behind = np.where(plate_known[..., None], plate, behind)
    across = beside_person - behind
    contrast = (across**2).sum(axis=-1)
    by_colour = np.clip(((image - behind) * across).sum(axis=-1) / np.maximum(contrast, 1e-6), 0, 1)
    trust = contrast / (contrast + COLOUR_NOISE**2)
    alpha = trust * by_colour + (1 - trust) * coarse
    alpha = np.where(person, 1.0, np.where(nothing, 0.0, alpha)).astype(np.float32)
    smooth_alpha = guided_filter(image, alpha, radius=max(2, radius // 2), epsilon=1e-3)
    sharp = np.clip((smooth_alpha - 0.5) * 1.6 + 0.5, 0, 1)
    return np.where(band, sharp, alpha).astype(np.float32)


def finish_outline(image: UInt8[np.ndarray, "H W 3"], coarse: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Lay a coarse mask's edge on the picture's edges and make it one to two pixels soft."""
    guided = guided_filter(image.astype(np.float32) / 255, coarse, radius=GUIDE_RADIUS, epsilon=GUIDE_EPSILON)
    return np.clip((guided - 0.5) * SHARPEN + 0.5, 0, 1).astype(np.float32)


def guided_filter(
    guide: Float[np.ndarray, "H W 3"], values: Float[np.ndarray, "H W"], *, radius: int, epsilon: float
) -> Float[np.ndarray, "H W"]:
    """Smooth `values` so that its edges lie on those of the colour picture `guide`: He et al. 2013, eq. 14 to 16.

    In each window of side 2 radius + 1 the values are fitted by a linear function of the colour,
    q = a . I + b, with a penalty `epsilon` on a; overlapping windows are averaged.
    """

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    guide, values = guide.astype(np.float32), values.astype(np.float32)
    mean_guide, mean_values = mean(guide), mean(values)
    pairs = (guide[..., :, None] * guide[..., None, :]).reshape(*values.shape, 9)
    second = np.concatenate([mean(np.ascontiguousarray(pairs[..., i : i + 3])) for i in (0, 3, 6)], axis=-1)
    covariance = second.reshape(*values.shape, 3, 3) - mean_guide[..., :, None] * mean_guide[..., None, :]
    with_values = mean(guide * values[..., None]) - mean_guide * mean_values[..., None]
    a = np.linalg.solve(covariance + epsilon * np.eye(3, dtype=np.float32), with_values[..., None])[..., 0]
    b = mean_values - (a * mean_guide).sum(axis=-1)
    return (mean(np.ascontiguousarray(a)) * guide).sum(axis=-1) + mean(b)


def _nearest_colour(image: Float[np.ndarray, "H W 3"], source: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """For each pixel the colour of the nearest pixel of `source`."""
    _, labels = cv2.distanceTransformWithLabels((~source).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    rows, columns = np.nonzero(source)
    lookup = np.zeros((labels.max() + 1, 3), np.float32)
    lookup[labels[rows, columns]] = image[rows, columns]
    return lookup[labels]


def _disc(radius: int) -> UInt8[np.ndarray, "S S"]:
    """A round structuring element."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
