"""Which frames of a clip to keep, which square of them to cut out, and what that does to the camera.

Axes: F frames, H x W pixels. Times are seconds, lengths pixels with centres at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from model.camera_motion import magnify, steady_frame

MAX_GROWTH = 2.0  # a square around a walking person gets at most this many times the pixels per side
EVEN = 8  # px; sides are multiples of this
LARGEST = 4096  # px, side of the square in which a frame is laid straight before it shrinks to the result
LEAST_GAP = 0.1  # of the usual time between frames; one that comes sooner shows the same moment again


def sample_times(
    times: Float[np.ndarray, "F"], *, num_frames: int | None = None, fps: float | None = None
) -> Int[np.ndarray, "K"]:
    """Choose frames that lie evenly in time: a number of them, or so many a second. A frame is chosen at most once.

    Exactly one of `num_frames` and `fps` is given. Uneven frame rates are met by taking the frame nearest to each wanted
    time. Of frames at the same time the first one counts.
    """
    assert (num_frames is None) != (fps is None), "give num_frames or fps"
    order = np.argsort(times, kind="stable")
    order = order[_at_times_of_their_own(times[order])]
    first, last = times[order[0]], times[order[-1]]
    if num_frames is not None:
        if num_frames >= len(order):
            return np.sort(order)
        wanted = np.linspace(first, last, num_frames)
    else:
        wanted = first + np.arange(int(np.floor((last - first) * fps + 1e-6)) + 1) / fps
    right = np.clip(np.searchsorted(times[order], wanted), 1, max(1, len(order) - 1))
    left = right - 1
    right = np.minimum(right, len(order) - 1)
    nearest = np.where(wanted - times[order[left]] <= times[order[right]] - wanted, left, right)
    return np.unique(order[nearest])


def _at_times_of_their_own(times: Float[np.ndarray, "F"]) -> Int[np.ndarray, "K"]:
    """Which of some rising times come noticeably later than the last one taken."""
    usual = (times[-1] - times[0]) / max(len(times) - 1, 1)
    taken = [0]
    for row in range(1, len(times)):
        if times[row] - times[taken[-1]] > LEAST_GAP * usual:
            taken.append(row)
    return np.array(taken)


@dataclass(frozen=True)
class Window:
    """A square of the source picture, and the side that it is resampled to.

    Attributes:
        x0, y0: its top left corner, px; may lie beyond the picture's border.
        side: px of the source.
        resolution: px of the result.
    """

    x0: int
    y0: int
    side: int
    resolution: int

    @property
    def scale(self) -> float:
        """Result pixels per source pixel."""
        return self.resolution / self.side

    def to_window(self, points: Float[np.ndarray, "*B 2"]) -> Float[np.ndarray, "*B 2"]:
        """Carry source pixels to result pixels."""
        return (points - np.array([self.x0, self.y0])) * self.scale

    def intrinsics(self, K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
        """The source camera's intrinsics, in result pixels."""
        shift = np.array([[1.0, 0, -self.x0], [0, 1.0, -self.y0], [0, 0, 1]])
        return np.diag([self.scale, self.scale, 1.0]) @ shift @ K

    def cut(self, image: UInt8[np.ndarray, "H W C"], to_frame: Float[np.ndarray, "3 3"] | None = None) -> UInt8[np.ndarray, "R R C"]:
        """Cut the square out; what lies beyond the picture repeats its border.

        Args:
            to_frame: the homography to the picture's pixels from those that the square speaks of; None: they are the same.
        """
        if to_frame is None:
            square = self._inside(image)
        else:
            size = min(self.side, LARGEST)
            square = steady_frame(image, to_frame @ self._corner @ magnify(self.side / size), (size, size))
        how = cv2.INTER_AREA if self.resolution < len(square) else cv2.INTER_CUBIC
        return cv2.resize(square, (self.resolution, self.resolution), interpolation=how)

    @property
    def _corner(self) -> Float[np.ndarray, "3 3"]:
        """From the square's pixels to the source's."""
        return np.array([[1.0, 0, self.x0], [0, 1.0, self.y0], [0, 0, 1]])

    def _inside(self, image: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "S S C"]:
        """The square in source pixels."""
        height, width = image.shape[:2]
        x1, y1 = self.x0 + self.side, self.y0 + self.side
        inside = image[np.clip(self.y0, 0, height - 1) : np.clip(y1, 1, height), np.clip(self.x0, 0, width - 1) : np.clip(x1, 1, width)]
        beyond = [max(0, -self.y0), max(0, y1 - height), max(0, -self.x0), max(0, x1 - width)]
        return cv2.copyMakeBorder(inside, *beyond, cv2.BORDER_REPLICATE) if any(beyond) else inside


def window_around(boxes: Float[np.ndarray, "F 4"], *, margin: float, resolution: int) -> Window:
    """The square around all boxes (x0, y0, x1, y1), with `margin` of the longer side left free all around.

    The largest single box, with its margin, is given `resolution` pixels. A person who walks needs a larger square and gets
    more pixels for it, up to MAX_GROWTH times, so that walking does not cost sharpness.
    """
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    longest = (boxes[:, 2:] - boxes[:, :2]).max()
    side = max(2, int(np.ceil((high - low).max() * (1 + 2 * margin))))
    growth = min(MAX_GROWTH, side / (longest * (1 + 2 * margin))) if longest > 0 else 1.0
    x0, y0 = np.floor((low + high) / 2 - side / 2 + 0.5).astype(int)
    return Window(int(x0), int(y0), side, EVEN * max(1, round(growth * resolution / EVEN)))
