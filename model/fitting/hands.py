"""Hands and face of a person whose body is found: 21 points of each hand, 468 of the face, by MediaPipe's networks.

Axes: H x W pixels of a frame. Squares to look in come from the body's landmarks, so no detector of palms or faces runs, and
which hand is the left one is the body's word, never the network's. The networks are the .tflite files of the same wheel as
BlazePose's (Apache-2.0). Numbers named "published" are those of the graphs modules/hand_landmark and modules/face_landmark.

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
SIDES = {"left": (15, 17, 19), "right": (16, 18, 20)}  # wrist, little finger's and index finger's knuckle of BlazePose
FIRST_HAND = 2.6  # side of the first square, in distances from wrist to knuckles: of 2.0 to 4.4 what finds most hands (benchmarks/hands.py)
FORESHORTENED = 0.6  # of the palm's true length: a hand that points at the camera is looked for in no smaller a square
HAND_ROOM, HAND_AHEAD = 2.0, 0.1  # published: the next square around the palm's points, and its shift towards the fingers
PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)  # published: the points that the next square is laid around
FAR_FROM_WRIST = 1.0  # palm lengths between the hand's own wrist and the body's, beyond which it is another hand
MIN_FACE_GUESS = 0.5  # published: a first square with less of a face holds none
FIRST_FACE, FACE_ROOM = 5.2, 1.5  # side of the first square in distances from eyes to mouth; of the second around all points (published)


@dataclass(frozen=True)
class PartLandmarks:
    """What a network says of one hand or face.

    Attributes:
        points: px, pixel centres at +0.5.
        presence: that there is one at all, 0..1.
    """

    points: Float[np.ndarray, "P 2"]
    presence: float


class HandAndFaceReader:
    """Reads hands and face of a person.

    Raises:
        MissingDetectorError: the networks' files or LiteRT are not installed.
    """

    def __init__(self, num_threads: int = 2) -> None:
        self._hand = Network("hand_landmark/hand_landmark_full.tflite", HAND_OUTPUTS, num_threads)
        self._face = Network("face_landmark/face_landmark.tflite", FACE_OUTPUTS, num_threads)

    def hand(
        self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "33 2"], side: str, palm_px: float, *, min_presence: float
    ) -> PartLandmarks | None:
        """One hand: look, lay a square around what is seen, look again. None where no hand is seen at that wrist.

        The first square is a guess, and what the network says of its presence there counts for nothing.

        Args:
            points: BlazePose's landmarks of the person, px.
            side: "left" or "right", of the person.
            palm_px: how long the palm is at its distance from the camera, seen flat, from wrist to middle knuckle.
        """
        wrist_pinky_index = points[list(SIDES[side])]
        guess = self._read_hand(image, first_hand_square(wrist_pinky_index, palm_px))
        found = self._read_hand(image, square_around_palm(guess.points))
        if not found.presence >= min_presence or np.linalg.norm(found.points[0] - wrist_pinky_index[0]) > FAR_FROM_WRIST * palm_px:
            return None
        return found

    def face(self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "33 2"], *, min_presence: float) -> PartLandmarks | None:
        """The face; None where none is seen, as on a person who turns their back."""
        square = first_face_square(points)
        guess = self._read_face(image, square)
        if not guess.presence >= MIN_FACE_GUESS:
            return None
        low, high = guess.points.min(0), guess.points.max(0)
        found = self._read_face(image, Roi(tuple((low + high) / 2), float(FACE_ROOM * (high - low).max()), square.angle))
        return found if found.presence >= min_presence else None

    def _read_hand(self, image: UInt8[np.ndarray, "H W 3"], square: Roi) -> PartLandmarks:
        raw, presence, _, _ = self._hand(crop_roi(image, square, HAND_SIZE).astype(np.float32) / 255)
        return PartLandmarks(square.to_image(raw.reshape(NUM_HAND, 3)[:, :2] / HAND_SIZE), float(presence[0]))

    def _read_face(self, image: UInt8[np.ndarray, "H W 3"], square: Roi) -> PartLandmarks:
        raw, logit = self._face(crop_roi(image, square, FACE_SIZE).astype(np.float32) / 255)
        presence = float(sigmoid(logit).ravel()[0])
        return PartLandmarks(square.to_image(raw.reshape(NUM_FACE, 3)[:, :2] / FACE_SIZE), presence)


def first_hand_square(wrist_pinky_index: Float[np.ndarray, "3 2"], palm_px: float) -> Roi:
    """Where a hand is by BlazePose: a square around the knuckles' middle, its top towards the fingers."""
    wrist, pinky, index = wrist_pinky_index
    reach = (2 * index + pinky) / 3 - wrist  # published
    length = max(float(np.hypot(*reach)), FORESHORTENED * palm_px)
    return Roi(tuple(wrist + reach), FIRST_HAND * length, _angle_up(reach))


def square_around_palm(points: Float[np.ndarray, "21 2"]) -> Roi:
    """The next square: around the palm's points, turned so that the middle finger points up in it."""
    reach = (points[5] + points[13]) / 4 + points[9] / 2 - points[0]  # published
    angle = _angle_up(reach)
    turn = Roi((0.0, 0.0), 1.0, angle).rotation
    turned = points[list(PALM)] @ turn
    low, high = turned.min(0), turned.max(0)
    middle = (low + high) / 2 - np.array([0, HAND_AHEAD * (high - low)[1]])
    return Roi(tuple(turn @ middle), HAND_ROOM * float((high - low).max()), angle)


def first_face_square(points: Float[np.ndarray, "33 2"]) -> Roi:
    """Where the face is by BlazePose: a square around eyes and mouth, its top towards the brow."""
    eyes, mouth = points[[2, 5]].mean(0), points[[9, 10]].mean(0)
    up = eyes - mouth
    length = max(float(np.hypot(*up)), 0.6 * float(np.hypot(*(points[2] - points[5]))), 2.0)
    return Roi(tuple((eyes + mouth) / 2), FIRST_FACE * length, _angle_up(up))


def _angle_up(direction: Float[np.ndarray, "2"]) -> float:
    """How far a square is turned whose top lies in a direction of the picture, rad."""
    return float(np.arctan2(direction[0], -direction[1]))
