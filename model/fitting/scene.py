"""What a clip shows of the scene: the background behind the person, where shadows fall on it, and which colours the person has.

Axes: F frames, H x W pixels, K = BINS bins a channel. Pictures are RGB; masks are 0..1 with 1 = person; radii are pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from scipy.ndimage import gaussian_filter

BINS = 24  # per channel, of the person's colours
COLOUR_STRIDE = 2  # every how many frames the person's colours and shadows are counted
BIN_BLUR = 0.7  # bins
PLATE_NOISE = 0.025  # 0..1, compression and flicker of a background pixel
NEIGHBOURHOOD = 20  # px, around a place that the clip never shows, which tell what it looks like
NEARBY, MIN_NEARBY = 0.6, 0.05  # how much that is trusted, and the share of the neighbourhood that must be seen
LIT, DARKEST = 0.93, 0.4  # of the background's colour: below which a pixel lies in shadow, and the deepest shadow
PIXELS = 20_000  # whose light is looked at at a time
BRIGHTEST = 0.1  # share of the frames whose light is the full one, where shadows come and go
SHADED_AROUND = 41  # px, window in which the share of shaded pixels is taken
SHADED_START, SHADED_RANGE = (0.02, 0.3), (0.002, 0.3)  # pixels in shadow and in all, counted beforehand; smallest and largest share
SURE = 0.05  # coarse masks within this of 0 or 1, away from the edge, are taken at their word
MAX_SPREAD = 0.03  # median deviation (0..1) of a background pixel that is one colour over the clip
MIN_SEEN = 3  # frames that must show a background pixel

ShownPixels = Callable[[int], Bool[np.ndarray, "H W"]]  # which pixels of a frame show the scene; what lies beyond the filmed picture does not


def everything(row: int) -> Bool[np.ndarray, ""]:
    """All of them: frames that are whole pictures."""
    return np.True_


def background_plate(
    images: UInt8[np.ndarray, "F H W 3"], masks: Float[np.ndarray, "F H W"], *, radius: int, shown: ShownPixels = everything
) -> tuple[Float[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """The picture behind the person, for a camera that stands still: the median of the frames in which a pixel is free.

    Args:
        radius: how far from a mask a pixel must be to count as free.
        shown: which pixels of each frame show anything.

    Returns:
        The background in full light, and where it is known: seen often enough, and of one colour but for shadows.
    """
    free = np.stack([(cv2.dilate(mask, disc(radius)) < SURE) & shown(row) for row, mask in enumerate(masks)])
    values = images.astype(np.int16)
    plate = _median(values, free)
    often = free.sum(axis=0) >= MIN_SEEN
    known = often & (_median(np.abs(values - plate), free).max(axis=-1) <= MAX_SPREAD * 255)
    plate = plate.astype(np.float32) / 255
    rows, columns = np.nonzero(often & ~known)
    for some in np.array_split(np.arange(len(rows)), len(rows) // PIXELS + 1):
        at = rows[some], columns[some]
        plate[at], known[at] = _in_full_light(images[:, *at] / np.float32(255), free[:, *at])
    return np.where(known[..., None], plate, 0), known


def _in_full_light(
    values: Float[np.ndarray, "F N 3"], free: Bool[np.ndarray, "F N"]
) -> tuple[Float[np.ndarray, "N 3"], Bool[np.ndarray, "N"]]:
    """The colour of pixels where no shadow falls on them, and for which of them shadows are all that changes.

    Args:
        free: the frames in which each shows the background.
    """
    brightness = np.where(free, values.sum(axis=-1), 0)
    place = np.round(BRIGHTEST * free.sum(axis=0)).astype(int)
    lit = free & (brightness >= LIT * np.take_along_axis(-np.sort(-brightness, axis=0), place[None], axis=0))
    plate = _median(values, lit)
    share = np.clip((values * plate).sum(axis=-1) / np.maximum((plate**2).sum(axis=-1), 1e-4), DARKEST, 1)
    spread = _median(np.abs(values - share[..., None] * plate), free).max(axis=-1)
    return plate, (lit.sum(axis=0) >= MIN_SEEN) & (spread <= MAX_SPREAD)


def _median(values: Shaped[np.ndarray, "F *B 3"], counted: Bool[np.ndarray, "F *B"]) -> Shaped[np.ndarray, "*B 3"]:
    """The lower median over the frames that count; anything where none does."""
    middle = np.maximum(counted.sum(axis=0) - 1, 0)[None, ..., None] // 2
    return np.take_along_axis(np.sort(np.where(counted[..., None], values, 999), axis=0), middle, axis=0)[0]


def person_colours(images: UInt8[np.ndarray, "F H W 3"], masks: Float[np.ndarray, "F H W"]) -> Float[np.ndarray, "K K K"]:
    """How often each colour occurs on the person, away from the outline; 1 where all colours are alike."""
    counts = np.zeros(BINS**3)
    for image, mask in zip(images[::COLOUR_STRIDE], masks[::COLOUR_STRIDE], strict=True):
        sure = cv2.erode(mask, disc(4)) > 1 - SURE
        red, green, blue = colour_bins(image)[sure].T
        counts += np.bincount((red * BINS + green) * BINS + blue, minlength=BINS**3)
    if not counts.any():
        return np.ones((BINS, BINS, BINS), np.float32)
    density = gaussian_filter(counts.reshape(BINS, BINS, BINS), BIN_BLUR)
    return (density / density.mean()).astype(np.float32)


@dataclass(frozen=True)
class Background:
    """What is known of the background behind each pixel.

    Attributes:
        colour: expected, 0..1. variance: of each channel around it.
        trust: 1 where the clip shows it, NEARBY where only its neighbourhood is seen, 0 where nothing is.
        shaded: in what share of the frames it lies in shadow around there, where it is free.
    """

    colour: Float[np.ndarray, "H W 3"]
    variance: Float[np.ndarray, "H W"]
    trust: Float[np.ndarray, "H W"]
    shaded: Float[np.ndarray, "H W"]

    def __getitem__(self, box: tuple[slice, slice]) -> Background:
        return Background(self.colour[box], self.variance[box], self.trust[box], self.shaded[box])

    def where(self, shown: Bool[np.ndarray, "H W"]) -> Background:
        """What is known of it where a frame shows anything."""
        return self if shown.all() else replace(self, trust=self.trust * shown)

    def darker(self, colour: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
        """How bright a picture is against it."""
        return (colour * self.colour).sum(axis=-1) / np.maximum((self.colour**2).sum(axis=-1), 1e-4)


def learn_background(
    images: UInt8[np.ndarray, "F H W 3"], masks: Float[np.ndarray, "F H W"], *, radius: int, shown: ShownPixels = everything
) -> Background:
    """What some frames show of the background: its colours, and where shadows fall.

    Args:
        radius, shown: see background_plate.
    """
    background = fill_background(*background_plate(images, masks, radius=radius, shown=shown))
    all_free, all_shaded = (np.zeros(masks.shape[1:], np.float32) for _ in range(2))
    for row in range(0, len(images), COLOUR_STRIDE):
        free = (cv2.dilate(masks[row], disc(radius)) < SURE) & (background.trust == 1) & shown(row)
        all_free += free
        all_shaded += free & (background.darker(images[row] / np.float32(255)) < LIT)
    around = [cv2.blur(count, (SHADED_AROUND, SHADED_AROUND)) + start for count, start in zip((all_shaded, all_free), SHADED_START, strict=True)]
    return replace(background, shaded=np.clip(around[0] / around[1], *SHADED_RANGE).astype(np.float32))


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
        np.full(known.shape, SHADED_RANGE[1], np.float32),
    )


def colour_bins(image: UInt8[np.ndarray, "*B 3"]) -> Int[np.ndarray, "*B 3"]:
    """Which bin of colour each pixel falls in."""
    return image.astype(int) * BINS // 256


def disc(radius: int) -> UInt8[np.ndarray, "S S"]:
    """A round structuring element."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
