"""Claims about the detector of hands and face: where they are looked for, and both on a real frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model.fitting.hands import HandAndFaceReader, first_face_square, first_hand_square, square_around_palm
from model.fitting.landmarks import PoseDetector, PoseLandmarks

TAIJI = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "taiji.mp4"
needs_taiji = pytest.mark.skipif(not TAIJI.is_file(), reason=f"needs a real clip at {TAIJI}")
SURE = 0.5


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, -2.5])
def test_the_first_square_of_a_hand_lies_beyond_the_wrist_and_turns_with_it(angle: float):
    wrist_pinky_index = turned(np.array([[0.0, 0.0], [12.0, -40.0], [-12.0, -40.0]]), angle) + 300.0
    square = first_hand_square(wrist_pinky_index, 40.0)
    inside = square.to_unit(wrist_pinky_index)
    assert abs(inside[0, 0] - 0.5) < 0.05 and inside[0, 1] > 0.6  # the wrist is below the middle, upright
    assert (np.abs(inside - 0.5) < 0.45).all()


def test_a_hand_that_points_at_the_camera_is_looked_for_at_its_true_size():
    short = first_hand_square(np.array([[0.0, 0.0], [3.0, -8.0], [-3.0, -8.0]]), 40.0)
    assert 50.0 < short.size < first_hand_square(np.array([[0.0, 0.0], [12.0, -40.0], [-12.0, -40.0]]), 40.0).size


def test_the_next_square_holds_all_fingers_upright():
    hand = np.array([[0.0, 0.0], *[[x, -h] for x, h in ((-25, 20), (-35, 35), (-40, 45), (-45, 55))],
                     *[[x, -40.0 - 15 * k] for x in (-15, 0, 12, 24) for k in range(4)]])  # fmt: skip
    for angle in (0.0, 1.2, -2.0):
        square = square_around_palm(turned(hand, angle) + 200.0)
        inside = square.to_unit(turned(hand, angle) + 200.0)
        assert inside.min() > 0.02 and inside.max() < 0.98
        assert inside[12, 1] < inside[9, 1] < inside[0, 1]  # the middle finger points up
        assert square.size == pytest.approx(square_around_palm(hand).size)


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
def test_the_mans_face_is_where_blazepose_sees_it(reader: HandAndFaceReader, man: tuple):
    image, person = man
    face = reader.face(image, person.points, min_presence=SURE)
    assert face is not None and face.presence > 0.9
    nose_to_chin = np.linalg.norm(person.points[0] - person.points[[9, 10]].mean(0))
    assert np.linalg.norm(face.points[1] - person.points[0]) < nose_to_chin  # point 1 is the tip of the nose


@needs_taiji
def test_no_face_is_seen_on_a_wall(reader: HandAndFaceReader, man: tuple):
    image, person = man
    assert reader.face(image, person.points + np.array([0.0, 330.0]), min_presence=SURE) is None  # his knees


@needs_taiji
def test_the_mans_hands_hang_from_his_wrists_each_on_its_own_side(reader: HandAndFaceReader, man: tuple):
    image, person = man
    palm = 0.06 * (person.box[3] - person.box[1])
    for side, wrist in (("left", 15), ("right", 16)):
        hand = reader.hand(image, person.points, side, palm, min_presence=SURE)
        assert hand is not None
        assert np.linalg.norm(hand.points[0] - person.points[wrist]) < palm
        assert hand.points[12, 1] > hand.points[0, 1]  # the middle finger's tip hangs below the wrist
        if side == "left":  # the right one is hardly more than a smear
            assert hand.presence > 0.9 and palm < np.linalg.norm(hand.points[12] - hand.points[0]) < 3 * palm


def test_nobody_has_hands_or_a_face_in_noise(reader: HandAndFaceReader):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    points = np.full((33, 2), 100.0)
    points[[17, 19]], points[[18, 20]] = [110, 60], [90, 60]
    assert reader.hand(noise, points, "left", 40.0, min_presence=SURE) is None
    assert reader.face(noise, points, min_presence=SURE) is None
    assert first_face_square(points).size > 0
