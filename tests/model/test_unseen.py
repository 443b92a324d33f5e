"""Claims about parts that the clip never shows: clothes go around, the back of a head is hair, and no step shows where they begin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.avatar import Avatar, AvatarOptions
from model.body.body_model import load_body_model
from model.networks import NetworkOptions
from model.unseen import SEEN_SHARE, SLICE, SURE_SHARE, blend_in, colors_along, colors_of_hair, fill_unseen, parts_of_points, rim_of
from model.uv.atlas import bake_atlas, body_surface

NETWORK = NetworkOptions(
    features=4, feature_std=1.0, smoother_kernel=0, width=8, layers=1, skip_layer=0, branch_layers=0, activation="relu", head_std=0.05,
    offset_scale=0.02, color_gain=1.0, texel_residual=True, scale_start=0.6, scale_floor=0.5, scale_ceiling=1.5, decode_at="points",
)  # fmt: skip


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    body = load_body_model("open", uv_path=None)
    torch.manual_seed(0)
    atlas = bake_atlas(body_surface(body, torch.zeros(body.num_betas)), resolution=96, map_resolution=32, density=None)
    return Avatar(atlas, AvatarOptions(NETWORK, "none", None, None), body=body.name, betas=torch.zeros(body.num_betas)).eval()


def paint(avatar: Avatar, colors: np.ndarray) -> None:
    """Give the avatar's points these colours."""
    with torch.no_grad():
        avatar.texel_colors.zero_()
        now = avatar.attributes().albedo
        wanted = torch.from_numpy(colors).float().clamp(0.02, 0.98)
        avatar.texel_colors += torch.logit(wanted) - torch.logit(now)


def filled_from_the_front(avatar: Avatar, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The colours of somebody of these colours who was seen from the front alone; which points were seen, and which are the middle of the back."""
    facing = avatar.atlas_normals_rest.numpy()[:, 2]
    shown = facing > 0.1
    paint(avatar, np.where(shown[:, None], truth, 0.3))
    fill_unseen(avatar, torch.from_numpy(shown).float())
    with torch.no_grad():
        filled = avatar.attributes().albedo.numpy()
    return filled, shown, (parts_of_points(avatar) == 0) & (facing < -0.7)


def line(count: int) -> np.ndarray:
    """Who lies beside whom along a line of points."""
    at = np.arange(count)
    return np.stack([np.maximum(at - 1, 0), np.minimum(at + 1, count - 1)], axis=1)


def test_without_anything_that_stands_in_colours_go_over_from_one_seen_side_to_the_other():
    colors, seen = np.zeros((10, 3)), np.zeros(10, bool)
    colors[9], seen[[0, 9]] = 0.9, True
    assert np.allclose(blend_in(colors, seen, line(10), [])[:, 0], np.linspace(0, 0.9, 10), atol=2e-3)


def test_a_pattern_that_stands_in_keeps_its_edges_and_meets_the_seen_points_without_a_step():
    stripes = np.tile(0.3 + 0.4 * (np.arange(40) // 5 % 2)[:, None], 3)
    colors, seen = stripes + 0.15, np.zeros(40, bool)  # what is seen is lit more
    seen[:3] = True
    filled = blend_in(colors, seen, line(40), [stripes])
    assert np.array_equal(filled[:3], colors[:3])
    steps, wanted = np.abs(np.diff(filled[:, 0])), np.abs(np.diff(stripes[:, 0]))
    assert np.allclose(steps[wanted > 0], 0.4, atol=0.06) and steps[wanted == 0].max() < 0.06
    assert np.allclose(filled[25:], stripes[25:], atol=0.02)


def test_of_two_that_stand_in_the_first_that_knows_a_point_counts():
    known, other = np.full((8, 3), np.nan), np.full((8, 3), 0.2)
    known[:4] = 0.8
    seen = np.zeros(8, bool)
    seen[0] = True
    filled = blend_in(np.full((8, 3), 0.8), seen, line(8), [known, other])[:, 0]
    assert filled[1] > 0.7 and filled[7] < filled[1] - 0.2 and np.all(np.diff(filled) < 1e-6)


def test_stripes_go_around_and_a_print_on_the_front_does_not():
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 48, endpoint=False), np.arange(0, 0.6, SLICE / 4))
    places = np.stack([0.15 * np.sin(angle), height, 0.15 * np.cos(angle)], axis=-1).reshape(-1, 3)
    stripes = np.tile(np.where(places[:, 1:2] // 0.1 % 2 > 0, 0.8, 0.2), 3)
    colors, seen = stripes.copy(), places[:, 2] > 0
    colors[seen & (np.abs(places[:, 0]) < 0.04) & (np.abs(places[:, 1] - 0.35) < 0.05)] = 0.5  # a print
    told = colors_along(places[:, 1], colors, seen)
    inside = np.abs((places[:, 1] + 0.05) % 0.1 - 0.05) > SLICE  # of a stripe, away from its edges
    assert np.allclose(told[inside], stripes[inside], atol=1e-6)
    assert np.isnan(colors_along(places[:, 1], colors, np.zeros(len(places), bool))).all()


def test_the_back_of_a_head_is_hair_and_a_face_is_not():
    rng = np.random.default_rng(0)
    away = rng.normal(size=(2000, 3))
    places = 0.1 * away / np.linalg.norm(away, axis=1, keepdims=True)
    hairy = (places[:, 1] > 0.05) | (places[:, 2] < 0)
    colors, seen = np.where(hairy[:, None], 0.1, 0.7) * np.ones(3), places[:, 2] > -0.01
    told = colors_of_hair(places, colors, seen)
    back = (places[:, 2] < -0.02) & (places[:, 1] > -0.03)
    assert np.allclose(told[back], 0.1) and np.isnan(told[(places[:, 2] > 0.05) & (places[:, 1] < 0)]).all()


def test_what_borders_on_a_hidden_region_is_its_rim_and_a_hidden_speck_has_none():
    hidden = np.zeros(60, bool)
    hidden[10], hidden[30:50] = True, True
    assert np.flatnonzero(rim_of(hidden, line(60))).tolist() == [27, 28, 29, 50, 51, 52]


def test_hands_feet_and_trunk_are_parts_by_themselves(avatar: Avatar):
    parts = parts_of_points(avatar)
    assert set(np.unique(parts)) == {0, 1, 2, 4, 5, 7, 8, 12, 15, 16, 17, 18, 19, 20, 21}


def test_what_was_only_grazed_beside_a_hidden_region_is_not_believed(avatar: Avatar):
    normals, parts = avatar.atlas_normals_rest.numpy(), parts_of_points(avatar)
    facing = normals[:, 2].clip(0, 1)
    grazed = (facing > SEEN_SHARE) & (facing < SURE_SHARE) & (parts == 0)
    paint(avatar, np.where(grazed[:, None], 0.9, 0.2) * np.ones((len(normals), 3)))  # the wall shines through at the outline
    seen = fill_unseen(avatar, torch.from_numpy(facing))
    with torch.no_grad():
        filled = avatar.attributes().albedo.numpy()
    rim = grazed & rim_of(facing <= SEEN_SHARE, avatar.atlas_neighbours.numpy())
    assert rim.sum() > 30 and filled[rim].mean() < 0.6 and seen.numpy()[rim].all()
    assert np.allclose(filled[(facing > SURE_SHARE) & (parts == 0)], 0.2, atol=0.01)


def test_where_all_that_was_seen_is_rim_it_is_believed(avatar: Avatar):
    one = torch.zeros(len(avatar.seen))
    one[100] = 0.5
    with torch.no_grad():
        before = avatar.attributes().albedo
        fill_unseen(avatar, one)
        assert not torch.equal(avatar.attributes().albedo, before)


def test_a_checked_shirt_is_checked_behind_too(avatar: Avatar):
    points, trunk = avatar.atlas_points_rest.numpy(), parts_of_points(avatar) == 0
    truth = np.full((len(points), 3), 0.5)
    checks = (points[:, 0] // 0.08 + points[:, 1] // 0.08) % 2
    truth[trunk] = np.where(checks[trunk, None] > 0, 0.8, 0.2)
    filled, _, back = filled_from_the_front(avatar, truth)
    assert np.corrcoef(filled[back, 0], truth[back, 0])[0, 1] > 0.6


def test_somebody_who_is_seen_from_the_front_gets_a_striped_back_and_dark_hair(avatar: Avatar):
    points, normals, parts = avatar.atlas_points_rest.numpy(), avatar.atlas_normals_rest.numpy(), parts_of_points(avatar)
    truth = np.full((len(points), 3), 0.5)
    truth[parts == 0] = np.where(points[parts == 0, 1:2] // 0.12 % 2 > 0, 0.85, 0.15)
    head = points[parts == 15]
    middle = (head.min(axis=0) + head.max(axis=0)) / 2
    truth[parts == 15] = np.where(((head - middle)[:, 2:] < 0.02) | ((head - middle)[:, 1:2] > 0.06), 0.1, 0.7)
    filled, shown, back = filled_from_the_front(avatar, truth)
    assert np.corrcoef(filled[back, 0], truth[back, 0])[0, 1] > 0.8
    assert filled[(parts == 15) & (normals[:, 2] < -0.7), 0].mean() < 0.25
    inside = shown & (normals[:, 2] > 0.6) & (parts == 0)
    assert np.allclose(filled[inside], truth[inside], atol=0.02)
    assert torch.equal(avatar.seen, torch.from_numpy(shown).float())
