"""Claims about what is believed of the detector: swaps of left and right are undone, confidence falls where error grows."""

from __future__ import annotations

import numpy as np
import pytest

from model.fitting.clip_landmarks import ClipLandmarks
from model.fitting.confidence import calibrate, facing, find_spikes
from model.fitting.detection import clean_landmarks
from model.fitting.swaps import LIMB_PAIRS, repair_swaps

FRAMES = 40
TIMES = np.arange(FRAMES) / 12.0


def walker(turn: float = 0.0, speed: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, visibility and world points of a figure that swings its limbs and turns at `speed` rad/s from `turn` on."""
    height = {0: 1.6, 11: 1.4, 12: 1.4, 23: 0.9, 24: 0.9, 25: 0.5, 26: 0.5, 27: 0.1, 28: 0.1, 29: 0.05, 30: 0.05, 31: 0.0, 32: 0.0}
    body = np.zeros((FRAMES, 33, 3))
    for i in range(33):
        side = 0.0 if i == 0 else (1.0 if i % 2 else -1.0)  # left is odd, except in the face
        if i in (1, 2, 3, 4, 5, 6):
            side = 1.0 if i < 4 else -1.0
        wide = 0.05 if i < 11 else 0.18 if i < 23 else 0.12
        y = height.get(i, 1.6 if i < 11 else {13: 1.15, 14: 1.15}.get(i, 0.9))
        swing = 0.0 if i in (0, 11, 12, 23, 24) or i < 11 else side * 0.25 * np.sin(2 * np.pi * TIMES) * (1.4 - y if i < 23 else 0.9 - y)
        body[:, i] = np.stack([np.full(FRAMES, side * wide), np.full(FRAMES, -y), np.broadcast_to(swing, FRAMES)], 1)
    angle = turn + speed * TIMES
    world = body.copy()
    world[..., 0] = np.cos(angle)[:, None] * body[..., 0] + np.sin(angle)[:, None] * body[..., 2]
    world[..., 2] = -np.sin(angle)[:, None] * body[..., 0] + np.cos(angle)[:, None] * body[..., 2]
    world -= world[:, [23, 24]].mean(1, keepdims=True)
    return 250 + 200 * world[..., :2], np.full((FRAMES, 33), 0.999), world


def swap(values: np.ndarray, rows: list[int], name: str) -> np.ndarray:
    left, right = (np.array(side) for side in zip(*LIMB_PAIRS[name], strict=True))
    swapped = values.copy()
    swapped[np.ix_(rows, left)], swapped[np.ix_(rows, right)] = values[np.ix_(rows, right)], values[np.ix_(rows, left)]
    return swapped


@pytest.mark.parametrize("name", ["body", "arms", "legs"])
@pytest.mark.parametrize("rows", [[7], [20, 21, 22], [0, 1], [38, 39]])
def test_a_swap_is_undone_and_said(name: str, rows: list[int]):
    points, visibility, world = walker(turn=0.3)
    repaired = repair_swaps(swap(points, rows, name), visibility, swap(world, rows, name), TIMES)
    assert np.allclose(repaired.points, points) and np.allclose(repaired.points_world, world)
    assert repaired.swapped == {pair: (rows if pair == name else []) for pair in LIMB_PAIRS}


def test_a_person_who_turns_round_is_not_swapped():
    points, visibility, world = walker(speed=2 * np.pi / TIMES[-1])
    assert not any(repair_swaps(points, visibility, world, TIMES).swapped.values())


def test_gaps_are_passed_over_when_swaps_are_looked_for():
    points, visibility, world = walker()
    points, world, gap = swap(points, [20, 21], "legs"), swap(world, [20, 21], "legs"), slice(15, 19)
    points[gap] = visibility[gap] = world[gap] = 0
    assert repair_swaps(points, visibility, world, TIMES).swapped["legs"] == [20, 21]
    none = repair_swaps(0 * points, 0 * visibility, 0 * world, TIMES)
    assert not any(none.swapped.values())


@pytest.mark.parametrize("turn", [0.0, 0.8, 2.5, -2.0])
def test_the_facing_is_read_without_the_face(turn: float):
    points, visibility, world = walker(turn=turn)
    world[:, :11] = np.random.default_rng(0).normal(size=(FRAMES, 11, 3))  # made up, as on a back view
    angle = facing(world, np.ones(FRAMES, bool))
    assert np.abs(np.angle(np.exp(1j * (np.abs(angle) - abs(turn))))).max() < 0.02


def test_a_face_on_a_back_view_is_trusted_little_though_it_is_called_visible():
    front, back = (calibrate(*walker(turn=turn), TIMES) for turn in (0.0, np.pi))
    assert front[:, :11].min() > 0.95 and back[:, :11].max() < 0.15
    assert back[:, [11, 12, 23, 24]].min() > 0.4  # the trunk is seen as well from behind


def test_confidence_falls_with_visibility_and_is_none_without_a_person():
    points, visibility, world = walker()
    visibility[:, 15], visibility[:, 13], visibility[5] = 0.05, 0.8, 0.0
    confidence = calibrate(points, visibility, world, TIMES)
    assert (confidence[0, 15] < 0.03) and (confidence[0, 15] < confidence[0, 13] < confidence[0, 16])
    assert (confidence[5] == 0).all() and (confidence <= 1).all()


def test_a_landmark_that_leaps_for_one_frame_is_a_spike_and_a_swinging_arm_is_none():
    points, _, _ = walker()
    seen = np.ones(FRAMES, bool)
    assert not find_spikes(points, seen, TIMES).any()
    points[12, 15] += 60.0
    assert np.argwhere(find_spikes(points, seen, TIMES)).tolist() == [[12, 15]]
    assert not find_spikes(points, seen, 5 * TIMES).any()  # in five times the time a wrist goes there and back


def test_cleaning_repairs_before_it_judges():
    points, visibility, world = walker(turn=0.2)
    visibility[:, 25] = 0.3  # the left knee
    found = ClipLandmarks(swap(points, [9], "legs"), swap(visibility, [9], "legs"), swap(world, [9], "legs"))
    detected = clean_landmarks(found, TIMES)
    assert detected.swapped["legs"] == [9] and np.allclose(detected.points, points)
    assert np.allclose(detected.confidence[9, 25], detected.confidence[8, 25]) and detected.confidence[9, 25] < 0.2
