"""Claims about finding the lamp of a clip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as nnf

from model.avatar import Attributes, Avatar
from model.body.track import BodyTrack
from model.fitting.rotations import rotation_from_vector
from model.lamp_light import lamp_share, light_axes
from model.lamp_search import Sighting, find_lamp, sight
from model.light import LAMP, shade
from model.pose import track_pose
from model.pose_refinement import PoseCorrection
from model.training import Training, TrainingOptions, run_training
from model.uv.atlas import UvAtlas
from model.uv.visibility import sphere_directions
from tests.conftest import make_avatar

LIGHT = torch.tensor([[-0.05, -0.05, -0.05], [0.08, 0.08, 0.1], [0.0, 0.0, 0.0], [0.6, 0.55, 0.5], [0.1, 0.1, 0.1]])
TOWARDS = nnf.normalize(torch.tensor([-0.5, 0.7, 0.5]), dim=0)


def degrees(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(torch.rad2deg(torch.acos((found @ wanted).clamp(-1, 1))))


def turning_bodies(light: torch.Tensor, towards: torch.Tensor) -> tuple[Attributes, list[Sighting]]:
    """A ball with a smaller one beside it, which turn before a camera far along z, in random colours, seen with noise."""
    generator = torch.Generator().manual_seed(0)
    ball = torch.from_numpy(sphere_directions(4000)).float()
    means, normals = torch.cat([0.2 * ball, 0.1 * ball + torch.tensor([0.4, 0.1, 0.0])]), torch.cat([ball, ball])
    albedo = 0.2 + 0.6 * torch.rand(len(means), 3, generator=generator)
    sightings = []
    for angle in torch.linspace(0, 5.5, 8):
        turn = rotation_from_vector(torch.stack([torch.zeros(()), angle, torch.zeros(())]))
        there, facing = means @ turn.T, (normals @ turn.T)[:, 2]
        colors = albedo * shade(normals @ turn.T, facing, lamp_share(there, normals @ turn.T, towards), light)
        colors = colors + 0.05 * torch.randn(colors.shape, generator=generator)
        seen = (facing > 0.2).nonzero()[:, 0]
        parts = there, normals @ turn.T, seen, facing[seen], torch.ones(len(seen)), colors[seen]
        sightings.append(Sighting(*(part.numpy() for part in parts)))
    return Attributes(torch.zeros_like(means), albedo, torch.ones(len(means))), sightings


def test_the_lamp_is_found_where_it_is_and_as_strong_as_it_is(avatar: Avatar) -> None:
    attributes, sightings = turning_bodies(LIGHT, TOWARDS)
    guess = dataclasses.replace(attributes, albedo=attributes.albedo * 1.1)
    find_lamp(avatar, guess, sightings)
    assert degrees(avatar.lamp, TOWARDS) < 4
    assert float((avatar.light[LAMP] - LIGHT[LAMP]).detach().abs().max()) < 0.15


def test_a_lamp_that_is_known_is_looked_for_nearby(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.lamp_search.sphere_directions", lambda count: pytest.fail("not all round again"))
    attributes, sightings = turning_bodies(LIGHT, TOWARDS)
    across, _, _ = light_axes(TOWARDS)
    avatar.lamp.copy_(nnf.normalize(TOWARDS + 0.3 * across, dim=0))
    find_lamp(avatar, attributes, sightings)
    assert degrees(avatar.lamp, TOWARDS) < 3


def test_even_light_has_no_lamp(avatar: Avatar) -> None:
    even = torch.zeros(5, 3)
    even[1] = 0.1
    attributes, sightings = turning_bodies(even, TOWARDS)
    find_lamp(avatar, attributes, sightings)
    assert not avatar.lamp.any() and float((avatar.light - even).detach().abs().max()) < 0.05


def test_colours_are_read_off_the_picture_whatever_the_avatar_thinks(clip, atlas: UvAtlas, track: BodyTrack) -> None:
    avatar = make_avatar(atlas, light="none").requires_grad_(False).eval()
    grey = Attributes(torch.zeros_like(atlas.points_rest), torch.full_like(atlas.points_rest, 0.5), 0.6 * atlas.spacing)
    picture, mask = clip.frames.picture(2)
    found = sight(avatar, grey, track_pose(track, int(clip.frames.rows[2])), track.camera, picture, mask, trust=0.5, backend="cpu")
    whole = sight(avatar, grey, track_pose(track, int(clip.frames.rows[2])), track.camera, picture, mask, trust=1.0, backend="cpu")
    assert np.allclose(whole.weights, 2 * found.weights)
    inner = found.facing > 0.6
    red = torch.sin(30 * atlas.points_rest[:, 1]).numpy()[found.which]
    sure = inner & (np.abs(red) > 0.8)  # in the middle of a stripe
    assert sure.sum() > 20
    wanted = np.where(red[:, None] > 0, [0.8, 0.2, 0.1], [0.1, 0.2, 0.7])
    assert np.abs(found.colors - wanted)[sure].mean() < 0.1


def test_where_nothing_is_seen_the_light_stays(clip, atlas: UvAtlas, track: BodyTrack) -> None:
    avatar = make_avatar(atlas).requires_grad_(False).eval()
    avatar.light.data, avatar.lamp = LIGHT.clone(), TOWARDS.clone()
    picture, mask = clip.frames.picture(2)
    nobody = sight(avatar, avatar.attributes(), track_pose(track, 2), track.camera, picture, torch.zeros_like(mask), trust=1.0, backend="cpu")
    assert len(nobody.which) == 0
    find_lamp(avatar, avatar.attributes(), [nobody, nobody])
    assert torch.equal(avatar.light, LIGHT) and torch.equal(avatar.lamp, TOWARDS)


@pytest.mark.parametrize("moves", [True, False])
def test_training_finds_the_lamp_when_it_is_time_unless_the_light_stays(clip, atlas: UvAtlas, options: TrainingOptions, moves: bool) -> None:
    painter = make_avatar(atlas, light="lamp").requires_grad_(False).eval()
    painter.light.data, painter.lamp = LIGHT.clone(), nnf.normalize(torch.tensor([0.8, -0.3, -0.5]), dim=0)
    paint = Attributes(torch.zeros_like(atlas.points_rest), torch.full_like(atlas.points_rest, 0.5), 0.6 * atlas.spacing)
    images = []
    for row in clip.frames.rows.tolist():
        with torch.no_grad():
            seen = painter.render(track_pose(clip.track, row), clip.track.camera, torch.zeros(3), backend="cpu", attributes=paint)
        images.append((seen.image.clamp(0, 1) * 255).byte().numpy())
    frames = dataclasses.replace(clip.frames, images=np.stack(images))
    rates = dataclasses.replace(options.rates, poses=None, light=options.rates.light if moves else 0.0)
    options = dataclasses.replace(options, steps=60, lamp_at=[0.4, 0.7], rates=rates)
    training = Training(make_avatar(atlas), PoseCorrection(clip.track), frames, options, lpips=None, backend="cpu", seed=0)
    run_training(training, on_step=lambda _: None, stop_asked=lambda: False)
    assert training.lamp_searches == (2 if moves else 0)
    if moves:
        assert degrees(training.avatar.lamp, painter.lamp) < 15
    else:
        assert not training.avatar.lamp.any()
