"""Claims about what is made of a camera that turns on the spot, or corrects its exposure: undone where it matters, left alone where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.camera_motion import carry, measure_camera
from model.camera_turns import intrinsics
from tasks.camera_checks import STEADY_EXPOSURE, WIDEST_TURN, judge_camera, judge_exposure
from tasks.errors import InputError
from tasks.video_file import VideoFile
from tests.model.test_camera_turns import BOXES, FOCAL, PRINCIPAL, film, turns
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
    video, chosen = filmed_by(frames), settings(**changes)
    camera = judge_camera(measure_camera(frames, boxes), frames, boxes, video, np.arange(COUNT), chosen, focal_px=400.0, focal_known=True)
    return judge_exposure(frames, boxes, camera, video, chosen)


def filmed_by(frames: list[np.ndarray]) -> VideoFile:
    """The video that such frames are of."""
    height, width = frames[0].shape[:2]
    return VideoFile(Path("clip.mp4"), width, height, 1.0, 25.0, len(frames), len(frames) / 25, np.arange(len(frames)) / 25, None)


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


def turned(frames: list[np.ndarray], boxes: list, guess: float = 1.3 * FOCAL, known: bool = False):
    return judge_camera(measure_camera(frames, boxes), frames, boxes, filmed_by(frames), np.arange(len(frames)), settings(), focal_px=guess, focal_known=known)


def test_a_camera_that_turns_is_followed_and_its_focal_length_taken():
    K, truth = intrinsics(FOCAL, PRINCIPAL), turns()
    camera = turned(film(K @ truth @ np.linalg.inv(K)), BOXES)
    assert camera.turned == pytest.approx(40, abs=1.5) and camera.focal_px == pytest.approx(FOCAL, rel=0.015) and 0 < camera.focal_error < 0.06
    assert "the camera turned by" in camera.notes[0] and "tells its focal length" in camera.notes[0]
    middle = carry(np.linalg.inv(camera.to_frame), np.array(PRINCIPAL)[None])[:, 0]
    assert np.ptp(middle[:, 0]) == pytest.approx(2 * FOCAL * np.tan(np.deg2rad(20)), rel=0.05)  # px, that the still picture's middle of view moves
    given = turned(film(K @ truth @ np.linalg.inv(K)), BOXES, FOCAL, known=True)
    assert given.focal_px is None and "focal length" not in given.notes[0]


def test_a_camera_that_turns_too_far_is_refused_with_how_far():
    K, pan = intrinsics(FOCAL, PRINCIPAL), np.deg2rad(np.linspace(-40, 40, 25))
    far = np.stack([[[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]] for a in pan])
    with pytest.raises(InputError, match=rf"it turns by (79|80|81) degrees and .* expected at most {WIDEST_TURN:.0f}"):
        turned(film(K @ far @ np.linalg.inv(K), walker=False), [None] * 25)


def test_the_exposure_of_a_camera_that_turns_is_left_alone():
    K, rising = intrinsics(FOCAL, PRINCIPAL), np.linspace(0.85, 1.15, 25)[:, None] * np.ones(3)
    frames = brightened(film(K @ turns() @ np.linalg.inv(K)), rising)
    camera = turned(frames, BOXES)
    assert camera.turned > 30 and judge_exposure(frames, BOXES, camera, filmed_by(frames), settings()) == (None, [])
