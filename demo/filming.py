"""From linear light to a video file: lens, exposure, sensor noise and H.264.

Axes: H x W pixels. Linear colours in, display (sRGB) bytes out.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numba
import numpy as np
from jaxtyping import Float32, UInt8

from demo.lighting import Light, Shadow, ground_light, sky_visibility
from demo.scenery import Backdrop

LENS_BLUR = 0.55  # px at 1280 px width
VIGNETTE = 0.22  # share of the light lost in the corners
READ_NOISE = 0.006  # of full scale
SHOT_NOISE = 0.012  # at full scale
SHADOW_REACH = 2.4  # m around the person in which the ground can be in shadow
TONE_STEPS = 4096  # of the table that turns light into display values
BRIGHTEST = 4.0  # linear light that the table reaches


def display_colors(linear: np.ndarray) -> Float32[np.ndarray, "H W C"]:
    """Linear light to display values 0..1: a soft shoulder at the bright end, then sRGB's curve."""
    return _display(np.ascontiguousarray(linear, dtype=np.float32))


@numba.njit(cache=True, inline="always")
def _tone(x):
    x = max(0.0, x)
    x = x if x < 0.6 else 0.6 + 0.4 * (1 - np.exp(-(x - 0.6) / 0.4))  # highlights roll off instead of clipping
    return 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055


@numba.njit(cache=True, parallel=True)
def _display(linear):
    out = np.empty_like(linear)
    for i in numba.prange(linear.shape[0]):
        for j in range(linear.shape[1]):
            for c in range(linear.shape[2]):
                out[i, j, c] = _tone(linear[i, j, c])
    return out


def cut_out(color: np.ndarray, alpha: np.ndarray) -> UInt8[np.ndarray, "H W 4"]:
    """The person alone, straight alpha: colour times alpha in linear light becomes display RGBA."""
    straight = color / np.maximum(alpha, 1e-6)[..., None]
    rgba = np.concatenate([display_colors(straight) * (alpha > 0)[..., None], alpha[..., None]], axis=2)
    return np.round(rgba * 255).astype(np.uint8)


def shadowed_backdrop(
    backdrop: Backdrop, shadow: Shadow, light: Light, sky: list[Shadow], directions: np.ndarray, centre: np.ndarray
) -> Float32[np.ndarray, "H W 3"]:
    """The empty place with the person's shadow on its ground, linear.

    The key light's shadow is worked out for every pixel, the smooth shade under the open sky for every fourth.
    """
    picture = backdrop.direct + backdrop.around
    near = backdrop.is_ground & (np.abs(backdrop.ground_points[..., ::2] - centre[::2]).max(axis=2) < SHADOW_REACH)
    if not near.any():
        return picture
    i0, j0 = (np.nonzero(near.any(axis=1 - axis))[0][0] for axis in (0, 1))
    i1, j1 = (np.nonzero(near.any(axis=1 - axis))[0][-1] + 1 for axis in (0, 1))
    points = np.ascontiguousarray(backdrop.ground_points[i0:i1, j0:j1])
    key = ground_light(points.reshape(-1, 3), shadow.depth, shadow.rays, light.key_size).reshape(points.shape[:2])
    coarse = np.ascontiguousarray(points[::4, ::4])
    up = np.tile(np.float32([0, 1, 0]), (coarse.shape[0] * coarse.shape[1], 1))
    share = sky_visibility(coarse.reshape(-1, 3), up, sky, directions).reshape(coarse.shape[:2])
    share = cv2.resize(share, key.shape[::-1], interpolation=cv2.INTER_LINEAR)
    window = (slice(i0, i1), slice(j0, j1))
    shaded = backdrop.direct[window] * key[..., None] + backdrop.around[window] * share[..., None]
    picture[window] = np.where(near[window][..., None], shaded, picture[window])
    return picture


class Sensor:
    """A camera's lens and sensor: the same softness and the same kind of noise for every frame of one clip.

    Args:
        blur: of the lens, px at 1280 px width. grain: strength of the noise, relative to a good sensor's.
    """

    def __init__(self, width: int, height: int, seed: int, *, blur: float = LENS_BLUR, grain: float = 1.0):
        rng = np.random.default_rng([seed, 5])
        self.blur = max(blur * width / 1280, 0.2)
        self.rng = rng
        # one larger field of noise, of which every frame takes another window
        self.grain = rng.normal(size=(height + 64, width + 64, 3)).astype(np.float32)
        self.grain = np.float32(grain) * (0.75 * self.grain + 0.25 * self.grain.mean(axis=2, keepdims=True))
        steps = (np.arange(TONE_STEPS + 2) / TONE_STEPS) ** 2 * BRIGHTEST  # denser in the dark
        self.table = display_colors(steps[:, None, None])[:, 0, 0] * 255 + 0.5
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        radius = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.5) ** 2
        self.falloff = (1 - VIGNETTE * radius / 0.5).astype(np.float32)

    def expose(self, linear: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
        """Take one picture."""
        blurred = cv2.GaussianBlur(linear, (0, 0), self.blur)
        i, j = self.rng.integers(0, 64, size=2)
        window = self.grain[i : i + linear.shape[0], j : j + linear.shape[1]]
        return _record(blurred, self.falloff, window, self.table)


@numba.njit(cache=True, parallel=True)
def _record(linear, falloff, grain, table):
    out = np.empty(linear.shape, np.uint8)
    for i in numba.prange(linear.shape[0]):
        for j in range(linear.shape[1]):
            for c in range(3):
                light = max(0.0, linear[i, j, c] * falloff[i, j])
                light += grain[i, j, c] * (READ_NOISE * 0.4 + SHOT_NOISE * np.sqrt(light))
                place = np.sqrt(min(BRIGHTEST, max(0.0, light)) / BRIGHTEST) * TONE_STEPS
                k = int(place)
                out[i, j, c] = np.uint8(min(255.0, table[k] + (place - k) * (table[k + 1] - table[k])))
    return out


def write_clip(path: Path, frames: Iterable[UInt8[np.ndarray, "H W 3"]], *, width: int, height: int, fps: int, crf: int) -> None:
    """Encode frames as H.264 in an mp4 that any player opens (4:2:0, index at the front)."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium"}
        stream.thread_count = 2
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
