"""True tracks: a place is followed from its anchor as far as it shows and no further, and a frame's tracks weigh what they are said to."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.true_tracks import MAX_TRACKS, SIGMA, follow, pack


def moving(frames: int = 7, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Places that move by one pixel a frame, all of them seen."""
    start = np.arange(2 * count, dtype=float).reshape(count, 2)
    return start + np.arange(frames)[:, None, None], np.ones((frames, count), bool)


def test_a_place_is_followed_where_it_really_is_and_as_far_as_asked() -> None:
    pixels, visible = moving()
    row, places, around = follow(pixels, visible, list(range(7)), reach=2, noise=0.0)[1]  # the second anchor: row 3
    assert row == 3 and sorted(around) == [1, 2, 3, 4, 5]
    for at, (targets, seen) in around.items():
        assert seen.all() and np.allclose(targets, places + (at - row))


def test_a_place_that_was_hidden_is_lost_from_there_on() -> None:
    pixels, visible = moving()
    visible[4, 2] = False
    _, places, around = follow(pixels, visible, list(range(7)), reach=3, noise=0.0)[1]
    hidden = np.flatnonzero((places == pixels[3, 2]).all(1))
    assert [bool(around[at][1][hidden]) for at in (2, 3, 4, 5)] == [True, True, False, False]


def test_noise_adds_up_from_step_to_step() -> None:
    pixels, visible = moving(frames=61, count=150)
    _, places, around = follow(pixels, visible, list(range(61)), reach=25, noise=0.5)[10]  # row 30
    off = {step: np.std(around[30 + step][0] - places - step) for step in (1, 25)}
    assert off[1] == pytest.approx(0.5, rel=0.2) and off[25] == pytest.approx(2.5, rel=0.2)


def test_a_frame_with_many_tracks_counts_as_the_wanted_number_and_one_with_few_as_they_are() -> None:
    many, few = np.zeros((50, 2)), np.zeros((3, 2))
    tracks = pack({0: [(np.arange(50), many)], 1: [(np.arange(3), few)], 2: []}, strength=10.0)
    information = (tracks.sharpness**2).sum((1, 2, 3)).numpy() * SIGMA**2 / 2
    assert tracks.points.shape == (3, MAX_TRACKS) and information == pytest.approx([10.0, 3.0, 0.0])
