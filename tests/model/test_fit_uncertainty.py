"""Claims about how surely joints are known."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.fitting.objective import BodyFitProblem
from model.fitting.solver import NormalEquations
from model.fitting.uncertainty import covariances, joint_covariance, joint_spread

_spec = importlib.util.spec_from_file_location("fitting_scene", Path(__file__).with_name("fitting_scene.py"))
fitting_scene = sys.modules.setdefault("fitting_scene", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(fitting_scene)
SPREADS = fitting_scene.SPREADS


@pytest.fixture(scope="module")
def scene() -> fitting_scene.Scene:
    return fitting_scene.make_scene(8)


def dense(model: NormalEquations) -> torch.Tensor:
    """The whole matrix of a model."""
    (F, D), Q = model.g.shape, model.g_shared.numel()
    whole = torch.zeros(F * D + Q, F * D + Q, dtype=torch.float64)
    whole[F * D :, F * D :] = model.H_shared
    for f in range(F):
        rows = slice(f * D, f * D + D)
        whole[rows, rows] = model.H[f]
        whole[rows, F * D :], whole[F * D :, rows] = model.H_mixed[f], model.H_mixed[f].T
        for gap, coupling in ((1, model.next_block[f] + model.next_one[f].diag()), (2, model.next_two[f].diag())):
            if f + gap < F:
                after = slice((f + gap) * D, (f + gap + 1) * D)
                whole[after, rows], whole[rows, after] = coupling, coupling.T
    return whole


@pytest.mark.parametrize("num_frames", [1, 2, 5, 6])
def test_covariances_are_those_of_the_inverted_dense_matrix(num_frames: int) -> None:
    generator = torch.Generator().manual_seed(num_frames)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    D, Q = 4, 3
    model = NormalEquations.zero(num_frames, D, Q, torch.float64)
    ones = torch.ones(num_frames, 12, dtype=torch.float64)
    model.add(0 * ones, draw(num_frames, 12, D), ones, ones[:, 0], draw(num_frames, 12, Q))
    model.next_one[:-1], model.next_two[:-2] = 0.2 * draw(num_frames - 1, D), 0.2 * draw(max(num_frames - 2, 0), D)
    model.next_block[:-1] = 0.2 * draw(num_frames - 1, D, D)
    whole = dense(model)
    band, inverse = torch.linalg.inv(whole[:-Q, :-Q]), torch.linalg.inv(whole)
    own, coupling, shared = covariances(model)
    close = dict(atol=1e-6, rtol=1e-6)  # a share of 1e-9 of the diagonal is added for safety
    for f in range(num_frames):
        torch.testing.assert_close(own[f], band[f * D : f * D + D, f * D : f * D + D], **close)
    torch.testing.assert_close(coupling.flatten(0, 1), band @ whole[:-Q, -Q:], **close)
    torch.testing.assert_close(shared, inverse[-Q:, -Q:], **close)


def test_a_joints_covariance_is_its_jacobian_on_both_sides_of_the_inverse(scene: fitting_scene.Scene) -> None:
    few = replace(scene.seen, **{name: getattr(scene.seen, name)[:3] for name in ("points", "confidence", "directions", "times")})
    state = scene.truth.frames(slice(0, 3))
    model = BodyFitProblem(scene.body, few, SPREADS).linearise(state)
    (F, D), Q = model.g.shape, model.g_shared.numel()

    def places(step: torch.Tensor) -> torch.Tensor:
        moved = state.moved(step[: F * D].reshape(F, D), step[F * D :])
        joints = fitting_scene.pose_state(scene.body, moved).joints
        return joints[1, 20] - joints[1, 0]

    by_all = torch.autograd.functional.jacobian(places, torch.zeros(F * D + Q, dtype=torch.float64))
    expected = by_all @ torch.linalg.inv(dense(model)) @ by_all.T
    found = joint_covariance(scene.body, few, None, SPREADS, state)[1, 20]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


def test_depth_is_known_less_than_what_the_camera_sees(scene: fitting_scene.Scene) -> None:
    covariance = joint_covariance(scene.body, scene.seen, None, SPREADS, scene.truth)
    variance = covariance.diagonal(dim1=-2, dim2=-1)[:, [20, 21, 7, 8]].mean((0, 1))
    assert variance[2] > 1.5 * variance[0] and variance[2] > 1.5 * variance[1]


def test_a_hidden_arm_is_known_to_be_unknown(scene: fitting_scene.Scene) -> None:
    confidence = scene.seen.confidence.clone()
    confidence[:, [13, 15, 17, 19, 21]] = 0  # elbow, wrist and hand of the left arm
    hidden = replace(scene.seen, confidence=confidence)
    seen, unseen = (joint_spread(scene.body, what, None, SPREADS, scene.truth).mean(0) for what in (scene.seen, hidden))
    assert unseen[20] > 1.5 * seen[20] and unseen[21] < 1.1 * seen[21]
    assert (unseen[1:] > 0).all() and unseen[0] < unseen[1:].min()
