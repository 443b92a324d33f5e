"""Clean a clip's masks and tell which cannot be trusted, and why.

Axes: F frames, H x W pixels. Masks are 0..1 with 1 = person; boxes are x0, y0, x1, y1 in px.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion

from model.fitting.scene import ShownPixels

MAX_HOLE = 0.002  # of the person's area: larger holes are gaps between limbs
MIN_PART = 0.02  # of the person's area: smaller loose parts are dropped
MIN_AREA = 0.002  # of the picture
MAX_AREA = 0.75
MAX_AREA_JUMP = 1.6  # times the median of the neighbours' area
NEIGHBOURS = 3  # frames to either side
MIN_BOX_OVERLAP = 0.3  # IoU of the mask's box with the landmarks'
MAX_BORDER_CONTACT = 0.25  # of the person's longer side that runs along the picture's border; shoes alone reach 0.15


def largest_part(mask: Float[np.ndarray, "H W"], *, seed: Float[np.ndarray, "H W"] | None = None) -> Float[np.ndarray, "H W"]:
    """Keep the largest connected part and what is not tiny beside it, and fill pinholes.

    Args:
        seed: where the person is known to be; when given, the part that shares most with it is the person, and loose
            parts outside it are dropped whatever their size.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0.5).astype(np.uint8))
    if count < 2:
        return np.zeros_like(mask)
    areas = stats[:, cv2.CC_STAT_AREA].astype(float)
    areas[0] = 0
    shared = areas if seed is None else np.bincount(labels.ravel(), weights=(seed > 0.5).ravel(), minlength=count)
    shared = np.where(np.arange(count) == 0, 0, shared)
    main = int(shared.argmax()) if shared.max() > 0 else int(areas.argmax())
    kept = (areas >= MIN_PART * areas[main]) & (shared >= 0.5 * areas)
    kept[main], kept[0] = True, False
    near = cv2.dilate(kept[labels].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # with its soft edge
    return _fill_pinholes(np.where(near, mask, 0), MAX_HOLE * areas[main])


def _fill_pinholes(mask: Float[np.ndarray, "H W"], max_area: float) -> Float[np.ndarray, "H W"]:
    """Fill holes no larger than `max_area` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask <= 0.5).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= max_area
    small[0] = False
    hole = cv2.dilate(small[labels].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(hole & (count > 1), np.maximum(mask, 1.0), mask).astype(np.float32)


def find_implausible(
    masks: Float[np.ndarray, "F H W"],
    boxes: Float[np.ndarray, "F 4"],
    *,
    shown: ShownPixels,
) -> dict[int, str]:
    """Which masks cannot be trusted, and why.

    Args:
        boxes: where the landmarks are.
        shown: which pixels of a frame show the source picture; the rest lies beyond its border.

    Returns:
        Row of each doubtful mask, and one reason.
    """
    areas = (masks > 0.5).mean(axis=(1, 2))
    reasons: dict[int, str] = {}
    for i, (mask, box, area) in enumerate(zip(masks, boxes, areas, strict=True)):
        reason = _doubt(mask > 0.5, box, area, shown(i)) or _jump(areas, i)
        if reason:
            reasons[i] = reason
    return reasons


def _doubt(
    mask: Bool[np.ndarray, "H W"], box: Float[np.ndarray, "4"], area: float, shown: Bool[np.ndarray, "H W"]
) -> str | None:
    """Why one mask cannot be trusted, seen on its own."""
    if area == 0:
        return "empty"
    if area < MIN_AREA:
        return f"covers {area:.2%} of the picture, expected at least {MIN_AREA:.1%}"
    if area > MAX_AREA:
        return f"covers {area:.0%} of the picture, expected at most {MAX_AREA:.0%}"
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    own = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    overlap = _iou(own, box)
    if overlap < MIN_BOX_OVERLAP:
        return f"overlaps the landmarks' box by {overlap:.0%}, expected at least {MIN_BOX_OVERLAP:.0%}"
    contact = _border_contact(mask, own, shown)
    if contact > MAX_BORDER_CONTACT:
        return f"runs along the picture's border for {contact:.0%} of its size: the person is cut off"
    return None


def _jump(areas: Float[np.ndarray, "F"], i: int) -> str | None:
    """Why a mask does not fit its neighbours in time."""
    around = np.r_[areas[max(0, i - NEIGHBOURS) : i], areas[i + 1 : i + 1 + NEIGHBOURS]]
    around = around[around > 0]
    if not len(around):
        return None
    ratio = areas[i] / np.median(around)
    if max(ratio, 1 / ratio) > MAX_AREA_JUMP:
        return f"its area is {ratio:.2f} times that of its neighbours, expected within {MAX_AREA_JUMP}"
    return None


def _border_contact(mask: Bool[np.ndarray, "H W"], box: Float[np.ndarray, "4"], shown: Bool[np.ndarray, "H W"]) -> float:
    """How long the mask runs along the border of the picture, as a share of the person's longer side."""
    border = shown & ~binary_erosion(shown, np.ones((3, 3)))
    return float((mask & border).sum() / max(box[2] - box[0], box[3] - box[1]))


def _iou(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared + 1e-9))
