"""Whether the camera stood still, measured on the background, and how to undo what little it shook.

Axes: F frames, H x W pixels, P background points. A similarity is a [2, 3] matrix that takes pixels of the reference frame
to pixels of another one; four numbers are what a hand's small movements do to a distant background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

MAX_POINTS = 400
MIN_POINTS = 20  # fewer background points say nothing about the camera
MIN_AGREEMENT = 0.4  # share of the points that must move as one
TOLERANCE = 1.5  # px, of a point that moves with the rest
QUALITY, SPACING = 0.01, 8  # of corners: share of the best one's strength, px between them
PERSON_ROOM = 0.08  # of the person's box, left out around it
PATCH = (21, 21)  # px, that a point is recognised by
IDENTITY = np.array([[1.0, 0, 0], [0, 1.0, 0]])
TO_INDEX = np.array([[1.0, 0, -0.5], [0, 1.0, -0.5], [0, 0, 1.0]])  # of a pixel, from coordinates with centres at +0.5


@dataclass(frozen=True)
class CameraMotion:
    """How the background lies in each frame against the reference frame.

    Attributes:
        reference: row of the frame that the others are compared with.
        to_frame: the similarity of each frame; NaN where the background is too smooth or too restless to tell.
        moved_px: how far it carries that corner of the picture which moves most; NaN where it is not known.
    """

    reference: int
    to_frame: Float[np.ndarray, "F 2 3"]
    moved_px: Float[np.ndarray, "F"]

    @property
    def known(self) -> bool:
        """Whether any frame but the reference could be compared."""
        return bool(np.isfinite(np.delete(self.moved_px, self.reference)).any())

    @property
    def worst(self) -> int:
        """Row of the frame that lies furthest off."""
        return int(np.nanargmax(self.moved_px))


def measure_camera(
    images: Sequence[UInt8[np.ndarray, "H W 3"]], boxes: Sequence[tuple[float, float, float, float] | None]
) -> CameraMotion:
    """Follow corners of the background from the middle frame to all others.

    Points that the person hides in either frame are left out; other moving things are outvoted (RANSAC). A frame in which
    too few points of the middle one are found again is compared with the frame before it, so that a pan is followed to its end.

    Args:
        images: frames in order, of one size.
        boxes: x0, y0, x1, y1 of the person in each, px; None where it is not known.
    """
    count = len(images)
    to_frame, reference = np.full((count, 2, 3), np.nan), count // 2
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    corners = background_corners(grey[reference], boxes[reference])
    to_frame[reference] = IDENTITY
    for order, step in ((range(reference + 1, count), 1), (range(reference - 1, -1, -1), -1)):
        guess = IDENTITY
        for i in order:
            found = _match(grey[reference], grey[i], corners, guess, boxes[i])
            if found is None and np.isfinite(to_frame[i - step]).all():
                before = background_corners(grey[i - step], boxes[i - step])
                since = _match(grey[i - step], grey[i], before, IDENTITY, boxes[i])
                found = None if since is None else _compose(since, to_frame[i - step])
            if found is not None:
                to_frame[i] = guess = found
    return CameraMotion(reference, to_frame, corner_shift(to_frame, *images[0].shape[:2]))


def background_corners(
    grey: UInt8[np.ndarray, "H W"], box: tuple[float, float, float, float] | None
) -> Float[np.ndarray, "P 2"]:
    """Points of the background that are found again easily, pixel indices."""
    free = np.full(grey.shape, 255, np.uint8)
    if box is not None:
        x0, y0, x1, y1 = roomy(box)
        free[max(0, int(y0)) : max(0, int(y1)), max(0, int(x0)) : max(0, int(x1))] = 0
    found = cv2.goodFeaturesToTrack(grey, MAX_POINTS, QUALITY, SPACING, mask=free)
    return np.zeros((0, 2), np.float32) if found is None else found[:, 0]


def corner_shift(similarities: Float[np.ndarray, "*B 2 3"], height: int, width: int) -> Float[np.ndarray, "*B"]:
    """How far similarities carry the picture's corners at most, px."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    carried = corners @ np.swapaxes(similarities, -1, -2)
    return np.linalg.norm(carried - corners[:, :2], axis=-1).max(axis=-1)


def steady_frame(
    image: UInt8[np.ndarray, "h w 3"], to_frame: Float[np.ndarray, "3 3"], size: tuple[int, int] | None = None, *, black: bool = False
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a frame on the picture from whose pixels a homography leads to its own; what it does not show repeats its border.

    Args:
        size: width and height of that picture, px; None: the frame's.
        black: what the frame does not show is black.
    """
    border = cv2.BORDER_CONSTANT if black else cv2.BORDER_REPLICATE
    return cv2.warpPerspective(image, to_frame, size or image.shape[1::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=border)


def homography_of(similarity: Float[np.ndarray, "*B 2 3"]) -> Float[np.ndarray, "*B 3 3"]:
    """The same movement with a third row."""
    last = np.broadcast_to([0.0, 0.0, 1.0], (*similarity.shape[:-2], 1, 3))
    return np.concatenate([similarity, last], axis=-2)


def of_coordinates(homography: Float[np.ndarray, "*B 3 3"]) -> Float[np.ndarray, "*B 3 3"]:
    """The same movement of coordinates with pixels' centres at +0.5, from one of pixel indices."""
    return np.linalg.inv(TO_INDEX) @ homography @ TO_INDEX


def of_indices(homography: Float[np.ndarray, "*B 3 3"]) -> Float[np.ndarray, "*B 3 3"]:
    """The same movement of pixel indices, from one of coordinates with pixels' centres at +0.5."""
    return TO_INDEX @ homography @ np.linalg.inv(TO_INDEX)


def scale_homography(homography: Float[np.ndarray, "*B 3 3"], scale: float) -> Float[np.ndarray, "*B 3 3"]:
    """The same movement of pixel indices in pictures of `scale` times the size."""
    return magnify(scale) @ homography @ magnify(1 / scale)


def magnify(scale: float) -> Float[np.ndarray, "3 3"]:
    """From pixel indices to those of the same picture at `scale` times the size."""
    return np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])


def carry(homography: Float[np.ndarray, "*B 3 3"], points: Float[np.ndarray, "*B P 2"]) -> Float[np.ndarray, "*B P 2"]:
    """Where a homography takes points."""
    carried = points @ np.swapaxes(homography[..., :2], -1, -2) + homography[..., None, :, 2]
    return carried[..., :2] / carried[..., 2:]


def carry_back(points: Float[np.ndarray, "P 2"], to_frame: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "P 2"]:
    """Where points of a frame (px, centres at +0.5) lie in the steadied one."""
    return carry(np.linalg.inv(of_coordinates(to_frame)), points)


def carry_box_back(box: tuple[float, float, float, float], to_frame: Float[np.ndarray, "3 3"]) -> tuple[float, float, float, float]:
    """The box around where a frame's box (x0, y0, x1, y1, px) lies in the steadied one."""
    x0, y0, x1, y1 = box
    corners = carry_back(np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]), to_frame)
    return (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def roomy(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """A box with room around it."""
    x0, y0, x1, y1 = box
    room = PERSON_ROOM * max(x1 - x0, y1 - y0)
    return x0 - room, y0 - room, x1 + room, y1 + room


def follow_points(
    before: UInt8[np.ndarray, "H W"], now: UInt8[np.ndarray, "H W"], points: Float[np.ndarray, "P 2"], expected: Float[np.ndarray, "P 2"],
    box: tuple[float, float, float, float] | None,
) -> tuple[Float[np.ndarray, "Q 2"], Float[np.ndarray, "Q 2"]]:  # fmt: skip
    """Points of one frame that are found in another, outside of the person there, and found again on the way back; where they are in either.

    Args:
        expected: where they are looked for first.
    """
    if not len(points):
        return points, points
    flow = dict(winSize=PATCH, maxLevel=4, criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01))
    moved, status, _ = cv2.calcOpticalFlowPyrLK(before, now, points, expected.astype(np.float32), flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **flow)
    back, again, _ = cv2.calcOpticalFlowPyrLK(now, before, moved, points.copy(), flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **flow)
    returns = np.linalg.norm(back - points, axis=1) < TOLERANCE
    kept = (status.ravel() == 1) & (again.ravel() == 1) & returns & ~_within(moved, box)
    return points[kept], moved[kept]


def _match(
    before: UInt8[np.ndarray, "H W"], now: UInt8[np.ndarray, "H W"], points: Float[np.ndarray, "P 2"],
    guess: Float[np.ndarray, "2 3"], box: tuple[float, float, float, float] | None,
) -> Float[np.ndarray, "2 3"] | None:  # fmt: skip
    """The similarity by which most background points moved; None where there is no such majority."""
    if len(points) < MIN_POINTS:
        return None
    points, moved = follow_points(before, now, points, points @ guess[:, :2].T + guess[:, 2], box)
    if len(points) < MIN_POINTS:
        return None
    cv2.setRNGSeed(0)
    similarity, agree = cv2.estimateAffinePartial2D(points, moved, method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE, maxIters=500, refineIters=10)
    if similarity is None or agree.sum() < max(MIN_POINTS, MIN_AGREEMENT * len(points)):
        return None
    return similarity


def _compose(after: Float[np.ndarray, "2 3"], first: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """First `first`, then `after`."""
    return after[:, :2] @ first + np.array([[0, 0, 1.0]]) * after[:, 2:]


def _within(points: Float[np.ndarray, "P 2"], box: tuple[float, float, float, float] | None) -> np.ndarray:
    """Which points lie in the person's box."""
    if box is None:
        return np.zeros(len(points), bool)
    x0, y0, x1, y1 = roomy(box)
    return (points[:, 0] > x0) & (points[:, 0] < x1) & (points[:, 1] > y0) & (points[:, 1] < y1)
