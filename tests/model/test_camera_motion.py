"""Claims about the still camera and the straight lens: what moved is measured, little is undone, and K stays what it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from model.camera_motion import carry, carry_back, carry_box_back, corner_shift, homography_of, measure_camera, of_coordinates, scale_homography, steady_frame
from model.lens import Lens

HEIGHT, WIDTH = 180, 320
PERSON = (130.0, 30.0, 190.0, 170.0)


def wall(seed: int = 0) -> np.ndarray:
    """A textured wall, larger than the picture."""
    rng = np.random.default_rng(seed)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT + 200, WIDTH + 400, 3), dtype=np.uint8), (0, 0), 1.6)
    return cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)


def filmed(similarities: list[np.ndarray], *, walker: bool = True) -> list[np.ndarray]:
    """The wall as a camera sees it that moves so, with a striped person who walks on the spot and does not move with it."""
    scene, frames = wall(), []
    for i, similarity in enumerate(similarities):
        to_scene = np.array([[1.0, 0, 200], [0, 1.0, 100]])
        back = cv2.invertAffineTransform(similarity)
        back[:, 2] += to_scene[:, 2]
        frame = cv2.warpAffine(scene, back, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        if walker:
            stripes = ((np.arange(60) // 6 + i) % 2 * 200 + 20).astype(np.uint8)
            frame[40:160, 132:188] = stripes[:56][None, :, None]
        frames.append(frame)
    return frames


def similarity(angle: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def test_a_still_camera_is_still_whatever_the_person_does():
    motion = measure_camera(filmed([similarity()] * 5), [PERSON] * 5)
    assert motion.known and motion.moved_px.max() < 0.1


def test_a_small_movement_is_measured_and_undone():
    truth = [similarity(0.004 * k, 1 + 0.002 * k, (3.0 * k, -2.0 * k)) for k in (-2, -1, 0, 1, 2)]
    frames = filmed(truth)
    motion = measure_camera(frames, [PERSON] * 5)
    assert np.allclose(motion.moved_px, corner_shift(np.stack(truth), HEIGHT, WIDTH), atol=0.25)
    steady = measure_camera([steady_frame(f, h) for f, h in zip(frames, homography_of(motion.to_frame), strict=True)], [None] * 5)
    assert steady.moved_px.max() < 0.3 < motion.moved_px.max() / 10  # px; the person's place moved with the frames and is outvoted


def test_a_pan_is_followed_to_its_end():
    truth = [similarity(shift=(-28.0 * k, 0.0)) for k in range(-6, 7)]
    motion = measure_camera(filmed(truth, walker=False), [None] * 13)
    assert motion.moved_px[motion.worst] == pytest.approx(6 * 28, rel=0.02) and motion.worst in (0, 12)


def test_a_smooth_background_says_nothing():
    grey = [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 3
    assert not measure_camera(grey, [PERSON] * 3).known


def test_a_similarity_keeps_its_meaning_in_a_picture_of_another_size():
    moved = similarity(0.02, 1.01, (4.0, -3.0))
    point = np.array([[100.25, 60.75]])  # px, centres at +0.5
    large, small = (of_coordinates(one) for one in (scale_homography(homography_of(moved), 4 / 3), homography_of(moved)))
    assert np.allclose(carry(large, point * 4 / 3), carry(small, point) * 4 / 3)
    assert np.allclose(carry_back(carry(small, point), homography_of(moved)), point)


def test_a_box_comes_back_with_all_its_corners():
    turned = homography_of(similarity(np.pi / 2, 1.0, (99.0, 0.0)))  # a quarter turn about a picture of 100 x 100
    assert np.allclose(carry_box_back((10, 20, 30, 60), turned), (20, 70, 60, 90))


def lens(*coefficients: float) -> Lens:
    K = np.array([[260.0, 0, WIDTH / 2], [0, 260.0, HEIGHT / 2], [0, 0, 1]])
    return Lens(K, (*coefficients, *[0.0] * (5 - len(coefficients))), WIDTH, HEIGHT)


def test_the_lens_bends_points_as_opencv_does():
    bent = lens(-0.21, 0.06, 0.002, -0.001, 0.01)
    points = np.random.default_rng(0).uniform([0, 0], [WIDTH, HEIGHT], (50, 2))
    rays = np.concatenate([(points - bent.K[:2, 2]) / 260.0, np.ones((50, 1))], 1)
    expected, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), bent.K, np.array(bent.coefficients))
    assert np.allclose(bent.distort(points), expected[:, 0], atol=1e-9)


def test_a_straightened_picture_shows_a_point_where_the_straight_camera_sees_it():
    bent, place = lens(-0.25, 0.05), np.array([262.0, 38.0])
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    u, v = bent.distort(place[None])[0]
    assert np.hypot(*(place - (u, v))) > 4  # px; the lens does something here
    blob = (255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 4.0**2))).astype(np.uint8)
    seen = bent.straighten(np.repeat(blob[..., None], 3, axis=2))[..., 0].astype(float)
    weight = np.where(seen > 60, seen, 0)
    assert np.abs(np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum() - place).max() < 0.25  # px; the blob is stretched
    mask = bent.straighten(blob)
    assert mask.shape == (HEIGHT, WIDTH) and np.abs(mask.astype(int) - seen).max() < 12  # masks go the same way


def test_a_lens_that_folds_the_picture_is_refused():
    with pytest.raises(ValueError, match="fold the picture over itself"):
        lens(-0.9).check()
    lens(-0.25, 0.05).check()


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match="expected a picture of 320x180 px, came 100x50"):
        lens(-0.1).straighten(np.zeros((50, 100, 3), np.uint8))
