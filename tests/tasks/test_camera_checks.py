"""Claims about what is made of a camera that corrects its exposure: evened out where it matters, left alone where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from model.camera_motion import measure_camera
from tasks.camera_checks import STEADY_EXPOSURE, judge_exposure
from tests.model.test_camera_motion import PERSON, filmed, similarity
from tests.tasks.video_files import settings

COUNT = 9


def brightened(frames: list[np.ndarray], factors: np.ndarray) -> list[np.ndarray]:
    """Frames whose channels are shown so many times as bright."""
    return [np.rint(0.6 * frame.astype(float) * factor).clip(0, 255).astype(np.uint8) for frame, factor in zip(frames, factors, strict=True)]


def judged(shakes: float, factors: np.ndarray, **changes: object):
    """What is made of a clip whose camera moves by so many px a frame and shows its frames so much brighter."""
    frames = brightened(filmed([similarity(shift=(shakes * (i - COUNT // 2), 0.0)) for i in range(COUNT)]), factors)
    boxes = [PERSON] * COUNT
    return judge_exposure(frames, boxes, measure_camera(frames, boxes), settings(**changes))


RISING = np.linspace(0.85, 1.15, COUNT)[:, None] * np.ones(3)


@pytest.mark.parametrize("shakes", [0.0, 2.0], ids=["on a tripod", "held by hand"])
def test_a_camera_that_brightens_is_evened_and_the_user_told(shakes: float):
    exposure, (note,) = judged(shakes, RISING)
    assert np.all(np.diff(exposure.light, axis=0) > 0.03)
    assert "evened out" in note and "colour" not in note


def test_a_change_of_white_balance_is_told_as_one_of_colour():
    exposure, (note,) = judged(0.0, 1 + (RISING - 1) * [1, 0, -1])
    assert exposure is not None and "its colour changes" in note


def test_it_can_be_left_as_it_is_and_is_still_told():
    exposure, (note,) = judged(0.0, RISING, even_exposure=False)
    assert exposure is None and "extract_frames.even_exposure would" in note


def test_a_steady_camera_and_one_that_pans_are_left_alone():
    assert judged(0.0, np.ones((COUNT, 3)) + 0.1 * STEADY_EXPOSURE * (-1) ** np.arange(COUNT)[:, None]) == (None, [])
    assert judged(5.0, RISING, allow_moving_camera=True) == (None, [])  # px a frame: 20 px to either side, 6 % of the width
