"""Claims about the person detector: its geometry on made-up tensors, and the whole of it on a real frame."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.fitting import blazepose_networks
from model.fitting.blazepose_boxes import Roi, crop_roi, decode_detections, detector_anchors, paste_roi, roi_from_alignment
from model.fitting.blazepose_decode import decode_landmarks, refine_by_heat
from model.fitting.blazepose_networks import MissingDetectorError, network_file
from model.fitting.clip_landmarks import track_clip
from model.fitting.landmarks import BLAZEPOSE_NAMES, PoseDetector, PoseLandmarks, same_person

TAIJI = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "taiji.mp4"
needs_taiji = pytest.mark.skipif(not TAIJI.is_file(), reason=f"needs a real clip at {TAIJI}")

SIDE = BLAZEPOSE_NAMES.index


@pytest.fixture(scope="module")
def detector() -> PoseDetector:
    return PoseDetector()


@pytest.fixture(scope="module")
def man() -> np.ndarray:
    ok, frame = cv2.VideoCapture(str(TAIJI)).read()
    assert ok
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def blob_picture(centre: tuple[float, float], size: tuple[int, int], sigma: float) -> np.ndarray:
    """A Gaussian blob; its centre is in px with pixel centres at +0.5."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))


def blob_centre(picture: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return np.array([(x * picture).sum(), (y * picture).sum()]) / picture.sum()


def test_the_anchors_are_as_many_as_the_detector_has_rows():
    anchors = detector_anchors()
    assert anchors.shape == (2254, 2)
    assert np.allclose(anchors[:2], 0.5 / 28) and np.allclose(anchors[-6:], 6.5 / 7)
    assert np.allclose(anchors.mean(axis=0), 0.5, atol=1e-6)


def test_points_return_from_a_turned_square():
    roi = Roi((310.0, 200.0), 170.0, 0.6)
    points = np.array([[300.0, 150.0], [10.0, 460.0], [310.0, 200.0]])
    assert np.allclose(roi.to_image(roi.to_unit(points)), points)
    assert np.allclose(roi.to_unit(np.array([310.0, 200.0])), 0.5)


@pytest.mark.parametrize("side", [300.0, 900.0])  # the second is averaged over blocks before it is sampled
def test_a_crop_shows_a_blob_where_the_square_says(side: float):
    roi = Roi((400.0, 420.0), side, -0.5)
    centre = np.array([430.0, 380.0])
    picture = (255 * blob_picture(tuple(centre), (800, 850), sigma=0.03 * side)).astype(np.uint8)
    crop = crop_roi(np.repeat(picture[..., None], 3, axis=2), roi, 256)
    seen = blob_centre(np.where(crop[..., 0] > 8, crop[..., 0], 0).astype(float)) / 256
    assert np.abs(seen - roi.to_unit(centre)).max() * 256 < 0.1  # px; 8-bit rounding


def test_a_pasted_map_lands_where_the_square_says():
    roi = Roi((200.0, 180.0), 220.0, 0.4)
    pasted = paste_roi(blob_picture((150.0, 100.0), (256, 256), sigma=9.0).astype(np.float32), roi, 400, 420)
    assert np.abs(blob_centre(pasted.astype(float)) - roi.to_image(np.array([150.0, 100.0]) / 256)).max() < 0.05  # px


def test_the_square_turns_with_the_body():
    upright = roi_from_alignment(np.array([50.0, 60.0]), np.array([50.0, 20.0]), scale=1.0)
    assert upright.angle == pytest.approx(0) and upright.size == pytest.approx(80)
    leaning = roi_from_alignment(np.array([50.0, 60.0]), np.array([90.0, 60.0]), scale=1.0)
    assert np.allclose(leaning.to_image(np.array([0.5, 0.0])), [90.0, 60.0])  # its top is where the body points


def test_boxes_that_overlap_become_one_person():
    anchors = detector_anchors()
    raw, logits = np.zeros((2254, 12)), np.full(2254, -50.0)
    raw[:, 2:4] = 40.0
    logits[[0, 1]] = 3.0  # one cell, two anchors
    logits[2000] = 1.0
    raw[1, 4] = 8.0  # px; a key point that the two see differently
    found = decode_detections(raw, logits, anchors, min_score=0.5)
    assert len(found.scores) == 2 and found.scores[0] > found.scores[1]
    assert found.keypoints[0, 0, 0] == pytest.approx(0.5 / 28 + 4.0 / 224)


def test_no_box_is_found_where_all_scores_are_low():
    found = decode_detections(np.ones((2254, 12)), np.full(2254, -3.0), detector_anchors(), min_score=0.5)
    assert found.boxes.shape == (0, 4) and found.keypoints.shape == (0, 4, 2)


def test_landmark_tensors_become_points_and_confidences():
    rows = np.zeros((39, 5))
    rows[:, 0], rows[:, 1] = 64.0, 192.0
    rows[:, 3], rows[:, 4] = 0.0, 50.0  # half visible, surely present
    cold = np.full((64, 64, 39), -20.0)
    decoded = decode_landmarks(rows.ravel(), 0.9, np.zeros((256, 256)), cold, np.arange(117.0))
    assert np.allclose(decoded.points, [0.25, 0.75])
    assert np.allclose(decoded.confidence, 0.5)
    assert np.allclose(decoded.points_world[1], [3, 4, 5])
    assert np.allclose(decoded.mask, 0.5)


def test_a_sure_heat_map_moves_its_landmark_and_no_other():
    heat = np.full((64, 64, 39), -20.0)
    heat[31:34, 20:23, 5] = 4.0
    points = np.full((39, 2), 0.5)
    points[5] = [22 / 64, 33 / 64]
    points[6] = [1.4, -0.2]  # outside: nothing to look at
    refined = refine_by_heat(points, heat)
    assert np.allclose(refined[5], [21 / 64, 32 / 64], atol=1e-6)
    assert np.array_equal(np.delete(refined, 5, axis=0), np.delete(points, 5, axis=0))


def test_a_missing_wheel_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(blazepose_networks.importlib.metadata, "distribution", absent)
    with pytest.raises(MissingDetectorError, match="pip install --no-deps mediapipe==0.10.14"):
        network_file("pose_detection/pose_detection.tflite")


def test_a_wheel_without_the_networks_is_told_with_its_remedy():
    with pytest.raises(MissingDetectorError, match="without it; run: pip install --no-deps mediapipe==0.10.14"):
        network_file("pose_detection/no_such.tflite")


def test_nobody_is_found_in_noise(detector: PoseDetector):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    assert detector.track(noise) is None


@needs_taiji
def test_the_man_is_found_with_his_parts_in_order(detector: PoseDetector, man: np.ndarray):
    found = detector.track(man)
    assert found is not None and found.presence > 0.9
    y = found.points[:, 1]
    assert y[SIDE("nose")] < y[SIDE("left_shoulder")] < y[SIDE("left_hip")] < y[SIDE("left_knee")] < y[SIDE("left_heel")]
    assert found.points[SIDE("left_shoulder"), 0] > found.points[SIDE("right_shoulder"), 0]  # he faces the camera
    assert found.points_world[SIDE("nose"), 2] < -0.1  # so his nose is nearer to it than his hips
    assert 1.2 < found.points_world[29:, 1].mean() - found.points_world[0, 1] < 1.7  # metres from nose to feet
    inside = found.points[found.confidence > 0.9].astype(int)
    assert (found.mask[inside[:, 1], inside[:, 0]] > 0.5).mean() > 0.9
    x0, y0, x1, y1 = found.box
    assert 480 < y1 - y0 < 660 and 100 < x1 - x0 < 350


@needs_taiji
def test_landmarks_move_with_the_picture(detector: PoseDetector, man: np.ndarray):
    still = detector.track(man, with_mask=False)
    shift = np.float32([[1, 0, 40], [0, 1, -24]])
    moved = detector.track(cv2.warpAffine(man, shift, (1280, 720), borderMode=cv2.BORDER_REPLICATE), still, with_mask=False)
    sure = still.confidence > 0.9
    assert np.median(np.abs(moved.points - still.points - [40, -24])[sure]) < 3.0  # px, of a man 570 px tall


@needs_taiji
def test_a_turned_picture_turns_the_world_landmarks(detector: PoseDetector, man: np.ndarray):
    upright = detector.track(man, with_mask=False)
    turned = detector.track(np.ascontiguousarray(np.rot90(man, k=-1)), with_mask=False)  # clockwise: up becomes right
    assert turned is not None
    expected = upright.points_world[:, [1, 0, 2]] * [-1, 1, 1]
    body = [SIDE(f"{side}_{part}") for side in ("left", "right") for part in ("eye", "shoulder", "knee", "ankle")]
    assert np.linalg.norm(turned.points_world - expected, axis=1)[body].mean() < 0.12  # m; the network itself varies


@needs_taiji
def test_a_small_person_in_a_wide_picture_is_found(detector: PoseDetector, man: np.ndarray):
    wide = np.full((360, 1600, 3), 120, np.uint8)
    wide[100:262, 1200:1488] = cv2.resize(man, (288, 162), interpolation=cv2.INTER_AREA)
    found = detector.track(wide)
    assert found is not None and 1200 < found.points[0, 0] < 1488


@needs_taiji
def test_a_lost_person_is_found_again(detector: PoseDetector, man: np.ndarray):
    done: list[int] = []
    empty = np.full_like(man, 90)
    followed = track_clip([man, empty, man], detector=detector, with_mask=False, progress=done.append)
    assert [f is not None for f in followed] == [True, False, True] and done == [1, 2, 3]
    assert np.abs(followed[2].points - followed[0].points).max() < 12.0  # px


@needs_taiji
def test_a_bystander_does_not_take_over(detector: PoseDetector, man: np.ndarray):
    man_alone = man[:, 300:1000]
    pair = np.full((720, 1300, 3), man[10, 10], np.uint8)
    pair[:, 300:1000] = man_alone
    pair[300:588, 1000:1280] = cv2.resize(man_alone, (280, 288), interpolation=cv2.INTER_AREA)
    followed = track_clip([pair, pair], detector=detector, with_mask=False)
    assert all(300 < f.points[:, 0].mean() < 1000 for f in followed)


@needs_taiji
def test_the_subject_is_not_who_happens_to_come_first(detector: PoseDetector, man: np.ndarray):
    man_alone = man[:, 300:1000]
    before = np.full((720, 1300, 3), man[10, 10], np.uint8)
    before[300:588, 1000:1280] = cv2.resize(man_alone, (280, 288), interpolation=cv2.INTER_AREA)
    after = before.copy()
    after[:, 300:1000] = man_alone
    followed = track_clip([before, after, after], detector=detector, with_mask=False)
    assert all(300 < f.points[:, 0].mean() < 1000 for f in followed[1:])
    assert followed[0] is None


def reading(points: np.ndarray, hips: tuple[float, float], top: tuple[float, float]) -> PoseLandmarks:
    """What the network read of somebody whose body reaches from the hips to `top` and as far down."""
    box = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
    return PoseLandmarks(points, np.ones(33), np.zeros((33, 3)), 1.0, None, box, np.array([hips, top]))


def test_a_body_that_is_read_twice_is_one_person_and_two_who_stand_close_are_two():
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(80, 120, 33), np.linspace(20, 180, 33)]
    body = reading(points, (100, 100), (100, 15))
    again = reading(points + rng.normal(0, 2, (33, 2)), (100, 112), (100, 5))  # its square is another
    mirage = reading(points[::-1] * [1, 0.8] + [0, 20], (100, 105), (100, 170))  # upside down in the same place
    beside, behind = (reading(points + [shift, 0], (100 + shift, 100), (100 + shift, 15)) for shift in (60, 50))
    assert same_person(body, again) and same_person(body, mirage)
    assert not same_person(body, beside) and not same_person(body, behind)


class SeesTwice(PoseDetector):
    """Reads a body and its mirage, in one order or the other."""

    def __init__(self, readings: list[PoseLandmarks]) -> None:
        self._readings = readings

    def _find_in(self, image: np.ndarray, window: object) -> list[tuple[int, float]]:
        return [(place, 1.0) for place in range(len(self._readings))]

    def _read(self, image: np.ndarray, roi: int, *, with_mask: bool) -> PoseLandmarks:
        return self._readings[roi]


@pytest.mark.parametrize("mirage_first", [False, True])
def test_of_a_body_and_its_mirage_the_body_is_kept(mirage_first: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("model.fitting.landmarks._jump", lambda one, other: 1.0)
    points = np.c_[np.tile([80.0, 120.0, 100.0], 11), np.linspace(20, 180, 33)]
    body = reading(points, (100, 100), (100, 15))
    mirage = replace(reading(points[::-1] * [1, 0.8] + [0, 20], (100, 105), (100, 170)), confidence=np.full(33, 0.4))
    found = SeesTwice([mirage, body] if mirage_first else [body, mirage]).everybody(np.zeros((200, 200, 3), np.uint8))
    assert len(found) == 1 and found[0] is body


class CrowdedThenEmpty(PoseDetector):
    """Two people in every frame but the middle one, which shows nobody."""

    def __init__(self) -> None:
        pass

    def everybody(self, image: np.ndarray, before: Sequence[PoseLandmarks] = ()) -> list[PoseLandmarks]:
        return [] if image.max() == 0 else [self._person(40.0), self._person(100.0)]

    def look_again(self, image: np.ndarray, person: PoseLandmarks, *, with_mask: bool = True) -> PoseLandmarks:
        return person

    def _person(self, x: float) -> PoseLandmarks:
        points = np.linspace((x - 10, 20), (x + 10, 100), 33)
        alignment = np.array([[x, 60.0], [x, 20.0]])
        return PoseLandmarks(points, np.ones(33), np.zeros((33, 3)), 1.0, None, (x - 10, 20.0, x + 10, 100.0), alignment)


def test_a_frame_without_anybody_does_not_end_a_clip_with_several_people():
    frames = [np.full((120, 160, 3), value, np.uint8) for value in (90, 0, 90)]
    followed = track_clip(frames, detector=CrowdedThenEmpty())
    assert followed[1] is None and followed[0].box == followed[2].box
