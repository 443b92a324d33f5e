"""Claims about the floor: feet that rest are on it, none is in it, and feet in the air are left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.fitting.fit import on_floor, pose_state
from model.fitting.floor import add_floor, camera_height
from model.fitting.kinematics import place
from model.fitting.observations import FitState
from model.fitting.solver import NormalEquations
from tests.model.fitting_scene import Scene, make_scene

FRAMES = 4
LEFT_HIP, LEFT_KNEE = 0, 3  # rows of a body pose
DOWN = 4  # column of a body's shift along the camera's y axis, which points down


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(FRAMES)


@pytest.fixture(scope="module")
def standing(scene: Scene) -> FitState:
    """Straight on the floor, facing the camera."""
    still = replace(scene.truth, body_pose=torch.zeros_like(scene.truth.body_pose), root=scene.truth.root[:1].expand(FRAMES, 3, 3).clone())
    return on_floor(scene.body, replace(still, transl=still.transl[:1].expand(FRAMES, 3).clone()))


def pulled(scene: Scene, state: FitState, rests: float = 1.0) -> NormalEquations:
    model = NormalEquations.zero(FRAMES, 6 + state.body_pose[0].numel(), state.num_shared, torch.float64)
    posed, certain = pose_state(scene.body, state), torch.full((FRAMES, 2), rests, dtype=torch.float64)
    add_floor(model, state, scene.body.skeleton, scene.body.soles, posed, certain, spread=0.01)
    return model


def raised(state: FitState, metres: float) -> FitState:
    return replace(state, transl=state.transl - torch.tensor([0.0, metres, 0.0], dtype=torch.float64))


def test_soles_lie_under_heel_and_ball(scene: Scene, standing: FitState) -> None:
    body = scene.body
    soles, joints = (place(points, pose_state(body, standing), standing.betas)[0] for points in (body.soles, body.joints))
    for (heel, ball), ankle, toes in ((soles[:2], joints[7], joints[10]), (soles[2:], joints[8], joints[11])):
        assert heel[2] > ankle[2] > ball[2]  # facing the camera, toes are nearer
        assert toes[2] > ball[2] - 0.1
        assert 0.03 < heel[1] - ankle[1] < 0.12 and abs(float(heel[1] - ball[1])) < 0.015


def test_the_camera_hangs_as_high_as_the_soles_lie_below_it(scene: Scene, standing: FitState) -> None:
    surface = scene.body.surface.vertices[:, 1]
    eyes = float(standing.camera_height)
    moved = raised(standing, 0.5)
    assert float(camera_height(scene.body.soles, pose_state(scene.body, moved), moved)) == pytest.approx(eyes - 0.5)
    assert 0.3 < eyes < float(surface.max() - surface.min())


def test_a_body_that_floats_or_sinks_is_drawn_to_the_floor(scene: Scene, standing: FitState) -> None:
    assert (pulled(scene, raised(standing, 0.02)).g[:, DOWN] < 0).all()  # further down is cheaper
    assert (pulled(scene, raised(standing, -0.02)).g[:, DOWN] > 0).all()


def test_a_foot_in_the_air_is_left_alone_and_one_that_rests_is_not(scene: Scene, standing: FitState) -> None:
    pose = standing.body_pose.clone()
    pose[:, LEFT_HIP, 0], pose[:, LEFT_KNEE, 0] = -0.3, 0.6
    stepping = replace(standing, body_pose=pose)
    knee = 6 + 3 * LEFT_KNEE
    assert pulled(scene, stepping, rests=0.0).g[:, knee].abs().max() < 1e-9
    assert pulled(scene, stepping, rests=1.0).g[:, knee].abs().min() > 0.1


def test_a_jump_is_hardly_held_back(scene: Scene, standing: FitState) -> None:
    near, far = (pulled(scene, raised(standing, height)).g[:, DOWN].abs().mean() for height in (0.05, 0.5))
    assert far < 0.05 * near
