"""Claims about hands and face: where they are looked for, what their directions mean, and both on a real frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model.fitting.hands import (
    HandAndFaceReader, first_face_square, first_hand_square, frame_of_head, frame_of_palm, square_around_palm,
)  # fmt: skip
from model.fitting.landmarks import PoseDetector, PoseLandmarks

TAIJI = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "taiji.mp4"
needs_taiji = pytest.mark.skipif(not TAIJI.is_file(), reason=f"needs a real clip at {TAIJI}")


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, -2.5])
def test_the_first_square_of_a_hand_lies_beyond_the_wrist_and_turns_with_it(angle: float):
    wrist_pinky_index = turned(np.array([[0.0, 0.0], [12.0, -40.0], [-12.0, -40.0]]), angle) + 300.0
    square = first_hand_square(wrist_pinky_index)
    inside = square.to_unit(wrist_pinky_index)
    assert abs(inside[0, 0] - 0.5) < 0.02 and inside[0, 1] > 0.6  # the wrist is below the middle, upright
    assert (np.abs(inside - 0.5) < 0.3).all()


def test_a_tiny_hand_is_not_looked_at():
    assert first_hand_square(np.array([[0.0, 0.0], [3.0, -8.0], [-3.0, -8.0]])) is None


def test_the_next_square_holds_all_fingers_upright():
    hand = np.array([[0.0, 0.0], *[[x, -h] for x, h in ((-25, 20), (-35, 35), (-40, 45), (-45, 55))],
                     *[[x, -40.0 - 15 * k] for x in (-15, 0, 12, 24) for k in range(4)]])  # fmt: skip
    for angle in (0.0, 1.2, -2.0):
        square = square_around_palm(turned(hand, angle) + 200.0)
        inside = square.to_unit(turned(hand, angle) + 200.0)
        assert inside.min() > 0.02 and inside.max() < 0.98
        assert inside[12, 1] < inside[9, 1] < inside[0, 1]  # the middle finger points up
        assert square.size == pytest.approx(square_around_palm(hand).size)


def test_directions_are_right_handed_and_turn_with_what_they_describe():
    palm = frame_of_palm(np.zeros(3), np.array([0.0, -1, 0]), np.array([0.3, -1, 0]), np.array([-0.3, -1, 0]))
    assert np.allclose(palm[:, 0], [0, -1, 0]) and np.allclose(palm[:, 1], [-1, 0, 0]) and np.linalg.det(palm) == pytest.approx(1)
    # someone who faces the camera: their left is to the right of the picture, ahead is towards the camera
    head = frame_of_head(np.array([1.0, 0, 0]), np.array([-1.0, 0, 0]), np.array([0.0, 1.5, 0]))
    assert np.allclose(head, [[1, 0, 0], [0, -1, 0], [0, 0, -1]]) and np.linalg.det(head) == pytest.approx(1)


@pytest.fixture(scope="module")
def man() -> tuple[np.ndarray, PoseLandmarks]:
    ok, frame = cv2.VideoCapture(str(TAIJI)).read()
    assert ok
    image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return image, PoseDetector().track(image)


@pytest.fixture(scope="module")
def reader() -> HandAndFaceReader:
    return HandAndFaceReader()


@needs_taiji
def test_the_mans_face_is_where_blazepose_sees_it_and_looks_at_the_camera(reader: HandAndFaceReader, man: tuple):
    image, person = man
    face = reader.face(image, person.points)
    assert face is not None and face.presence > 0.9
    nose_to_chin = np.linalg.norm(person.points[0] - person.points[[9, 10]].mean(0))
    assert np.linalg.norm(face.points[1] - person.points[0]) < nose_to_chin  # point 1 is the tip of the nose
    assert face.head[2, 2] < -0.8


@needs_taiji
def test_no_face_is_seen_on_a_wall(reader: HandAndFaceReader, man: tuple):
    image, person = man
    assert reader.face(image, person.points + np.array([0.0, 330.0])) is None  # his knees


@needs_taiji
def test_the_mans_hands_hang_from_his_wrists(reader: HandAndFaceReader, man: tuple):
    image, person = man
    hands = reader.hands(image, person.points)
    assert any(hand is not None for hand in hands)
    for hand, wrist in zip(hands, (15, 16), strict=True):
        if hand is not None:
            size = np.ptp(hand.points, axis=0).max()
            assert np.linalg.norm(hand.points[0] - person.points[wrist]) < size / 2
            assert hand.points[12, 1] > hand.points[0, 1]
            assert 0.06 < np.linalg.norm(hand.points_world[12] - hand.points_world[0]) < 0.22  # m; loosely bent


def test_nobody_has_hands_in_noise(reader: HandAndFaceReader):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    points = np.full((33, 2), 100.0)
    points[[17, 19]], points[[18, 20]] = [110, 60], [90, 60]
    assert reader.hands(noise, points) == (None, None)
    assert first_face_square(points).size > 0
