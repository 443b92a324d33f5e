"""Hands and face of a person whose body is found: 21 points of each hand, 468 of the face, by MediaPipe's networks.

Axes: H x W pixels of a frame. Squares to look in come from the body's landmarks, so no detector of palms or faces runs. The
networks are the .tflite files of the same wheel as BlazePose's (Apache-2.0). Numbers named "published" are those of the
graphs modules/hand_landmark and modules/face_landmark.

The order of a hand's points: 0 wrist; then four of each finger from its root to its tip: 1 thumb, 5 index, 9 middle,
13 ring, 17 little finger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from model.fitting.blazepose_boxes import Roi, crop_roi
from model.fitting.blazepose_decode import sigmoid
from model.fitting.blazepose_networks import Network

HAND_SIZE, FACE_SIZE = 224, 192  # px, sides of the networks' inputs
NUM_HAND, NUM_FACE = 21, 468
HAND_OUTPUTS = ("Identity", "Identity_1", "Identity_2", "Identity_3")  # points, presence, handedness, world points
FACE_OUTPUTS = ((1, 1, 3 * NUM_FACE), (1, 1, 1))
MIN_PRESENCE = 0.5  # published
LEFT, RIGHT = (15, 17, 19), (16, 18, 20)  # wrist, little finger's and index finger's knuckle of BlazePose
FIRST_HAND = 4.4  # side of the first square, in distances from wrist to knuckles
HAND_ROOM, HAND_AHEAD = 2.0, 0.1  # published: the next square around the palm's points, and its shift towards the fingers
PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)  # published: the points that the next square is laid around
FIRST_FACE, FACE_ROOM = 5.2, 1.5  # side of the first square in distances from eyes to mouth; of the second around all points (published)
LEFT_EYE, RIGHT_EYE, MOUTH = (263, 362), (33, 133), (61, 291)  # corners among the face's points; left is the person's own
MIN_HAND_PX = 12.0  # a smaller hand, from wrist to knuckles, says nothing


@dataclass(frozen=True)
class HandLandmarks:
    """One hand.

    Attributes:
        points: px, pixel centres at +0.5. points_world: metres from the hand's middle, camera's directions.
        presence: that there is a hand at all, 0..1.
        is_right: that it is a right hand, 0..1, as the network sees it.
    """

    points: Float[np.ndarray, "21 2"]
    points_world: Float[np.ndarray, "21 3"]
    presence: float
    is_right: float

    @property
    def palm(self) -> Float[np.ndarray, "3 3"]:
        """The palm's directions in camera axes, as columns: from wrist to middle finger, from little to index finger, out of
        the plane of both."""
        return frame_of_palm(self.points_world[0], self.points_world[9], self.points_world[17], self.points_world[5])


@dataclass(frozen=True)
class FaceLandmarks:
    """One face.

    Attributes:
        points: px. depths: how far behind the face's middle each lies, px.
        presence: that there is a face at all, 0..1.
    """

    points: Float[np.ndarray, "468 2"]
    depths: Float[np.ndarray, "468"]
    presence: float

    @property
    def head(self) -> Float[np.ndarray, "3 3"]:
        """The head's directions in camera axes, as columns: to its left, up, ahead (a right-handed frame)."""
        solid = np.concatenate([self.points, self.depths[:, None]], axis=1)
        left_eye, right_eye, mouth = solid[list(LEFT_EYE)].mean(0), solid[list(RIGHT_EYE)].mean(0), solid[list(MOUTH)].mean(0)
        return frame_of_head(left_eye, right_eye, mouth)


class HandAndFaceReader:
    """Reads hands and face of a person.

    Raises:
        MissingDetectorError: the networks' files or LiteRT are not installed.
    """

    def __init__(self, num_threads: int = 2) -> None:
        self._hand = Network("hand_landmark/hand_landmark_full.tflite", HAND_OUTPUTS, num_threads)
        self._face = Network("face_landmark/face_landmark.tflite", FACE_OUTPUTS, num_threads)

    def hands(
        self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "33 2"]
    ) -> tuple[HandLandmarks | None, HandLandmarks | None]:
        """Left and right hand; None where it is too small, or no hand is seen there.

        Args:
            points: BlazePose's landmarks of the person, px.
        """
        left, right = (self._hand_at(image, first_hand_square(points[list(side)])) for side in (LEFT, RIGHT))
        return left, right

    def face(self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "33 2"]) -> FaceLandmarks | None:
        """The face; None where none is seen, as on a person who turns their back."""
        first = self._read_face(image, first_face_square(points))
        if first is None:
            return None
        low, high = first.points.min(0), first.points.max(0)
        side = float(FACE_ROOM * (high - low).max())
        return self._read_face(image, Roi(tuple((low + high) / 2), side, first_face_square(points).angle))

    def _hand_at(self, image: UInt8[np.ndarray, "H W 3"], square: Roi | None) -> HandLandmarks | None:
        """Look, lay a square around what is seen, look again."""
        if square is None:
            return None
        first = self._read_hand(image, square)
        return None if first is None else self._read_hand(image, square_around_palm(first.points))

    def _read_hand(self, image: UInt8[np.ndarray, "H W 3"], square: Roi) -> HandLandmarks | None:
        crop = crop_roi(image, square, HAND_SIZE).astype(np.float32) / 255
        raw, presence, is_right, world = self._hand(crop)
        if not np.isfinite(presence[0]) or presence[0] < MIN_PRESENCE:
            return None
        points_world = world.reshape(NUM_HAND, 3).copy()
        points_world[:, :2] = points_world[:, :2] @ square.rotation.T
        points = square.to_image(raw.reshape(NUM_HAND, 3)[:, :2] / HAND_SIZE)
        return HandLandmarks(points, points_world, float(presence[0]), float(is_right[0]))

    def _read_face(self, image: UInt8[np.ndarray, "H W 3"], square: Roi) -> FaceLandmarks | None:
        crop = crop_roi(image, square, FACE_SIZE).astype(np.float32) / 255
        raw, logit = self._face(crop)
        presence = float(sigmoid(logit).ravel()[0])
        if not presence >= MIN_PRESENCE:
            return None
        rows = raw.reshape(NUM_FACE, 3) / FACE_SIZE
        return FaceLandmarks(square.to_image(rows[:, :2]), rows[:, 2] * square.size, presence)


def first_hand_square(wrist_pinky_index: Float[np.ndarray, "3 2"]) -> Roi | None:
    """Where a hand is by BlazePose: a square around the knuckles' middle, its top towards the fingers; None for a tiny hand."""
    wrist, pinky, index = wrist_pinky_index
    middle = (2 * index + pinky) / 3  # published
    reach = middle - wrist
    length = float(np.hypot(*reach))
    if not length >= MIN_HAND_PX:
        return None
    return Roi(tuple(wrist + 1.1 * reach), FIRST_HAND * length, _angle_up(reach))


def square_around_palm(points: Float[np.ndarray, "21 2"]) -> Roi:
    """The next square: around the palm's points, turned so that the middle finger points up in it."""
    reach = (points[5] + points[13]) / 4 + points[9] / 2 - points[0]  # published
    angle = _angle_up(reach)
    turned = points[list(PALM)] @ Roi((0.0, 0.0), 1.0, angle).rotation
    low, high = turned.min(0), turned.max(0)
    side = float((high - low).max())
    middle = (low + high) / 2 - np.array([0, HAND_AHEAD * (high - low)[1]])
    return Roi(tuple(Roi((0.0, 0.0), 1.0, angle).rotation @ middle), HAND_ROOM * side, angle)


def first_face_square(points: Float[np.ndarray, "33 2"]) -> Roi:
    """Where the face is by BlazePose: a square around eyes and mouth, its top towards the brow."""
    eyes, mouth = points[[2, 5]].mean(0), points[[9, 10]].mean(0)
    up = eyes - mouth
    length = max(float(np.hypot(*up)), 0.6 * float(np.hypot(*(points[2] - points[5]))), 2.0)
    return Roi(tuple((eyes + mouth) / 2), FIRST_FACE * length, _angle_up(up))


def frame_of_palm(
    wrist: Float[np.ndarray, "*B 3"], middle: Float[np.ndarray, "*B 3"], pinky: Float[np.ndarray, "*B 3"], index: Float[np.ndarray, "*B 3"]
) -> Float[np.ndarray, "*B 3 3"]:
    """The palm's directions as columns: along the fingers, across to the index finger, out of the plane of both."""
    unit = lambda v: v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)  # noqa: E731
    along = unit(middle - wrist)
    out = unit(np.cross(along, index - pinky))
    return np.stack([along, np.cross(out, along), out], axis=-1)


def frame_of_head(
    left_eye: Float[np.ndarray, "*B 3"], right_eye: Float[np.ndarray, "*B 3"], mouth: Float[np.ndarray, "*B 3"]
) -> Float[np.ndarray, "*B 3 3"]:
    """The head's directions as columns: to its left, up at right angles to that, ahead."""
    unit = lambda v: v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)  # noqa: E731
    left = unit(left_eye - right_eye)
    ahead = unit(np.cross(left, (left_eye + right_eye) / 2 - mouth))
    return np.stack([left, np.cross(ahead, left), ahead], axis=-1)


def _angle_up(direction: Float[np.ndarray, "2"]) -> float:
    """How far a square is turned whose top lies in a direction of the picture, rad."""
    return float(np.arctan2(direction[0], -direction[1]))
