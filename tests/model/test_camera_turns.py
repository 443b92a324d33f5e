"""Claims about a camera that turns on the spot: its turns and its focal length are told, and a camera that is carried is not taken for one."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.camera_motion import carry
from model.camera_turns import intrinsics, measure_turns

HEIGHT, WIDTH, FOCAL = 180, 320, 360.0
PRINCIPAL = (WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5)
WIDE = 5  # times as wide and high as the picture is what the camera turns past


@cache
def wide_wall(seed: int = 0) -> np.ndarray:
    """What a still camera with the same focal length would see if its picture were wider."""
    rng = np.random.default_rng(seed)
    rough = np.zeros((WIDE * HEIGHT, WIDE * WIDTH, 3), np.float32)
    for size in (1.6, 5.0, 16.0):  # px: of detail, and of things
        rough += size * cv2.GaussianBlur(rng.normal(size=rough.shape).astype(np.float32), (0, 0), size)
    return cv2.normalize(rough, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)


def film(homographies: np.ndarray, *, walker: bool = True) -> list[np.ndarray]:
    """The wall by a camera for which these take still pixels to its own, with somebody striped who walks on the spot."""
    to_wall = np.array([[1.0, 0, (WIDE - 1) / 2 * WIDTH], [0, 1, (WIDE - 1) / 2 * HEIGHT], [0, 0, 1]])
    scene, frames = wide_wall(), []
    for i, homography in enumerate(homographies):
        frame = cv2.warpPerspective(scene, to_wall @ np.linalg.inv(homography), (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        if walker:
            frame[40:160, 132:188] = ((np.arange(56) // 6 + i) % 2 * 200 + 20).astype(np.uint8)[None, :, None]
        frames.append(frame)
    return frames


def turns(frames: int = 25) -> np.ndarray:
    """A pan to the right and halfway back, by 40 degrees in all, of a hand that also nods and leans a little."""
    time = np.linspace(0, 1, frames)
    pan = 20 * np.sin(1.5 * np.pi * time)
    return Rotation.from_euler("yxz", np.c_[pan, 2 * np.sin(9 * time), 1.5 * np.sin(7 * time)], degrees=True).as_matrix()


BOXES = [(130.0, 38.0, 190.0, 162.0)] * 25


@pytest.mark.parametrize(("guess", "known"), [(FOCAL, True), (1.4 * FOCAL, False), (0.7 * FOCAL, False)])
def test_a_turning_camera_is_followed_and_tells_its_focal_length(guess: float, known: bool):
    K, truth = intrinsics(FOCAL, PRINCIPAL), turns()
    found = measure_turns(film(K @ truth @ np.linalg.inv(K)), BOXES, focal_px=guess, focal_known=known)
    assert found is not None and found.focal_px == pytest.approx(FOCAL, rel=0.015)  # 1% of a focal length is a pixel at the sides of so small a picture
    between = [found.rotation[i] @ found.rotation[12].T @ (truth[i] @ truth[12].T).T for i in range(25)]
    assert np.rad2deg(Rotation.from_matrix(between).magnitude()).max() < 0.4
    assert found.degrees == pytest.approx(40, abs=1.5)
    assert (0.05 <= found.focal_error < 0.06) if not known else found.focal_error == 0


def test_frames_of_a_turning_camera_lie_on_each_other_in_the_still_picture():
    K = intrinsics(FOCAL, PRINCIPAL)
    frames = film(K @ turns() @ np.linalg.inv(K), walker=False)
    found = measure_turns(frames, BOXES, focal_px=FOCAL, focal_known=True)
    to_frame = found.homographies(1.0, PRINCIPAL)
    still = [cv2.warpPerspective(frame, homography, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP) for frame, homography in zip(frames, to_frame, strict=True)]
    both = [np.abs(one.astype(float) - other)[(one > 0) & (other > 0)] for one, other in zip(still, still[3:])]
    unlaid = [np.abs(one.astype(float) - other) for one, other in zip(frames, frames[3:])]
    assert np.mean([part.mean() for part in both]) < 0.25 * np.mean([part.mean() for part in unlaid])


def seen_from(places: np.ndarray, rotations: np.ndarray, wall_m: float = 5.0) -> np.ndarray:
    """Homographies of a camera at these places, m, before a wall."""
    K, ahead = intrinsics(FOCAL, PRINCIPAL), np.array([0.0, 0.0, 1.0])
    return np.stack([K @ turn @ (np.eye(3) - np.outer(place, ahead) / wall_m) @ np.linalg.inv(K) for place, turn in zip(places, rotations, strict=True)])


@pytest.mark.parametrize(("guess", "known"), [(1.3 * FOCAL, False), (0.93 * FOCAL, True)])
def test_a_telephone_turned_at_arms_length_is_near_enough_to_the_spot(guess: float, known: bool):
    truth = turns()
    places = 0.4 * (truth[:, 2] - [0, 0, 1])
    found = measure_turns(film(seen_from(places, truth)), BOXES, focal_px=guess, focal_known=known)
    assert found is not None and found.focal_px == pytest.approx(guess if known else FOCAL, rel=0.08)


def test_a_rolling_shutter_is_no_reason_to_refuse():
    """A readout of a fifth of the time between two frames, to and fro: up to 5 px from the first row to the last."""
    finely, K = turns(1441), intrinsics(FOCAL, PRINCIPAL)  # sixty steps from frame to frame, twelve of them while it is read
    frames = []
    for k in range(0, 1440, 60):
        shown = film(K @ finely[k : k + 12] @ np.linalg.inv(K), walker=False)
        frames.append(np.concatenate([shown[part][15 * part : 15 * (part + 1)] for part in range(12)]))
    found = measure_turns(frames, BOXES[: len(frames)], focal_px=1.2 * FOCAL, focal_known=False)
    assert found is not None and found.focal_px == pytest.approx(FOCAL, rel=0.05) and found.degrees == pytest.approx(40, abs=2)


STAY, ASIDE = np.zeros((25, 3)), np.linspace(-1, 1, 25)[:, None] * [1.6, 0, 0]
AHEAD = np.tile(np.eye(3), (25, 1, 1))
ZOOM = np.array([np.diag([z, z, 1]) for z in np.r_[np.ones(15), np.linspace(1, 1.4, 10)]])
MOVING = {
    "carried past a wall": seen_from(ASIDE, AHEAD),
    "carried as it turns": seen_from(0.5 * ASIDE, turns()),
    "carried around": seen_from(np.c_[3 * turns()[:, 2, :2], 3 - 3 * turns()[:, 2, 2]] * [-1, 0, 1], turns()),
    "carried at the end": seen_from(np.maximum(ASIDE, 0), turns()),
    "zooming at the end": intrinsics(1, PRINCIPAL) @ ZOOM @ np.linalg.inv(intrinsics(1, PRINCIPAL)) @ seen_from(STAY, turns()),
}  # fmt: skip


@pytest.mark.parametrize("known", [True, False], ids=["focal length given", "not given"])
@pytest.mark.parametrize("how", MOVING)
def test_a_camera_that_moves_otherwise_does_not_turn(how: str, known: bool):
    assert measure_turns(film(MOVING[how]), BOXES, focal_px=FOCAL, focal_known=known) is None


def test_a_long_lens_that_is_carried_is_not_taken_for_a_turn():
    sideways = np.tile(np.eye(3), (25, 1, 1))
    sideways[:, 0, 2] = np.linspace(-120, 120, 25)
    assert measure_turns(film(sideways), BOXES, focal_px=3 * WIDTH, focal_known=True) is None


def test_a_dark_start_and_a_blurred_middle_do_not_end_the_turn():
    K, rng = intrinsics(FOCAL, PRINCIPAL), np.random.default_rng(1)
    frames = film(K @ turns() @ np.linalg.inv(K))
    frames[0] = np.abs(rng.normal(3, 2, frames[0].shape)).astype(np.uint8)
    frames[11:13] = [cv2.blur(frame, (61, 31)) for frame in frames[11:13]]
    found = measure_turns(frames, BOXES, focal_px=FOCAL, focal_known=True)
    assert found is not None and np.allclose(found.rotation[0], found.rotation[1]) and found.degrees == pytest.approx(40, abs=2)


def test_the_still_camera_looks_midway_also_where_the_turn_comes_late():
    K, pan = intrinsics(FOCAL, PRINCIPAL), np.r_[np.zeros(18), np.linspace(0, 28, 7)]
    late = Rotation.from_euler("yxz", np.c_[pan, np.zeros((25, 2))], degrees=True).as_matrix()
    found = measure_turns(film(K @ late @ np.linalg.inv(K)), BOXES, focal_px=FOCAL, focal_known=True)
    off = np.rad2deg(np.arccos(found.rotation[:, 2, 2]))
    assert off[0] == pytest.approx(14, abs=0.5) and off[-1] == pytest.approx(14, abs=0.5)
    corner = np.array([190 - WIDTH / 2, 162 - HEIGHT / 2, FOCAL]) / np.linalg.norm([190 - WIDTH / 2, 162 - HEIGHT / 2, FOCAL])
    ahead = corner @ [-np.sin(np.deg2rad(14)), 0, np.cos(np.deg2rad(14))]
    assert found.off_axis(BOXES, PRINCIPAL) == pytest.approx(np.rad2deg(np.arccos(ahead)), abs=0.7)


def test_a_smooth_background_tells_no_turns():
    grey = [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 25
    assert measure_turns(grey, BOXES, focal_px=FOCAL, focal_known=False) is None


def test_homographies_mean_the_same_in_a_picture_of_another_size():
    K = intrinsics(FOCAL, PRINCIPAL)
    found = measure_turns(film(K @ turns() @ np.linalg.inv(K)), BOXES, focal_px=FOCAL, focal_known=True)
    small, large = found.homographies(1.0, PRINCIPAL), found.homographies(3.0, (3 * WIDTH / 2 - 0.5, 3 * HEIGHT / 2 - 0.5))
    points = np.array([[10.0, 20.0], [200.0, 90.0]])
    assert np.allclose(carry(large, 3 * (points + 0.5) - 0.5), 3 * (carry(small, points) + 0.5) - 0.5)
