"""The split of a picture's error: nothing is lost, nothing lies in a wrong place."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.error_split import BAND_PX, PARTS, blur_within, errors_of, mean_psnr, part_map, part_of_joint, regions_of, split_error
from model.avatar import Avatar
from model.fitting.prior import JOINT_NAMES
from model.pose import track_pose

SIZE = 48


@pytest.fixture
def mask() -> np.ndarray:
    """A square person."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[12:36, 12:36] = 1
    return mask


@pytest.fixture
def target() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.2, 0.8, (SIZE, SIZE, 3)).astype(np.float32)


def test_the_regions_and_their_parts_add_up_to_the_whole_error(mask: np.ndarray, target: np.ndarray) -> None:
    seen = np.random.default_rng(1).uniform(0, 1, target.shape).astype(np.float32)
    part = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % len(PARTS)
    found = split_error(seen, target, mask, part)
    assert found.total == pytest.approx(np.square(seen - target).mean(), rel=1e-5)
    assert sum(found.regions.values()) == pytest.approx(found.total, rel=1e-6)
    assert sum(found.parts.values()) == pytest.approx(found.total - found.regions["outside"], rel=1e-6)


def test_an_error_is_found_where_it_lies(mask: np.ndarray, target: np.ndarray) -> None:
    part = np.zeros((SIZE, SIZE), int)
    places = {"outside": (2, 2), "band": (12, 20), "inside, fast": (24, 24)}
    for name, (y, x) in places.items():
        seen = target.copy()
        seen[y, x] += 0.1
        regions = split_error(seen, target, mask, part).regions
        assert max(regions, key=regions.get) == name


def test_an_even_error_inside_is_slow_and_taken_away_by_one_factor_a_channel(mask: np.ndarray, target: np.ndarray) -> None:
    inside, _ = regions_of(mask)
    flat = np.where(inside[..., None], np.float32(0.5), target)
    darker = np.where(inside[..., None], flat * np.float32([0.8, 0.9, 1.1]), flat)
    found = split_error(darker, flat, mask, np.zeros((SIZE, SIZE), int))
    assert found.regions["inside, slow"] == pytest.approx(found.total, rel=1e-6)
    assert found.lit < 1e-6 * found.total


def test_a_blurred_render_is_less_sharp(mask: np.ndarray, target: np.ndarray) -> None:
    inside, _ = regions_of(mask)
    part = np.zeros((SIZE, SIZE), int)
    assert split_error(target, target, mask, part).sharpness == pytest.approx(1)
    assert split_error(blur_within(target, inside).astype(np.float32), target, mask, part).sharpness < 0.5


def test_the_band_reaches_as_far_to_either_side_and_empty_masks_have_none(mask: np.ndarray) -> None:
    inside, band = regions_of(mask)
    assert band[24, 12 - int(BAND_PX) : 12 + int(BAND_PX)].all() and band[24].sum() == 4 * BAND_PX
    assert not (inside & band).any()
    assert not any(region.any() for region in regions_of(np.zeros_like(mask)))


def test_every_joint_of_a_body_has_its_part() -> None:
    part = dict(zip(JOINT_NAMES, np.array(list(PARTS))[part_of_joint(len(JOINT_NAMES))], strict=True))
    assert {part[name] for name in ("pelvis", "spine1", "spine3")} == {"trunk"}
    assert (part["left_hip"], part["right_ankle"], part["left_elbow"], part["right_hand"], part["neck"]) == ("legs", "feet", "arms", "hands", "head")


def test_pixels_are_given_to_the_joint_that_moves_them(trained: Avatar, clip) -> None:
    """The tube's lowest joint stands for the trunk, the two above it for the legs (names are taken in SMPL's order)."""
    part = part_map(trained, track_pose(clip.track, 0), clip.track, backend="cpu")
    rows = np.flatnonzero((clip.frames.masks[0] > 127).any(1))
    names = np.array(list(PARTS))[part[rows][:, part.shape[1] // 2]]
    assert set(names) == {"trunk", "legs"}
    assert (np.diff((names == "legs").astype(int)) != 0).sum() == 1


def test_frames_score_as_the_metric_scores_them(trained: Avatar, clip) -> None:
    from tasks.pictures import on_white
    from tasks.scoring import Viewer, score_picture

    found = errors_of(trained, clip.track, clip.frames, backend="cpu")
    viewer, scores = Viewer(trained, backend="cpu"), []
    for k, row in enumerate(clip.frames.rows.tolist()):
        image, mask = clip.frames.images[k], clip.frames.masks[k]
        scores.append(score_picture(viewer.see(track_pose(clip.track, row), clip.track.camera), on_white(image, mask), mask / np.float32(255), None)["psnr"])
    assert mean_psnr(np.array([e.total for e in found.values()])) == pytest.approx(np.mean(scores), abs=1e-3)
