"""Claims about a camera that corrects itself: what it did is told by the background alone, and undone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from model.exposure import GAMMA, TOE, Exposure, measure_exposure

HEIGHT, WIDTH, FRAMES = 180, 320, 24
PERSON = (130.0, 30.0, 190.0, 170.0)


def room(seed: int = 0) -> np.ndarray:
    """A wall with things before it, display values 0..1."""
    rng = np.random.default_rng(seed)
    scene = cv2.GaussianBlur(rng.uniform(0, 1, (HEIGHT, WIDTH, 3)), (0, 0), 6)
    return cv2.normalize(scene, None, 0.12, 0.8, cv2.NORM_MINMAX)


def scenes(seed: int = 0) -> list[np.ndarray]:
    """The room with a person before it who changes clothes in every frame, and a bright lamp that is carried through it."""
    rng, frames = np.random.default_rng(seed), []
    for i in range(FRAMES):
        frame = room()
        frame[40:160, 135:185] = rng.uniform(0.1, 0.8, 3)
        frame[10:60, 5 * i : 5 * i + 40] = 0.95
        frames.append(frame)
    return frames


def film(scenes: list[np.ndarray], light: np.ndarray, lift: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Pictures of a sensor that counts `light` times as much in each channel, on sRGB's curve and a black level of `lift`, with noise."""
    rng, pictures = np.random.default_rng(seed), []
    for scene, factor, black in zip(scenes, light, lift, strict=True):
        shown = (scene + TOE) * factor ** (1 / GAMMA) - TOE + black + rng.normal(0, 0.01, scene.shape)
        pictures.append(np.rint(255 * shown.clip(0, 1)).astype(np.uint8))
    return pictures


def wandering(spread: float) -> np.ndarray:
    """Factors that go up and down along the clip, each channel's a little differently; their median is 1."""
    t = np.linspace(0, 2 * np.pi, FRAMES)[:, None]
    factors = np.exp(spread * np.sin(t + np.array([0, 0.2, 0.5])))
    return factors / np.median(factors, axis=0)


def test_the_background_tells_exposure_and_white_balance_whatever_the_person_wears():
    light, lift = wandering(0.3), np.zeros((FRAMES, 3))
    found = measure_exposure(film(scenes(), light, lift), [PERSON] * FRAMES)
    assert np.abs(found.light / light - 1).max() < 0.01
    assert np.abs(found.lift).max() < 0.004  # a level of 255


def test_an_evened_frame_shows_what_the_clip_shows_the_person_too():
    light, lift = wandering(0.3), 0.01 * np.sin(np.linspace(0, 5, FRAMES))[:, None] * np.ones(3)
    lift = lift - np.median(lift, axis=0)
    filmed, still = film(scenes(), light, lift), film(scenes(), np.ones((FRAMES, 3)), np.zeros((FRAMES, 3)))
    found = measure_exposure(filmed, [PERSON] * FRAMES)
    x0, y0, x1, y1 = (int(v) for v in PERSON)

    def off(pictures: list[np.ndarray]) -> float:
        return max(abs(float(a[y0 + 15 : y1 - 15, x0 + 10 : x1 - 10].mean()) - float(b[y0 + 15 : y1 - 15, x0 + 10 : x1 - 10].mean())) for a, b in zip(pictures, still, strict=True))

    assert off(filmed) > 12 and off([found[k].even(picture) for k, picture in enumerate(filmed)]) < 2.5  # levels of 255; a lift is held back a little


def test_a_steady_camera_is_found_to_be_steady():
    found = measure_exposure(film(scenes(), np.ones((FRAMES, 3)), np.zeros((FRAMES, 3))), [PERSON] * FRAMES)
    assert np.abs(found.light - 1).max() < 0.01


def test_a_frame_full_of_something_else_lies_between_its_neighbours():
    light = wandering(0.3)
    pictures = film(scenes(), light, np.zeros((FRAMES, 3)))
    pictures[9] = film([room(seed=5)], light[9:10], np.zeros((1, 3)))[0]
    boxes = [PERSON] * FRAMES
    boxes[15] = (0.0, 0.0, float(WIDTH), float(HEIGHT))
    found = measure_exposure(pictures, boxes)
    for k in (9, 15):
        assert np.allclose(found.gain[k], (found.gain[k - 1] + found.gain[k + 1]) / 2)
    ratio = found.light / light  # to another median, for two frames of it are not known
    assert np.abs(ratio / np.median(ratio, axis=0) - 1).max() < 0.02


@pytest.mark.parametrize("box", [(0.0, 0.0, float(WIDTH), float(HEIGHT)), None], ids=["person everywhere", "burnt out"])
def test_no_background_tells_nothing(box):
    pictures = film(scenes(), wandering(0.3), np.zeros((FRAMES, 3))) if box else [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * FRAMES
    assert measure_exposure(pictures, [box] * FRAMES) is None


def test_evening_by_nothing_changes_no_byte():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(Exposure(np.ones(3), np.zeros(3)).even(levels), levels)
