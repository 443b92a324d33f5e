"""Where the person's landmarks are in each frame: BlazePose, run by LiteRT. The one door to the detectors.

Axes: H x W pixels of a frame, 33 landmarks named by BLAZEPOSE_NAMES. The networks are the .tflite files that the wheel of
mediapipe 0.10.14 carries (Apache-2.0); mediapipe itself is never imported.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from model.fitting import blazepose_boxes as boxes
from model.fitting import blazepose_decode as decode
from model.fitting.blazepose_boxes import Roi
from model.fitting.blazepose_decode import BLAZEPOSE_NAMES

__all__ = ["BLAZEPOSE_NAMES", "MissingDetectorError", "PoseDetector", "PoseLandmarks", "track_clip"]

MEDIAPIPE_VERSION = "0.10.14"  # newer wheels carry no networks
MIN_DETECTION = 0.5  # score below which a box is no person (published graph)
MIN_PRESENCE = 0.5  # presence below which the person is lost (published graph)
DETECTOR_SHAPES = ((2254, 12), (2254, 1))  # boxes with key points, score logits
LANDMARK_SHAPES = ((195,), (1,), (256, 256, 1), (64, 64, 39), (117,))  # points, presence, mask, heat map, world points
TILE_OVERLAP = 0.5  # of a tile, when a small person is looked for tile by tile


class MissingDetectorError(RuntimeError):
    """The networks' files are not installed; the message says how to get them."""


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
    """

    points: Float[np.ndarray, "33 2"]
    confidence: Float[np.ndarray, "33"]
    points_world: Float[np.ndarray, "33 3"]
    presence: float
    mask: Float[np.ndarray, "H W"] | None
    box: tuple[float, float, float, float]
    alignment: Float[np.ndarray, "2 2"]

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
        self._detector = _Network("pose_detection/pose_detection.tflite", DETECTOR_SHAPES, num_threads)
        self._landmarker = _Network("pose_landmark/pose_landmark_full.tflite", LANDMARK_SHAPES, num_threads)
        self._anchors = boxes.detector_anchors()

    def detect_boxes(self, image: UInt8[np.ndarray, "H W 3"]) -> list[tuple[tuple[float, float, float, float], float]]:
        """Everybody in the picture: the upright box of the circle around each body, px, and its score, best first."""
        return [(_bounds(roi, image.shape), score) for roi, score in self._find(image)]

    def track(
        self, image: UInt8[np.ndarray, "H W 3"], previous: PoseLandmarks | None = None, *, with_mask: bool = True
    ) -> PoseLandmarks | None:
        """Find the person in one frame; `previous` says where it was in the frame before.

        Without `previous`, or when the person is no longer there, the whole picture is searched: the nearest to the
        previous place is taken, or else the largest and most central person.

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

    def _ranked(self, image: UInt8[np.ndarray, "H W 3"], previous: PoseLandmarks | None) -> list[Roi]:
        """Squares of the people in the picture, the likeliest subject first."""
        height, width = image.shape[:2]

        def rank(roi: Roi) -> float:
            away = np.hypot(roi.centre[0] - width / 2, roi.centre[1] - height / 2) / np.hypot(width / 2, height / 2)
            if previous is None:
                return -roi.size * (1 - 0.5 * away)
            moved = np.hypot(*(np.asarray(roi.centre) - previous.alignment[0])) / previous.roi.size
            return moved + abs(np.log(roi.size / previous.roi.size))

        return sorted((roi for roi, _ in self._find(image)), key=rank)

    def _find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Roi, float]]:
        """Squares of everybody in the picture; when nobody is seen in the whole, it is searched tile by tile."""
        height, width = image.shape[:2]
        whole = Roi((width / 2, height / 2), float(max(width, height)), 0.0)
        found = self._find_in(image, whole)
        if found:
            return found
        side = float(min(width, height))
        count = int(np.ceil((max(width, height) - side) / (side * TILE_OVERLAP))) + 1
        starts = np.linspace(0, max(width, height) - side, count) + side / 2
        tiles = [Roi((s, height / 2) if width >= height else (width / 2, s), side, 0.0) for s in starts]
        found = [hit for tile in tiles if count > 1 for hit in self._find_in(image, tile)]
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


def track_clip(
    images: Iterable[UInt8[np.ndarray, "H W 3"]],
    *,
    detector: PoseDetector | None = None,
    with_mask: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> list[PoseLandmarks | None]:
    """Follow one person through a clip.

    Args:
        images: the frames, in order.
        detector: a detector to use again; None makes one.
        with_mask: whether to keep a mask for each frame (4 bytes a pixel).
        progress: called with the number of frames done.

    Returns:
        One answer a frame; None where the person is not found.
    """
    detector = detector or PoseDetector()
    followed: list[PoseLandmarks | None] = []
    last = None
    for i, image in enumerate(images):
        found = detector.track(image, last, with_mask=with_mask)
        followed.append(found)
        last = found or last
        progress(i + 1)
    return followed


def _bounds(roi: Roi, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """The upright box around the circle that a square was made from, cut at the picture's border."""
    reach = roi.size / boxes.ROI_SCALE / 2
    low = np.maximum(np.asarray(roi.centre) - reach, 0)
    high = np.minimum(np.asarray(roi.centre) + reach, [shape[1], shape[0]])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


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


class _Network:
    """One .tflite file, run by LiteRT: one picture in, its outputs in a fixed order, told apart by their shapes."""

    def __init__(self, name: str, shapes: tuple[tuple[int, ...], ...], num_threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDetectorError("LiteRT is not installed; run: pip install ai-edge-litert==2.3.0") from error
        self._interpreter = Interpreter(model_path=str(network_file(name)), num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        by_shape = {tuple(d["shape"][1:]): d["index"] for d in self._interpreter.get_output_details()}
        assert set(by_shape) == set(shapes), f"{name} has outputs {sorted(by_shape)}, expected {sorted(shapes)}"
        self._outputs = [by_shape[shape] for shape in shapes]

    def __call__(self, image: Float[np.ndarray, "S S 3"]) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, image[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0].astype(np.float64) for index in self._outputs]


def network_file(name: str) -> Path:
    """Where the installed mediapipe wheel keeps one of its networks; `name` is relative to its modules/ folder.

    Raises:
        MissingDetectorError: the wheel is not installed, or this version of it carries no such file.
    """
    remedy = f"run: pip install --no-deps mediapipe=={MEDIAPIPE_VERSION}"
    try:
        wheel = importlib.metadata.distribution("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        raise MissingDetectorError(f"expected the networks inside the mediapipe wheel, found no such wheel; {remedy}") from None
    path = Path(str(wheel.locate_file("mediapipe"))) / "modules" / name
    if not path.is_file():
        raise MissingDetectorError(f"expected {name} inside mediapipe {MEDIAPIPE_VERSION}, found {wheel.version} without it; {remedy}")
    return path
