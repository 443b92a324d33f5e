"""Which pixels of a written frame show the video's picture; the rest lies beyond its border and repeats that.

Axes: H x W pixels of the written frame.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from tasks.artifacts import ClipInfo


def filmed_places(clip: ClipInfo, row: int) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Where the pixels of one kept frame lie in the picture as it was filmed, px across and down; NaN where that looked the other way."""
    x0, y0, side = clip.crop
    centres = (np.arange(clip.resolution) + 0.5) * side / clip.resolution
    x, y = (x0 + centres)[None, :], (y0 + centres)[:, None]
    H = np.eye(3) if clip.to_filmed is None else np.array(clip.to_filmed[row])
    across, down, over = (a * x + b * y + c for a, b, c in H)
    over = np.where(over > 0, over, np.nan)  # beyond lies what is behind the camera
    return across / over, down / over


def shown_pixels(clip: ClipInfo, row: int) -> Bool[np.ndarray, "H W"]:
    """Which pixels of one kept frame show the video's picture."""
    return _within(*filmed_places(clip, row), clip)


def cut_edges(mask: Bool[np.ndarray, "H W"], clip: ClipInfo, row: int, *, least: float) -> list[str]:
    """Which edges of the video the person touches in one kept frame. The frame may reach beyond the video, or show only a part of it.

    Args:
        least: pixels along an edge from which on it counts.
    """
    across, down = filmed_places(clip, row)
    pixel = clip.crop[2] / clip.resolution
    shown = mask & _within(across, down, clip)
    at = {"bottom": down > clip.source_height - pixel, "top": down < pixel, "left": across < pixel, "right": across > clip.source_width - pixel}
    return [edge for edge, there in at.items() if (shown & there).sum() > least]


def _within(across: Float[np.ndarray, "H W"], down: Float[np.ndarray, "H W"], clip: ClipInfo) -> Bool[np.ndarray, "H W"]:
    """Which places lie in the filmed picture."""
    return (across > 0) & (across < clip.source_width) & (down > 0) & (down < clip.source_height)
