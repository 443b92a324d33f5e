"""Where people's landmarks are in one frame: BlazePose, run by LiteRT. The one door to the detectors.

Axes: H x W pixels of a frame, 33 landmarks named by BLAZEPOSE_NAMES. The networks are the .tflite files that the wheel of
mediapipe 0.10.14 carries (Apache-2.0); mediapipe itself is never imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from model.fitting import blazepose_boxes as boxes
from model.fitting import blazepose_decode as decode
from model.fitting import subject
from model.fitting.blazepose_boxes import Roi
from model.fitting.blazepose_decode import BLAZEPOSE_NAMES
from model.fitting.blazepose_networks import MissingDetectorError, Network

__all__ = ["BLAZEPOSE_NAMES", "MissingDetectorError", "PoseDetector", "PoseLandmarks", "box_overlap", "prominence", "same_person"]

MIN_DETECTION = 0.5  # score below which a box is no person (published graph)
MIN_PRESENCE = 0.5  # presence below which the person is lost (published graph)
DETECTOR_SHAPES = ((2254, 12), (2254, 1))  # boxes with key points, score logits
LANDMARK_SHAPES = ((195,), (1,), (256, 256, 1), (64, 64, 39), (117,))  # points, presence, mask, heat map, world points
TIGHTER = 0.8  # of the landmarks' square, for the mask
ROOM = 1.05  # of the mask's own extent
MAX_JUMP = 1.0  # beyond this, who is found after a loss is somebody else; see _jump
TILE_SIDE = 0.65  # of the picture's longer side, at most, when people are looked for tile by tile
TILE_STEP = 0.55  # of a tile
SAME_PLACE = 0.2  # jump below which two squares hold the same person; a turned torso moves its square by less
SAME_POINTS = 0.05  # of the square's side, that one person's points, read twice, lie apart in the median
SAME_BOX = 0.5  # IoU of two boxes, one upside down in the other: nobody stands on the head just where somebody stands on the feet
GUIDED_OVERLAP = 0.35  # IoU with where the person is said to be, below which it is somebody else
GUIDE_ROOM = 1.3  # of the guide's longer side, searched when the person is not where it was


@dataclass(frozen=True)
class PoseLandmarks:
    """One person in one frame.

    Attributes:
        points: px, pixel centres at +0.5; may lie outside the picture.
        confidence: that the point is in the picture and not hidden (visibility times presence), 0..1.
        points_world: metres from the middle of the hips; x right, y down, z away from the camera.
        presence: that this is a person at all, 0..1.
        mask: share of person in each pixel, 0..1; None when it was not asked for.
        box: x0, y0, x1, y1 around the person, px, inside the picture.
        alignment: hip centre and a point of the circle around the body, px: where to look in the next frame.
        others: how many other people were found in the frame; 0 where nobody looked for them.
    """

    points: Float[np.ndarray, "33 2"]
    confidence: Float[np.ndarray, "33"]
    points_world: Float[np.ndarray, "33 3"]
    presence: float
    mask: Float[np.ndarray, "H W"] | None
    box: tuple[float, float, float, float]
    alignment: Float[np.ndarray, "2 2"]
    others: int = 0

    @property
    def roi(self) -> Roi:
        """The square of the picture that holds this person."""
        return boxes.roi_from_alignment(*self.alignment)


class PoseDetector:
    """Finds a person and follows it from frame to frame.

    Raises:
        MissingDetectorError: the networks' files or LiteRT are not installed.
    """

    def __init__(self, num_threads: int = 2) -> None:
        self._detector = Network("pose_detection/pose_detection.tflite", DETECTOR_SHAPES, num_threads)
        self._landmarker = Network("pose_landmark/pose_landmark_full.tflite", LANDMARK_SHAPES, num_threads)
        self._anchors = boxes.detector_anchors()

    def track(
        self, image: UInt8[np.ndarray, "H W 3"], previous: PoseLandmarks | None = None, *, with_mask: bool = True
    ) -> PoseLandmarks | None:
        """Find the person in one frame; `previous` says where it was in the frame before.

        Without `previous`, or when the person is no longer there, the whole picture is searched: for whoever is
        nearest to the previous place and size, or else for the largest and most central person.

        Returns:
            The landmarks, or None where no person is found.
        """
        if previous is not None:
            found = self._read(image, previous.roi, with_mask=with_mask)
            if found is not None:
                return found
        for roi in self._ranked(image, previous):
            first = self._read(image, roi, with_mask=False)
            if first is not None:
                return self._read(image, first.roi, with_mask=with_mask) or self._read(image, roi, with_mask=with_mask)
        return None

    def everybody(self, image: UInt8[np.ndarray, "H W 3"], before: Sequence[PoseLandmarks] = ()) -> list[PoseLandmarks]:
        """All people in the picture, in no order; those of the frame `before` are looked for where they were.

        The detector sees one or two people at a time, so the picture is searched as a whole and tile by tile.
        """
        return self._gather(image, before, [])

    def others(
        self, image: UInt8[np.ndarray, "H W 3"], person: PoseLandmarks, before: Sequence[PoseLandmarks] = ()
    ) -> list[PoseLandmarks]:
        """All people in the picture but one."""
        return self._gather(image, before, [person])[1:]

    def _gather(
        self, image: UInt8[np.ndarray, "H W 3"], before: Sequence[PoseLandmarks], people: list[PoseLandmarks]
    ) -> list[PoseLandmarks]:
        """`people` and everybody else. Of two readings of one body the surer one is kept, but `people` themselves stay."""
        given = len(people)
        squares = [person.roi for person in before] + [roi for window in _windows(image.shape) for roi, _ in self._find_in(image, window)]
        for square in squares:
            if any(_jump(person.roi, square) < SAME_PLACE for person in people):
                continue
            person = self._read(image, square, with_mask=False)
            if person is None:
                continue
            twin = next((place for place, other in enumerate(people) if same_person(other, person)), None)
            if twin is None:
                people.append(person)
            elif twin >= given and person.confidence.sum() > people[twin].confidence.sum():
                people[twin] = person
        return people

    def look_again(self, image: UInt8[np.ndarray, "H W 3"], person: PoseLandmarks, *, with_mask: bool = True) -> PoseLandmarks:
        """The same person in a square that fits it better."""
        return self._read(image, person.roi, with_mask=with_mask) or person

    def at(
        self, image: UInt8[np.ndarray, "H W 3"], box: tuple[float, float, float, float], previous: PoseLandmarks | None, *, with_mask: bool = True
    ) -> PoseLandmarks | None:
        """The person who fills a box (x0, y0, x1, y1, px), looked for where it was in the frame before and then inside the box."""
        if previous is not None:
            found = self._read(image, previous.roi, with_mask=with_mask)
            if found is not None and box_overlap(found.box, box) >= GUIDED_OVERLAP:
                return found
        side = GUIDE_ROOM * max(box[2] - box[0], box[3] - box[1])
        window = Roi(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), float(side), 0.0)
        found = [self._read(image, roi, with_mask=with_mask) for roi, _ in self._find_in(image, window)]
        found = [person for person in found if person is not None]
        best = max(found, key=lambda person: box_overlap(person.box, box), default=None)
        return best if best is not None and box_overlap(best.box, box) >= GUIDED_OVERLAP else None

    def segment(self, image: UInt8[np.ndarray, "H W 3"], person: PoseLandmarks) -> Float[np.ndarray, "H W"]:
        """A finer mask of a person who is found already: share of person in each pixel, 0..1.

        The mask that comes with the landmarks spends a third of its pixels on empty margin. This one averages tighter
        squares, each seen as it is and mirrored.
        """
        height, width = image.shape[:2]
        total = np.zeros((height, width), np.float32)
        squares = [Roi(person.roi.centre, person.roi.size * TIGHTER, person.roi.angle), _square_around_mask(person)]
        for square in squares:
            crop = boxes.crop_roi(image, square, decode.LANDMARK_SIZE).astype(np.float32) / 255
            mask = decode.sigmoid(self._landmarker(crop)[2][..., 0])
            mirrored = decode.sigmoid(self._landmarker(np.ascontiguousarray(crop[:, ::-1]))[2][..., 0])[:, ::-1]
            total += boxes.paste_roi(((mask + mirrored) / 2).astype(np.float32), square, height, width)
        return total / len(squares)

    def _ranked(self, image: UInt8[np.ndarray, "H W 3"], previous: PoseLandmarks | None) -> list[Roi]:
        """Squares of those in the picture who can be the person, the likeliest first."""
        found = [roi for roi, _ in self._find(image)]
        if previous is None:
            return sorted(found, key=lambda roi: -prominence(roi, image.shape))
        jumps = [_jump(previous.roi, roi) for roi in found]
        near = [(jump, roi) for jump, roi in zip(jumps, found, strict=True) if jump < MAX_JUMP]
        return [roi for _, roi in sorted(near, key=lambda pair: pair[0])]

    def _find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Roi, float]]:
        """Squares of everybody in the picture; when nobody is seen in the whole, it is searched tile by tile."""
        whole, *tiles = _windows(image.shape)
        found = self._find_in(image, whole) or [hit for tile in tiles for hit in self._find_in(image, tile)]
        return sorted(found, key=lambda hit: -hit[1])

    def _find_in(self, image: UInt8[np.ndarray, "H W 3"], window: Roi) -> list[tuple[Roi, float]]:
        """Squares of everybody inside an upright square window."""
        crop = boxes.crop_roi(image, window, boxes.DETECTOR_SIZE)
        raw, logits = self._detector(crop.astype(np.float32) / 127.5 - 1)
        found = boxes.decode_detections(raw, logits[:, 0], self._anchors, min_score=MIN_DETECTION)
        points = window.to_image(found.keypoints)
        return [(boxes.roi_from_alignment(p[0], p[1]), float(s)) for p, s in zip(points, found.scores, strict=True)]

    def _read(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi, *, with_mask: bool) -> PoseLandmarks | None:
        """The landmarks inside one square, or None when no person is in it."""
        height, width = image.shape[:2]
        size = decode.LANDMARK_SIZE
        crop = boxes.crop_roi(image, roi, size).astype(np.float32) / 255
        raw, presence, mask, heat, world = self._landmarker(crop)
        if not np.isfinite(presence[0]) or presence[0] < MIN_PRESENCE:
            return None
        inside = decode.decode_landmarks(raw, float(presence[0]), mask[..., 0], heat, world)
        points = roi.to_image(inside.points)
        points_world = inside.points_world.copy()
        points_world[:, :2] = points_world[:, :2] @ roi.rotation.T
        pasted = boxes.paste_roi(inside.mask.astype(np.float32), roi, height, width)
        return PoseLandmarks(
            points=points[: decode.NUM_BODY],
            confidence=inside.confidence[: decode.NUM_BODY],
            points_world=points_world[: decode.NUM_BODY],
            presence=inside.presence,
            mask=pasted if with_mask else None,
            box=_person_box(points[: decode.NUM_BODY], inside.confidence[: decode.NUM_BODY], pasted),
            alignment=points[list(decode.ALIGNMENT)],
        )


def _windows(shape: tuple[int, ...]) -> list[Roi]:
    """The whole picture as a square, then square tiles that overlap by half."""
    height, width = shape[:2]
    side = min(height, width, TILE_SIDE * max(height, width))

    def middles(length: float) -> Float[np.ndarray, "T"]:
        count = int(np.ceil((length - side) / (side * TILE_STEP))) + 1
        return np.linspace(0, length - side, count) + side / 2

    tiles = [Roi((float(x), float(y)), float(side), 0.0) for y in middles(height) for x in middles(width)]
    return [Roi((width / 2, height / 2), float(max(width, height)), 0.0), *tiles]


def box_overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    return float(boxes.box_iou(np.asarray(a), np.asarray(b)[None])[0])


def prominence(roi: Roi, shape: tuple[int, ...]) -> float:
    """Size of a person in px, halved towards the corners of the picture."""
    middle = np.array([shape[1], shape[0]]) / 2
    away = np.linalg.norm(np.asarray(roi.centre) - middle) / np.linalg.norm(middle)
    return roi.size * (1 - 0.5 * min(away, 1.0))


def same_person(one: PoseLandmarks, other: PoseLandmarks) -> bool:
    """Whether two readings of a frame are of one body: from much the same square, with much the same points, or as its mirage upside down."""
    if _jump(one.roi, other.roi) < SAME_PLACE or np.median(np.linalg.norm(one.points - other.points, axis=1)) < SAME_POINTS * one.roi.size:
        return True
    return bool(np.cos(one.roi.angle - other.roi.angle) < 0) and box_overlap(one.box, other.box) > SAME_BOX


def _jump(before: Roi, now: Roi) -> float:
    """How much a person would have moved and grown between two squares."""
    return float(subject.jump(np.array([*before.centre, before.size]), np.array([*now.centre, now.size])))


def _square_around_mask(person: PoseLandmarks) -> Roi:
    """The square of the same angle that just holds the person's mask."""
    rows, columns = np.nonzero(person.mask > 0.3) if person.mask is not None else ((), ())
    if not len(rows):
        return person.roi
    inside = person.roi.to_unit(np.stack([columns, rows], axis=1) + 0.5)
    low, high = inside.min(axis=0), inside.max(axis=0)
    centre = person.roi.to_image((low + high) / 2)
    return Roi((float(centre[0]), float(centre[1])), float(person.roi.size * (high - low).max() * ROOM), person.roi.angle)


def _person_box(
    points: Float[np.ndarray, "33 2"], confidence: Float[np.ndarray, "33"], mask: Float[np.ndarray, "H W"]
) -> tuple[float, float, float, float]:
    """The box around the visible landmarks and the mask, px, inside the picture."""
    height, width = mask.shape
    seen = points[confidence > 0.5] if (confidence > 0.5).any() else points
    low, high = seen.min(axis=0), seen.max(axis=0)
    columns, rows = np.flatnonzero((mask > 0.5).any(axis=0)), np.flatnonzero((mask > 0.5).any(axis=1))
    if len(columns):
        low = np.minimum(low, [columns[0], rows[0]])
        high = np.maximum(high, [columns[-1] + 1, rows[-1] + 1])
    low, high = np.clip(low, 0, [width, height]), np.clip(high, 0, [width, height])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
