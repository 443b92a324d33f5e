"""Claims about outlines: what is learned of the background, how colours are weighed, and what the network makes of both."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from model.fitting import matting
from model.fitting.matting import FARTHEST, FARTHEST_UNSEEN, box_around, decide_outline, learn_scene, weigh_colours
from model.fitting.outline_network import STEP, OutlineNetwork, load_network, outline_inputs, predict_mask
from model.fitting.scene import Background, background_plate, fill_background, learn_background, person_colours
from tasks.segment_person import finish_masks


def test_shadows_are_expected_where_the_clip_has_them():
    rng = np.random.default_rng(7)
    scene = np.broadcast_to(rng.integers(120, 180, (120, 160, 1), dtype=np.uint8), (120, 160, 3))
    images, masks = np.repeat(scene[None], 12, axis=0), np.zeros((12, 120, 160), np.float32)
    masks[:, 50:70, 70:90] = 1
    images[::4, 80:, :60] = images[::4, 80:, :60] // 2  # a shadow, every fourth frame
    background = learn_background(images, masks, radius=2)
    assert background.shaded[100:, :40].min() > 0.2 and background.shaded[:50].max() < 0.01


def test_the_background_is_seen_where_the_person_steps_aside():
    rng = np.random.default_rng(2)
    scene = rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)
    images, masks = np.repeat(scene[None], 8, axis=0), np.zeros((8, 60, 90), np.float32)
    for i in range(8):
        masks[i, 10:50, 5 + 8 * i : 15 + 8 * i] = 1
        masks[i, 20:40, 80:85] = 1  # never leaves
        images[i][masks[i] > 0.5] = 255
    plate, known = background_plate(images, masks, radius=2)
    assert known[:, :75].all() and not known[20:40, 80:85].any()
    assert np.allclose(plate[known], scene[known] / 255)


def test_a_place_on_which_shadows_come_and_go_is_known_in_full_light_and_one_that_changes_is_not():
    rng = np.random.default_rng(6)
    scene = rng.integers(90, 200, (60, 90, 3), dtype=np.uint8)
    images, masks = np.repeat(scene[None], 12, axis=0), np.zeros((12, 60, 90), np.float32)
    shade = np.tile([1.0, 0.5, 0.8, 0.65], 3)[:, None, None, None]
    images[:, 30:50, :40] = np.rint(shade * images[:, 30:50, :40])
    images[:, 30:50, 60:] = rng.integers(90, 200, (12, 20, 30, 3))  # a screen
    plate, known = background_plate(images, masks, radius=2)
    assert known[:, :60].all() and np.abs(plate - scene / 255)[:, :60].max() < 1e-6
    assert known[30:50, 60:].mean() < 0.1


def test_colour_mends_the_outline_where_the_background_is_known_and_nowhere_else():
    rng = np.random.default_rng(3)
    scene = np.broadcast_to(rng.integers(60, 90, (1, 90, 1), dtype=np.uint8), (60, 90, 3)).copy()
    truth = np.zeros((60, 90), np.float32)
    truth[10:50, 30:60] = 1
    image = np.where(truth[..., None] > 0.5, np.uint8([200, 120, 60]), scene)
    coarse = cv2.GaussianBlur(np.roll(truth, 2, axis=1), (0, 0), 2.0)
    colours = person_colours(image[None], truth[None])
    known = np.zeros((60, 90), bool)
    known[:30] = True
    background = Background(scene / np.float32(255), np.full((60, 90), 9e-4, np.float32), known.astype(np.float32), np.full((60, 90), 0.1, np.float32))
    weighed = weigh_colours(image, coarse, background=background, colours=colours)
    assert ((weighed > 0.5) != (truth > 0.5))[:28].sum() < 0.1 * ((coarse > 0.5) != (truth > 0.5))[:28].sum()
    assert np.array_equal((weighed > 0.5)[33:], (coarse > 0.5)[33:])


@pytest.mark.parametrize("hidden", [False, True])
def test_a_sole_that_the_coarse_mask_doubts_comes_back_and_the_shadow_beside_it_does_not(hidden: bool):
    rng = np.random.default_rng(4)
    floor = (150 + rng.normal(0, 4, (60, 90, 1)) + np.zeros(3)).astype(np.uint8)
    truth, coarse = np.zeros((60, 90), np.float32), np.zeros((60, 90), np.float32)
    truth[10:50, 30:60], coarse[10:42, 30:60], coarse[42:50, 30:60], coarse[30:42, 60:80] = 1, 1, 0.3, 0.3
    image = np.where(truth[..., None] > 0.5, np.uint8([60, 40, 110]), floor)
    image[42:50, 30:60] = 245  # a white sole
    image[30:50, 60:80] = floor[30:50, 60:80] * 0.6  # a shadow
    known = np.ones((60, 90), bool)
    known[5:55, 25:65] = not hidden  # or the person never moves away
    background = fill_background(np.where(known[..., None], floor / np.float32(255), 0), known)
    weighed = weigh_colours(image, coarse, background=background, colours=person_colours(image[None], coarse[None]))
    assert (weighed > 0.5)[42:49, 31:59].mean() > 0.95
    assert (weighed > 0.5)[30:50, 62:80].mean() < 0.05


def test_frames_in_which_nobody_was_found_do_not_show_the_background():
    image, wall, truth = hand()
    images, coarse = np.repeat(image[None], 12, axis=0), np.repeat(truth[None], 12, axis=0)
    coarse[[2, 5, 9]] = 0  # lost; the hand is there all the same
    background, _ = learn_scene(images, coarse)
    assert not (background.trust[cv2.erode(truth, np.ones((9, 9))) > 0.9] == 1).any()
    assert background.trust[truth == 0].mean() > 0.8


def test_where_no_colour_was_counted_on_a_person_all_are_alike():
    assert (person_colours(np.zeros((1, 20, 20, 3), np.uint8), np.zeros((1, 20, 20), np.float32)) == 1).all()


# ------------------------------------------------------------------------------------------------------------ network


def known_place(scene: np.ndarray) -> Background:
    """A background that the clip shows everywhere, without shadows."""
    size = scene.shape[:2]
    return Background(scene / np.float32(255), np.full(size, 6e-4, np.float32), np.ones(size, np.float32), np.full(size, 0.002, np.float32))


def hand(size: int = 96) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four fingers before a rough wall: the picture, the wall alone, and the truth."""
    rng = np.random.default_rng(5)
    wall = cv2.GaussianBlur(rng.integers(40, 130, (size, size, 3)).astype(np.uint8), (0, 0), 1.5)
    truth = np.zeros((size, size), np.float32)
    truth[50:80, 20:60] = 1
    for left in (20, 31, 42, 53):
        truth[18:50, left : left + 7] = 1
    truth = cv2.GaussianBlur(truth, (0, 0), 0.6)
    image = truth[..., None] * np.array([205, 155, 120]) + (1 - truth[..., None]) * wall
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8), wall, truth


def test_fingers_that_a_coarse_mask_joins_come_apart():
    image, wall, truth = hand()
    coarse = cv2.GaussianBlur(cv2.morphologyEx(truth, cv2.MORPH_CLOSE, np.ones((1, 9))), (0, 0), 2.5)
    fine = decide_outline(image, coarse, background=known_place(wall), colours=person_colours(image[None], cv2.erode(truth, np.ones((9, 9)))[None]))
    assert np.abs(fine - truth).sum() < 0.4 * np.abs(coarse - truth).sum()
    assert ((fine > 0.5) != (truth > 0.5)).sum() < 0.5 * ((coarse > 0.5) != (truth > 0.5)).sum()


@pytest.mark.parametrize(("trust", "drift", "px"), [(1.0, 0, FARTHEST), (0.6, 0, FARTHEST_UNSEEN), (0.0, 0, 0), (1.0, 0.05, 5)])
def test_the_network_is_followed_as_far_as_the_background_is_known(monkeypatch: pytest.MonkeyPatch, trust: float, drift: float, px: int):
    monkeypatch.setattr(matting, "predict_mask", lambda inputs: np.ones(inputs.shape[1:], np.float32))
    wall, coarse = np.full((120, 160, 3), 90, np.uint8), np.zeros((120, 160), np.float32)
    coarse[40:80, 60:100] = 1
    place = known_place(wall)
    place = Background(place.colour + np.float32(drift), place.variance, np.full((120, 160), trust, np.float32), place.shaded)
    fine = decide_outline(wall, coarse, background=place, colours=np.ones((24, 24, 24), np.float32))
    assert np.flatnonzero(fine[60] > 0.5)[[0, -1]].tolist() == [60 - px, 99 + px]


@pytest.mark.parametrize("shade", [1.0, 0.6])
def test_a_thing_of_the_background_that_shows_its_pattern_is_taken_out_of_a_sure_mask(shade: float):
    wall, person = np.full((120, 160, 3), 150, np.uint8), np.zeros((120, 160), np.float32)
    for row in range(32, 80, 8):
        cv2.line(wall, (92, row), (130, row), (40, 40, 40), 2)  # the slats of a chair's back
    person[20:110, 50:90] = 1
    coarse = person.copy()
    coarse[30:80, 90:125] = 1  # sure of the chair
    image = np.where(person[..., None] > 0.5, np.uint8([60, 60, 130]), (shade * wall).astype(np.uint8))
    image[50:53, 55:85] = 40  # a dark stripe of the person's own
    colours = person_colours(image[None], person[None])
    with_pattern = decide_outline(image, coarse, background=known_place(wall), colours=colours)
    assert (with_pattern > 0.5)[30:80, 94:125].mean() < 0.1
    assert (with_pattern > 0.5)[22:108, 52:88].all()


def test_where_the_background_is_not_as_it_was_the_mask_stays_near_the_coarse_one():
    image, wall, truth = hand()
    coarse = truth.copy()
    coarse[18:36] = 0  # the fingers' ends are lost
    colours = person_colours(image[None], truth[None])
    ends = slice(20, 24)
    assert (decide_outline(image, coarse, background=known_place(wall), colours=colours)[ends] > 0.5).sum() > 40
    moved = known_place(np.roll(wall, 3, axis=1))
    assert not (decide_outline(image, coarse, background=moved, colours=colours)[ends] > 0.5).any()


def test_without_a_person_or_a_background_nothing_is_invented():
    image, wall, truth = hand()
    nothing = fill_background(np.zeros((96, 96, 3), np.float32), np.zeros((96, 96), bool))
    everything_alike = np.ones((24, 24, 24), np.float32)
    assert not decide_outline(image, np.zeros_like(truth), background=nothing, colours=everything_alike).any()
    fine = decide_outline(image, cv2.GaussianBlur(truth, (0, 0), 1.0), background=nothing, colours=everything_alike)
    assert ((fine > 0.5) != (truth > 0.5)).mean() < 0.03


def test_the_network_starts_from_the_weighed_mask():
    inputs = torch.rand(1, 12, 2 * STEP, 3 * STEP)
    with torch.no_grad():
        assert torch.allclose(torch.sigmoid(OutlineNetwork()(inputs)), inputs[:, 10].clamp(0.01, 0.99), atol=1e-6)
        assert not torch.allclose(torch.sigmoid(load_network()(inputs)), inputs[:, 10].clamp(0.01, 0.99), atol=1e-2)


@pytest.mark.parametrize("shape", [(40, 56), (43, 51), (5, 3)])
def test_a_picture_of_any_size_gets_a_mask_of_its_size(shape: tuple[int, int]):
    image = np.zeros((*shape, 3), np.uint8)
    half = np.full(shape, 0.5, np.float32)
    mask = predict_mask(outline_inputs(image, half, half, known_place(image)))
    assert mask.shape == shape and np.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1


def test_masks_finished_in_place_are_those_decided_one_by_one():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (4, 96, 80, 3), dtype=np.uint8)
    coarse = np.zeros((4, 96, 80), np.float32)
    for frame in (0, 1, 3):  # nobody is in frame 2
        coarse[frame, 30:70, 20 + 4 * frame : 50 + 4 * frame] = generator.uniform(0.6, 1.0, (40, 30))
        coarse[frame, 90:, 70:] = 0.01  # too little to count
    background, colours = learn_scene(images, coarse)
    fine = np.zeros_like(coarse)
    for mask, image, before in zip(fine, images, coarse, strict=True):
        box = box_around(before)
        mask[box] = decide_outline(image[box], before[box], background=background[box], colours=colours)
    assert [mask.any() for mask in fine] == [True, True, False, True]
    assert np.array_equal(finish_masks(images, coarse), fine)
