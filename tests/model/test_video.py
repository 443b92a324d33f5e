"""Claims about which frames of a clip are kept, and about the square that is cut out of them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from model.video import Window, sample_times, window_around


@pytest.mark.parametrize("count", [1, 2, 7, 50, 80])
def test_even_sampling_gives_the_wanted_number_with_both_ends(count: int):
    chosen = sample_times(np.arange(50) / 25, num_frames=count)
    assert len(chosen) == min(count, 50) and chosen[0] == 0
    assert count == 1 or chosen[-1] == 49
    assert np.ptp(np.diff(chosen)) <= 1 if count > 1 else True


@pytest.mark.parametrize("how", [{"num_frames": 20}, {"num_frames": 12}, {"fps": 25.0}])
def test_of_frames_at_the_same_time_one_is_taken(how: dict[str, float]):
    times = np.arange(20) / 25
    times[[4, 9]] = times[3], times[8] + 3e-4
    chosen = sample_times(times, **how)
    assert np.diff(times[chosen]).min() > 0.03 and not {4, 9} & set(chosen.tolist()) and chosen[-1] == 19


def test_a_quick_stretch_of_an_uneven_clip_is_kept():
    times = np.concatenate([np.arange(60) / 4, 15 + np.arange(50) / 60])
    assert np.array_equal(sample_times(times, num_frames=200), np.arange(110))


def test_frames_in_pairs_count_once():
    times = np.repeat(np.arange(30) / 25, 2) + np.tile([0, 3e-4], 30)
    assert np.array_equal(sample_times(times, num_frames=200), np.arange(0, 60, 2))


def test_sampling_at_a_rate_keeps_that_rate():
    chosen = sample_times(np.arange(50) / 25, fps=5.0)
    assert np.array_equal(chosen, np.arange(0, 50, 5))
    assert len(sample_times(np.arange(50) / 25, fps=1000.0)) == 50  # a frame is chosen once


def test_a_person_who_walks_is_as_sharp_as_one_who_stands():
    standing = np.array([[100.0, 50, 180, 250]])
    walking = np.array([[100.0, 50, 180, 250], [220.0, 50, 300, 250]]) + np.array([[0.0, 0, 0, 0], [60, 0, 60, 0]])
    stands, walks = (window_around(boxes, margin=0.1, resolution=256) for boxes in (standing, walking))
    assert stands.resolution == 256
    assert walks.scale == pytest.approx(stands.scale, rel=0.03)
    far = window_around(np.array([[0.0, 0, 80, 200], [2000, 0, 2080, 200]]), margin=0.1, resolution=256)
    assert far.resolution == 512  # memory has its limit


@pytest.mark.parametrize("resolution", [128, 400])
def test_a_projected_point_lands_on_the_same_content_after_the_crop(resolution: int):
    K = np.array([[700.0, 0, 160], [0, 700, 120], [0, 0, 1]])
    point = K @ np.array([0.12, -0.06, 2.0])
    u, v = point[:2] / point[2]
    y, x = np.mgrid[:240, :320] + 0.5
    image = (255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 6.0**2))).astype(np.uint8)[..., None].repeat(3, axis=2)
    window = window_around(np.array([[150.0, 30, 240, 200]]), margin=0.3, resolution=resolution)
    assert window.y0 < 0 or window.y0 + window.side > 240  # it reaches over the border
    cut = window.cut(image)[..., 0].astype(float)
    assert cut.shape == (resolution, resolution)
    expected = window.intrinsics(K) @ np.array([0.12, -0.06, 2.0])
    rows, columns = np.mgrid[:resolution, :resolution] + 0.5
    weight = np.where(cut > 10, cut, 0)
    seen = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    assert np.abs(seen - expected[:2] / expected[2]).max() < 0.1  # px; 8-bit rounding
    assert np.allclose(window.to_window(np.array([u, v])), expected[:2] / expected[2])


def test_beyond_the_border_the_border_repeats():
    image = np.arange(8 * 10 * 3, dtype=np.uint8).reshape(8, 10, 3)
    cut = Window(x0=-3, y0=2, side=10, resolution=10).cut(image)
    assert np.array_equal(cut[:6, 3:], image[2:, :7])
    assert np.array_equal(cut[:6, 0], image[2:, 0]) and np.array_equal(cut[9, 3:], image[7, :7])


def test_a_square_of_a_steadied_picture_shows_what_the_frame_shows_there(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    image = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8), (0, 0), 3.0)
    window, moved = Window(x0=30, y0=20, side=80, resolution=40), np.array([[1.0, 0, 12], [0, 1, -7], [0, 0, 1]])
    straight = replace(window, x0=42, y0=13).cut(image)
    assert np.array_equal(window.cut(image, np.eye(3)), window.cut(image))
    assert np.array_equal(window.cut(image, moved), straight)
    monkeypatch.setattr("model.video.LARGEST", 16)  # px, less than the square has
    ramp = np.tile(np.arange(160, dtype=np.uint8)[None, :, None], (120, 1, 3))
    assert np.abs(replace(window, resolution=8).cut(ramp, np.eye(3))[:, :, 0] - np.arange(34.5, 110, 10)).max() <= 0.5  # of 255: rounding
