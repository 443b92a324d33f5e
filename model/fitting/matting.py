"""A fine, soft outline from a coarse mask: weigh the colours near the edge, then lay the edge on the picture's own.

Axes: F frames, H x W pixels. Pictures are RGB, masks 0..1 with 1 = person; radii are pixels.

Where the clip shows the background that the person hides in one frame, the colour of a pixel tells person from background:

    logit alpha = logit p + log( P(I | person) / P(I | background) )

with p the coarse mask, P(I | person) the person's colours over the whole clip and some room for others, and P(I | background) a
Gaussian around the background's colour at this pixel or around it, in light or in shadow.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import gaussian_filter

BINS = 24  # per channel, of the person's colours
COLOUR_STRIDE = 4  # every how many frames the person's colours are counted
BIN_BLUR = 0.7  # bins
PLATE_NOISE = 0.03  # 0..1, compression and flicker of a background pixel
NEIGHBOURHOOD = 20  # px, around a place that the clip never shows, which tell what it looks like
NEARBY, MIN_NEARBY = 0.6, 0.05  # how much that is trusted, and the share of the neighbourhood that must be seen
NEW_COLOUR = 0.15  # share of a person's pixels whose colour was not counted on them
SHADED, UNEXPLAINED = 0.1, 0.02  # shares of the background's pixels that lie in a shadow, and that look like nothing known
DARKEST, SHADE_DENSITY = 0.4, 0.12  # of the background's colour, in a shadow; how a shadow's density spreads over all shades
DOUBT = 0.05  # a coarse mask is never surer than this, since whole soles may be missing
MAX_EVIDENCE = 5.0  # log odds that colour may add
DEEP = 6  # px inside the coarse mask, where nothing is in doubt
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


@dataclass(frozen=True)
class Background:
    """What is known of the background behind each pixel.

    Attributes:
        colour: expected, 0..1. variance: of each channel around it.
        trust: 1 where the clip shows it, NEARBY where only its neighbourhood is seen, 0 where nothing is.
    """

    colour: Float[np.ndarray, "H W 3"]
    variance: Float[np.ndarray, "H W"]
    trust: Float[np.ndarray, "H W"]

    def __getitem__(self, box: tuple[slice, slice]) -> Background:
        return Background(self.colour[box], self.variance[box], self.trust[box])


def fill_background(plate: Float[np.ndarray, "H W 3"], known: Bool[np.ndarray, "H W"]) -> Background:
    """A plate with its holes filled from around: where somebody stands all the time, the floor is likely that beside the feet.

    Args:
        plate, known: see background_plate.
    """
    share = known.astype(np.float32)

    def around(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (2 * NEIGHBOURHOOD + 1, 2 * NEIGHBOURHOOD + 1), borderType=cv2.BORDER_REFLECT)

    seen = around(share)
    mean = around(plate * share[..., None]) / np.maximum(seen, 1e-4)[..., None]
    square = around((plate**2).sum(axis=-1) * share) / np.maximum(seen, 1e-4)
    spread = np.maximum(square - (mean**2).sum(axis=-1), 0) / 3
    return Background(
        np.where(known[..., None], plate, mean),
        np.where(known, 0, 1.5 * spread).astype(np.float32) + np.float32(PLATE_NOISE**2),
        np.where(known, 1, np.where(seen > MIN_NEARBY, NEARBY, 0)).astype(np.float32),
    )


def weigh_colours(
    image: UInt8[np.ndarray, "H W 3"],
    coarse: Float[np.ndarray, "H W"],
    *,
    background: Background,
    colours: Float[np.ndarray, "K K K"],
    reach: int,
) -> Float[np.ndarray, "H W"]:
    """Decide the pixels near a coarse outline by their colour, as far as the background is known.

    A pixel of the background may lie in a shadow: its colour then is the background's, but darker. And a person has colours that
    were seen nowhere else, such as a white sole that a coarse mask leaves out in every frame.

    Args:
        colours: see person_colours.
        reach: how far from the coarse edge colour may decide; beyond it the mask is 0 or 1.
    """
    colour = image / np.float32(255)
    darker = (colour * background.colour).sum(axis=-1) / np.maximum((background.colour**2).sum(axis=-1), 1e-4)
    lit, shaded = (
        np.exp(-((colour - share[..., None] * background.colour) ** 2).sum(axis=-1) / (2 * background.variance))
        / (2 * np.pi * background.variance) ** 1.5
        for share in (np.ones_like(darker), np.clip(darker, DARKEST, 1))
    )
    of_background = (1 - SHADED - UNEXPLAINED) * lit + SHADED * SHADE_DENSITY * shaded + UNEXPLAINED
    of_person = (1 - NEW_COLOUR) * colours[tuple(np.moveaxis(_bins(image), -1, 0))] + NEW_COLOUR
    evidence = np.clip(np.log(of_person / of_background), -MAX_EVIDENCE, MAX_EVIDENCE) * background.trust
    evidence = cv2.GaussianBlur(evidence.astype(np.float32), (0, 0), 0.7)
    odds = np.log(np.clip(coarse, DOUBT, 1 - DOUBT) / (1 - np.clip(coarse, DOUBT, 1 - DOUBT))) + evidence
    near = cv2.dilate((coarse > 0.1).astype(np.uint8), _disc(reach)) > 0
    deep = cv2.erode((coarse > 0.9).astype(np.uint8), _disc(DEEP)) > 0
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
