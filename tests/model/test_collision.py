"""Claims about arms that must not pass through trunk and thighs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.penetration import below_surface, winding_numbers
from model.fitting.collision import add_collisions, depths_inside, level
from model.fitting.fit import pose_state
from model.fitting.observations import FitState
from model.fitting.solver import NormalEquations, minimise

_spec = importlib.util.spec_from_file_location("fitting_scene", Path(__file__).with_name("fitting_scene.py"))
fitting_scene = sys.modules.setdefault("fitting_scene", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(fitting_scene)

FRAMES = 4
BODY = fitting_scene.open_fit_body()


def arms_through_the_body() -> FitState:
    """Both arms hang down and lean in, so that forearms and hands lie in belly, hips and thighs; some noise on all."""
    state = fitting_scene.make_scene(FRAMES).truth
    pose = state.body_pose.clone()
    pose[:, 15], pose[:, 16] = torch.tensor([0.3, -0.3, -1.6]), torch.tensor([0.3, 0.3, 1.6])
    pose[:, 17], pose[:, 18] = torch.tensor([0.0, -0.3, -0.3]), torch.tensor([0.0, 0.3, 0.3])
    return replace(state, body_pose=pose).moved(*noise(state, 0.1, seed=1))


def noise(state: FitState, size: float, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: size * torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(FRAMES, 75), draw(state.num_shared)


class OnlyCollisions:
    """The collisions, and a weak wish to stay: something to minimise."""

    def linearise(self, state: FitState) -> NormalEquations:
        model = NormalEquations.zero(FRAMES, 75, state.num_shared, torch.float64)
        model.H.diagonal(dim1=1, dim2=2).add_(1e-3)
        model.H_shared.diagonal().add_(1.0)
        add_collisions(model, BODY.skeleton, BODY.collisions, state, pose_state(BODY, state), spread=0.02)
        return model

    def step(self, state: FitState, own: torch.Tensor, shared: torch.Tensor) -> FitState:
        return state.moved(own, 0 * shared)


def test_the_force_is_the_gradient_of_its_cost_shape_and_root_included() -> None:
    state, problem = arms_through_the_body(), OnlyCollisions()
    model = problem.linearise(state)
    assert model.total > 1
    for seed in range(3):
        own, shared = noise(state, 1e-6, seed=seed)
        slope = (problem.linearise(state.moved(own, shared)).total - problem.linearise(state.moved(-own, -shared)).total) / 2
        assert slope == pytest.approx(float((model.g * own).sum() + model.g_shared @ shared), rel=1e-5)


def test_carrying_the_whole_body_about_changes_nothing() -> None:
    state = arms_through_the_body()
    own = torch.zeros(FRAMES, 75, dtype=torch.float64)
    own[:, :6] = torch.tensor([0.4, -0.8, 0.3, 1.0, -0.5, 0.7])
    moved = state.moved(own, torch.zeros(state.num_shared, dtype=torch.float64))
    depths = [depths_inside(BODY.collisions, pose_state(BODY, s), s.betas) for s in (state, moved)]
    torch.testing.assert_close(*depths)


def test_arms_leave_the_body() -> None:
    state = arms_through_the_body()
    before = depths_inside(BODY.collisions, pose_state(BODY, state), state.betas).amax()
    state, _ = minimise(OnlyCollisions(), state, steps=20)
    after = depths_inside(BODY.collisions, pose_state(BODY, state), state.betas).amax()
    assert before > 0.05 and after < 0.005


def test_arms_held_out_are_not_touched() -> None:
    state = fitting_scene.make_scene(FRAMES).truth
    assert depths_inside(BODY.collisions, pose_state(BODY, state), state.betas).max() == 0


def test_a_level_is_one_on_the_faces_and_its_slopes_are_autograds() -> None:
    radii = torch.tensor([0.2, 0.15, 0.1], dtype=torch.float64)
    n, _ = level(torch.diag(radii), radii)
    torch.testing.assert_close(n, torch.ones(3, dtype=torch.float64))
    u = torch.tensor([[0.05, -0.1, 0.08], [0.3, 0.02, -0.01]], dtype=torch.float64, requires_grad=True)
    size = radii.clone().requires_grad_()
    n, by_u = level(u, size)
    of_u, of_radii = torch.autograd.grad(n.sum(), (u, size))
    torch.testing.assert_close(by_u, of_u)
    torch.testing.assert_close(-(by_u * u / size).sum(0), of_radii)


def test_winding_tells_inside_from_outside_and_depth_is_measured_to_the_face() -> None:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
    points = np.array([[0.5, 0.5, 0.9], [0.5, 0.5, 1.1]])
    assert winding_numbers(points, corners[faces]) == pytest.approx([1, 0], abs=1e-6)
    assert below_surface(points[:1], corners[faces]) == pytest.approx([0.1])
