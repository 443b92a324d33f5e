"""Claims about what standing tells: where the mass lies, that it is borne by the feet, and that who stands still has straight legs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.fitting import standing
from model.fitting.fit import pose_state
from model.fitting.kinematics import BlendedPoints, place
from model.fitting.observations import FitState
from model.fitting.rotations import rotation_from_vector
from model.fitting.solver import NormalEquations
from tests.model.fitting_scene import Scene, make_scene

FRAMES = 4
KNEE = 3  # row of the left knee in a body pose


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(FRAMES)


@pytest.fixture(scope="module")
def upright(scene: Scene) -> FitState:
    """Straight on its feet, facing the camera."""
    return replace(scene.truth, body_pose=torch.zeros_like(scene.truth.body_pose), root=scene.truth.root[:1].expand(FRAMES, 3, 3).clone())


def placed(scene: Scene, state: FitState, points: BlendedPoints) -> torch.Tensor:

    return place(points, pose_state(scene.body, state), state.betas)


def gradient_of(state: FitState, add) -> NormalEquations:
    model = NormalEquations.zero(FRAMES, 6 + state.body_pose[0].numel(), 0, torch.float64)
    add(model)
    return model


def test_the_skins_mass_is_whole_and_lies_before_the_bones(scene: Scene) -> None:
    body = scene.body
    mass = standing.skin_mass(body.surface, body.faces, body.skeleton.parents.tolist())
    assert float(mass.sum()) == pytest.approx(1)
    assert (mass >= 0).all()
    centre = (mass[:, None] * body.surface.vertices).sum(0)
    pelvis, chest = body.skeleton.joints[0], body.skeleton.joints[9]
    assert pelvis[1] < centre[1] < chest[1]  # de Leva 1996: 55 to 58 % of the height, a little above the hips
    assert abs(float(centre[0])) < 0.005  # m; a body is nearly symmetric
    assert centre[2] > torch.stack([pelvis, chest])[:, 2].max()


def test_feet_bear_a_third_of_the_way_to_the_toes(scene: Scene, upright: FitState) -> None:
    joints = placed(scene, upright, scene.body.joints)
    support = placed(scene, upright, scene.body.support)
    torch.testing.assert_close(support[:, 1], joints[:, 7] + standing.SUPPORT * (joints[:, 10] - joints[:, 7]))


def test_a_body_that_leans_is_drawn_back_over_its_feet_until_it_is_far_out_of_balance(scene: Scene, upright: FitState) -> None:
    body, spread = scene.body, torch.full((FRAMES,), 0.03, dtype=torch.float64)

    def cost(lean: float) -> float:
        leaning = replace(upright, root=rotation_from_vector(torch.tensor([lean, 0.0, 0.0], dtype=torch.float64)) @ upright.root)

        posed = pose_state(body, leaning)
        return float(gradient_of(leaning, lambda m: standing.add_balance(m, leaning, body.skeleton, body.support, posed, spread=spread, only_motion=True)).total)

    costs = [cost(lean) for lean in (-0.3, -0.15, -0.05, 0.0, 0.05, 0.15, 0.3)]
    assert min(costs) in costs[2:5] and costs[0] > costs[1] > costs[2] and costs[6] > costs[5] > costs[4]
    assert costs[6] - costs[5] < costs[5] - costs[4]  # ever less force


def test_who_stands_still_is_held_closer_than_who_moves() -> None:
    spread = standing.balance_spread(0.03, 0.012, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert spread.tolist() == pytest.approx([0.03, 0.015757, 0.012], abs=1e-6)


def test_knees_are_straightened_where_the_person_stands_and_a_crouch_is_left_alone(upright: FitState) -> None:
    pose = upright.body_pose.clone()
    pose[:, KNEE, 0] = torch.tensor([0.25, 0.25, 1.5, standing.STANDING_KNEE], dtype=torch.float64)
    state = replace(upright, body_pose=pose)
    stands = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    slope = gradient_of(state, lambda m: standing.add_straight_legs(m, state, stands, spread=0.08)).g[:, 6 + 3 * KNEE]
    assert slope[0] > 1 and slope[1] == 0 and 0 <= slope[2] < 0.05 * slope[0] and slope[3] == 0


def test_a_person_stands_who_rests_on_both_feet_before_or_after_a_frame() -> None:
    stillness = torch.tensor([[1.0, 1.0], [1.0, 0.2], [0.9, 0.8]], dtype=torch.float64)
    assert standing.stands_still(stillness).tolist() == pytest.approx([1.0, 1.0, 0.8, 0.8])
    assert standing.stands_still(torch.zeros(0, 2, dtype=torch.float64)).tolist() == [0.0]
