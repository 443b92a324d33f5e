"""A fine, soft outline from a coarse mask: weigh the colours near the edge, then lay the edge on the picture's own.

Axes: F frames, H x W pixels. Pictures are RGB, masks 0..1 with 1 = person; radii are pixels.

Where the clip shows the background that the person hides in one frame, the colour of a pixel tells person from background:

    logit alpha = logit p + log( P(I | person) / P(I | background) )

with p the coarse mask, P(I | person) the person's colours over the whole clip, and P(I | background) a Gaussian around the
background's colour at this pixel.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import gaussian_filter

BINS = 24  # per channel, of the person's colours
COLOUR_STRIDE = 4  # every how many frames the person's colours are counted
BIN_BLUR = 0.7  # bins
PLATE_NOISE = 0.03  # 0..1, compression and flicker of a background pixel
FLOOR = 0.05  # density (uniform = 1) of colours that nothing explains
MAX_EVIDENCE = 3.0  # log odds that colour may add
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


def person_colours(images: UInt8[np.ndarray, "F H W 3"], masks: Float[np.ndarray, "F H W"]) -> Float[np.ndarray, "K K K"]:
    """How often each colour occurs on the person, away from the outline; 1 where all colours are alike."""
    counts = np.zeros(BINS**3)
    for image, mask in zip(images[::COLOUR_STRIDE], masks[::COLOUR_STRIDE], strict=True):
        sure = cv2.erode(mask, _disc(4)) > 1 - SURE
        red, green, blue = _bins(image)[sure].T
        counts += np.bincount((red * BINS + green) * BINS + blue, minlength=BINS**3)
    density = gaussian_filter(counts.reshape(BINS, BINS, BINS), BIN_BLUR)
    return (density / max(density.mean(), 1e-12)).astype(np.float32)


def weigh_colours(
    image: UInt8[np.ndarray, "H W 3"],
    coarse: Float[np.ndarray, "H W"],
    *,
    plate: Float[np.ndarray, "H W 3"],
    plate_known: Bool[np.ndarray, "H W"],
    colours: Float[np.ndarray, "K K K"],
    reach: int,
) -> Float[np.ndarray, "H W"]:
    """Decide the pixels near a coarse outline by their colour, where the background is known.

    Args:
        plate, plate_known: see background_plate.
        colours: see person_colours.
        reach: how far from the coarse edge colour may decide; beyond it the mask is 0 or 1.
    """
    distance2 = ((image / np.float32(255) - plate) ** 2).sum(axis=-1)
    of_background = np.exp(-distance2 / (2 * PLATE_NOISE**2)) / ((2 * np.pi) ** 1.5 * PLATE_NOISE**3)
    of_person = colours[tuple(np.moveaxis(_bins(image), -1, 0))]
    evidence = np.clip(np.log((of_person + FLOOR) / (of_background + FLOOR)), -MAX_EVIDENCE, MAX_EVIDENCE)
    evidence = cv2.GaussianBlur(np.where(plate_known, evidence, 0).astype(np.float32), (0, 0), 0.7)
    odds = np.log(np.clip(coarse, 0.01, 0.99) / (1 - np.clip(coarse, 0.01, 0.99))) + evidence
    near = cv2.dilate((coarse > 0.1).astype(np.uint8), _disc(reach)) > 0
    deep = cv2.erode((coarse > 0.9).astype(np.uint8), _disc(reach)) > 0
    return np.where(deep, 1, np.where(near, 1 / (1 + np.exp(-odds)), 0)).astype(np.float32)


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


def _bins(image: UInt8[np.ndarray, "*B 3"]) -> Int[np.ndarray, "*B 3"]:
    """Which bin of colour each pixel falls in."""
    return image.astype(int) * BINS // 256


def _disc(radius: int) -> UInt8[np.ndarray, "S S"]:
    """A round structuring element."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
