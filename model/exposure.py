"""How a camera that corrects itself changed exposure and white balance along a clip, told by the background, and how to undo it.

A sensor counts light, so exposure and white balance are a factor on each channel of linear light. sRGB's curve, but for its dark end, is
v = 1.055 x^(1/2.4) - 0.055 (IEC 61966-2-1), so a factor f on x is one on v + 0.055: f^(1/2.4). Cameras also move the black level as they go.
So a frame's displayed channel v lies to the clip's own w as

    v + TOE = gain (w + TOE) + lift

The background of a camera that stands still has one w in all frames, but for what moves or throws shadows on a part of it.

Axes: F frames, H x W pixels, P pixels of the background, 3 channels R, G, B. Channels are display values, 0..1.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from model.camera_motion import roomy

TOE, GAMMA = 0.055, 2.4  # of sRGB's curve
PIXELS = 6000  # of the pictures that are compared
BLOCK = 100  # frames whose lines are found at a time
DARKEST, BRIGHTEST = 0.03, 0.97  # beyond lies what noise or the end of the scale has changed
MIN_BACKGROUND = 0.02  # share of the picture that must be free and within that range to tell
MIN_SEEN = 0.2  # share of the frames that must show a pixel for it to count
NOISE = 0.01  # of a pixel of the small pictures; what is further off counts less and less
LIFT_SPREAD, COUNTED = 0.02, 50  # usual lift, and as how many independent pixels all of a frame count against it
MAX_MISS = 0.04  # by which the median pixel of a frame that is told may be off what gain and lift explain
ROUNDS, SETTLED = 10, 2e-4  # of background and frames in turns, at most; until no gain changes by more


@dataclass(frozen=True)
class Exposure:
    """How each frame was taken, relative to the median of the clip.

    Attributes:
        gain, lift: of each channel, see above.
    """

    gain: Float[np.ndarray, "*F 3"]
    lift: Float[np.ndarray, "*F 3"]

    def __getitem__(self, rows: int | np.ndarray) -> Exposure:
        return Exposure(self.gain[rows], self.lift[rows])

    @property
    def light(self) -> Float[np.ndarray, "*F 3"]:
        """The factor on linear light that the gain stands for."""
        return self.gain**GAMMA

    def even(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """One frame as the clip's median would show it; what that makes brighter than white is white."""
        levels = np.arange(256)[:, None] / 255
        table = ((levels + TOE - self.lift) / self.gain - TOE).clip(0, 1)
        return cv2.LUT(image, np.rint(255 * table).astype(np.uint8)[None])


def measure_exposure(
    images: Iterable[UInt8[np.ndarray, "H W 3"]], boxes: Sequence[tuple[float, float, float, float] | None]
) -> Exposure | None:
    """Gain and lift of every frame: robust lines through its background pixels against those of the clip.

    The clip's background is the median of the evened frames, in turns with the lines. A frame that shows too little of it, or that no
    line explains, lies between its neighbours.

    Args:
        images: frames of one size whose background lies still, in order.
        boxes: x0, y0, x1, y1 of the person in each, px; None where it is not known, and the whole frame counts as background.

    Returns:
        None where less than half of the frames tell theirs.
    """
    values = np.stack([_background(image, box) for image, box in zip(images, boxes, strict=True)])
    values[:, np.isfinite(values).mean(axis=0) < MIN_SEEN] = np.nan
    told = np.isfinite(values).mean(axis=1).min(axis=-1) >= MIN_BACKGROUND
    if not _most(told):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of pixels that no frame shows
        lines, miss = _fit_lines(values[told] + np.float32(TOE))
    explained = miss < MAX_MISS
    told[told] = explained
    if not _most(told):
        return None
    frames = np.arange(len(told))
    gain, lift = (np.stack([np.interp(frames, frames[told], channel[explained]) for channel in each.T], axis=1) for each in (lines.gain, lines.lift))
    return Exposure(gain, lift)


def _most(told: Bool[np.ndarray, "F"]) -> bool:
    return told.sum() >= max(2, len(told) / 2)


def _fit_lines(values: Float32[np.ndarray, "F P 3"]) -> tuple[Exposure, Float[np.ndarray, "F"]]:
    """The lines, and how far the median pixel of each frame is from what they explain."""
    gain, lift, miss = (np.full((len(values), *more), start, np.float32) for more, start in (((3,), 1), ((3,), 0), ((), 0)))
    blocks = [slice(k, k + BLOCK) for k in range(0, len(values), BLOCK)]
    for _ in range(ROUNDS):
        clip = np.nanmedian((values - lift[:, None]) / gain[:, None], axis=0)
        before = gain.copy()
        for block in blocks:
            gain[block], lift[block], miss[block] = _fit_block(values[block], clip, gain[block], lift[block])
        gain, lift = gain / np.median(gain, axis=0), lift - np.median(lift, axis=0)
        if np.abs(gain - before).max() < SETTLED:
            break
    return Exposure(gain, lift), miss


def _fit_block(
    values: Float32[np.ndarray, "F P 3"], clip: Float32[np.ndarray, "P 3"], gain: Float32[np.ndarray, "F 3"], lift: Float32[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "F 3"], Float[np.ndarray, "F 3"], Float[np.ndarray, "F"]]:
    """Better gains and lifts of some frames, and how far their median pixels are from what the given ones explain."""
    off = values - (gain[:, None] * clip + lift[:, None])
    known = np.isfinite(off)
    weight = np.where(known, 1 / np.maximum(np.abs(off), NOISE), 0)  # of a line through medians
    weight *= COUNTED / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    x, y = np.where(known, clip, 0), np.where(known, values, 0)
    xx, xy, x1, y1 = ((weight * each).sum(axis=1, dtype=np.float64) for each in (x * x, x * y, x, y))
    ones = COUNTED * (1 + (NOISE / LIFT_SPREAD) ** 2)
    better = (xy * ones - x1 * y1) / np.maximum(xx * ones - x1**2, 1e-9)
    return better, (y1 - better * x1) / ones, np.nanmedian(np.abs(off), axis=(1, 2))


def _background(image: UInt8[np.ndarray, "H W 3"], box: tuple[float, float, float, float] | None) -> Float32[np.ndarray, "P 3"]:
    """The pixels of a small picture; NaN where the person is, and where a channel is too dark or too bright."""
    scale = min(1.0, (PIXELS / (image.shape[0] * image.shape[1])) ** 0.5)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA) / 255
    if box is not None:
        x0, y0, x1, y1 = (value * scale for value in roomy(box))
        small[max(0, int(y0)) : max(0, int(y1) + 1), max(0, int(x0)) : max(0, int(x1) + 1)] = np.nan
    return np.where((small > DARKEST) & (small < BRIGHTEST), small, np.nan).reshape(-1, 3)
