"""Where a person is: the boxes of BlazePose's detector, and the rotated square that its landmark network looks at.

Axes: A anchors, D detections, N points. Pixels have their centres at +0.5; angles are radians, positive from x to y
(clockwise on the screen). The numbers are those of the graphs published with MediaPipe
(modules/pose_detection/pose_detection_cpu.pbtxt, modules/pose_landmark/pose_landmarks_to_roi.pbtxt).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

DETECTOR_SIZE = 224  # px, side of the detector's input
STRIDES = (8, 16, 32, 32, 32)  # px of the input, one per layer of anchors
ANCHORS_PER_CELL = 2  # one for aspect ratio 1, one interpolated
NUM_KEYPOINTS = 4  # hip centre, full-body circle, shoulder centre, upper-body circle
MIN_OVERLAP = 0.3  # IoU above which two boxes are one person
ROI_SCALE = 1.25  # of the circle around the body


@dataclass(frozen=True)
class Roi:
    """A rotated square of the picture.

    Attributes:
        centre: x, y, px.
        size: side, px.
        angle: how far the square is turned, rad; 0 keeps the picture upright.
    """

    centre: tuple[float, float]
    size: float
    angle: float

    def to_image(self, points_unit: Float[np.ndarray, "*B 2"]) -> Float[np.ndarray, "*B 2"]:
        """Carry points from the unit square to the picture, px."""
        return (points_unit - 0.5) * self.size @ self.rotation.T + np.asarray(self.centre)

    def to_unit(self, points: Float[np.ndarray, "*B 2"]) -> Float[np.ndarray, "*B 2"]:
        """Carry points from the picture to the unit square."""
        return (points - np.asarray(self.centre)) @ self.rotation / self.size + 0.5

    @property
    def rotation(self) -> Float[np.ndarray, "2 2"]:
        """Turns the square's axes into the picture's."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.array([[c, -s], [s, c]])

    def pixel_matrix(self, size: int) -> Float[np.ndarray, "2 3"]:
        """The affine map from pixel *indices* of a size x size crop to pixel indices of the picture (OpenCV's convention)."""
        linear = self.rotation * (self.size / size)
        origin = self.to_image(np.array([0.5 / size, 0.5 / size])) - 0.5
        return np.concatenate([linear, origin[:, None]], axis=1)


def crop_roi(image: UInt8[np.ndarray, "H W 3"], roi: Roi, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The picture inside the square, upright, resampled to size x size; black beyond the border.

    A square of more than twice `size` is first averaged over blocks of pixels, so that fine texture does not alias.
    """
    matrix = roi.pixel_matrix(size)
    block = int(roi.size / size)
    if block >= 2:
        height, width = image.shape[:2]
        image = cv2.resize(image, (max(1, width // block), max(1, height // block)), interpolation=cv2.INTER_AREA)
        shrink = np.array([image.shape[1] / width, image.shape[0] / height])[:, None]
        matrix = matrix * shrink
        matrix[:, 2:] += shrink / 2 - 0.5  # the centre of a block is no whole pixel of the old grid
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def paste_roi(values: Float[np.ndarray, "S S"], roi: Roi, height: int, width: int) -> Float[np.ndarray, "H W"]:
    """Carry a map over the square back to the whole picture; 0 outside the square."""
    return cv2.warpAffine(values, roi.pixel_matrix(values.shape[0]), (width, height), flags=cv2.INTER_LINEAR)


def roi_from_alignment(
    centre: Float[np.ndarray, "2"], circle: Float[np.ndarray, "2"], *, scale: float = ROI_SCALE
) -> Roi:
    """The square around the circle with its centre at the hips that passes through `circle`, the point above the head.

    The square turns so that the body's axis, from `centre` to `circle`, points up in it.
    """
    dx, dy = circle - centre
    angle = np.pi / 2 - np.arctan2(-dy, dx)
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    return Roi((float(centre[0]), float(centre[1])), float(2 * np.hypot(dx, dy) * scale), float(angle))


def detector_anchors() -> Float[np.ndarray, "A 2"]:
    """Centres of the detector's anchors in the unit square, in the order of its output; every anchor has size 1.

    Layers of the same stride share a grid: their anchors are interleaved cell by cell.
    """
    anchors = []
    for stride in sorted(set(STRIDES)):
        cells = DETECTOR_SIZE // stride
        per_cell = ANCHORS_PER_CELL * STRIDES.count(stride)
        y, x = np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij")
        grid = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        anchors.append(np.repeat(grid, per_cell, axis=0))
    return np.concatenate(anchors).astype(np.float32)


@dataclass(frozen=True)
class Detections:
    """What the detector found, in the unit square of its input; D detections, best first.

    Attributes:
        boxes: x0, y0, x1, y1 of the *face*: what overlap is measured on.
        keypoints: hip centre, full-body circle, shoulder centre, upper-body circle.
        scores: 0..1.
    """

    boxes: Float[np.ndarray, "D 4"]
    keypoints: Float[np.ndarray, "D 4 2"]
    scores: Float[np.ndarray, "D"]


def decode_detections(
    raw: Float[np.ndarray, "A 12"], logits: Float[np.ndarray, "A"], anchors: Float[np.ndarray, "A 2"], *, min_score: float
) -> Detections:
    """Turn the detector's output into boxes and key points, one per person.

    Each row is (x, y, w, h, then four points), in input pixels relative to its anchor.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
    kept = scores >= min_score
    raw, anchors, scores = raw[kept] / DETECTOR_SIZE, anchors[kept], scores[kept]
    centres, sizes = raw[:, :2] + anchors, raw[:, 2:4]
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    keypoints = raw[:, 4:].reshape(-1, NUM_KEYPOINTS, 2) + anchors[:, None]
    return merge_overlapping(Detections(boxes, keypoints, scores))


def merge_overlapping(found: Detections) -> Detections:
    """Weighted non-maximum suppression: boxes that overlap become their average, weighted by score."""
    values = np.concatenate([found.boxes, found.keypoints.reshape(-1, 2 * NUM_KEYPOINTS)], axis=1)
    left = list(np.argsort(-found.scores, kind="stable"))
    merged, scores = [], []
    while left:
        overlap = box_iou(found.boxes[left[0]], found.boxes[left])
        same = [i for i, o in zip(left, overlap, strict=True) if o > MIN_OVERLAP] or [left[0]]
        merged.append(np.average(values[same], axis=0, weights=found.scores[same]))
        scores.append(found.scores[left[0]])
        left = [i for i in left if i not in same]
    rows = np.array(merged).reshape(-1, values.shape[1])
    return Detections(rows[:, :4], rows[:, 4:].reshape(-1, NUM_KEYPOINTS, 2), np.array(scores))


def box_iou(box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "D 4"]) -> Float[np.ndarray, "D"]:
    """Intersection over union of one box with others."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    total = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared
    return shared / np.maximum(total, 1e-12)
