"""Claims about feet that rest: when they do, and that a motion which lets them slide is pulled back."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model.body.body_model import BodyModel, load_body_model
from model.body.track import BodyTrack
from model.camera import camera_from_focal
from model.losses import LossWeights
from model.planted_feet import SHORTEST, SLOW, PlantedFeet, find_rests
from model.pose import track_pose
from model.pose_refinement import PoseCorrection
from model.training import TrainingOptions

FPS, FRAMES = 12.5, 24
STEP = slice(9, 13)  # frames in which the left leg is lifted


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open", uv_path=None)


@pytest.fixture(scope="module")
def standing(body: BodyModel) -> BodyTrack:
    """Somebody who stands still, and lifts the left leg once."""
    pose = torch.zeros(FRAMES, body.num_joints - 1, 3)
    pose[STEP, 0, 0] = torch.tensor([-0.4, -0.8, -0.8, -0.4])
    camera = camera_from_focal(900.0, 512, 512)
    place = torch.tensor([0.0, 0.0, 3.0]).expand(FRAMES, 3).clone()
    return BodyTrack(
        torch.zeros(body.num_betas), torch.zeros(FRAMES, 3), pose, place, camera.K, camera.w2c, 512, 512, torch.arange(FRAMES), torch.ones(FRAMES), FPS, "open"
    )


def joints_rest(body: BodyModel) -> torch.Tensor:
    return body.rest(torch.zeros(body.num_betas, dtype=body.dtype))[1].float()


def only_feet(options: TrainingOptions) -> LossWeights:
    return dataclasses.replace(options.losses, pose_prior=0.0, pose_smooth=0.0, foot_slide=1.0)


def test_a_foot_rests_before_and_after_a_step_and_the_other_all_the_time(standing: BodyTrack, body: BodyModel):
    planted = PlantedFeet(standing, joints_rest(body), body.parents)
    left, right = planted.rest_of.T.tolist()
    assert planted.num_rests == 3 and set(right) == {2}
    assert left == [0] * STEP.start + [-1] * (STEP.stop - STEP.start) + [1] * (FRAMES - STEP.stop)


@pytest.mark.parametrize(("speed", "seconds", "rests"), [(0.5 * SLOW, 1.0, True), (2 * SLOW, 1.0, False), (0.0, 0.5 * SHORTEST, False)])
def test_what_moves_or_stops_for_a_moment_does_not_rest(speed: float, seconds: float, rests: bool):
    times = torch.linspace(0, seconds, 11)
    points = torch.zeros(11, 4, 3)
    points[..., 0] = speed * times[:, None]
    assert ((find_rests(points, times) >= 0) == rests).all()


def test_one_frame_has_no_rests():
    assert (find_rests(torch.zeros(1, 4, 3), torch.zeros(1)) == -1).all()


def test_a_body_that_drifts_away_is_pulled_back_and_a_foot_in_the_air_is_free(standing: BodyTrack, body: BodyModel, options: TrainingOptions):
    correction = PoseCorrection(standing, body.parents, joints_rest(body))
    rows = torch.arange(FRAMES)
    drift = 0.03 * torch.linspace(0, 1, FRAMES)
    with torch.no_grad():
        correction.shift[:, 2] = drift
    penalty = correction.penalty(rows, rows, only_feet(options))
    penalty.backward()
    pull = correction.shift.grad[:, 2]
    assert float(penalty.detach()) > 0.2 * float(drift.var()) and (pull[:6] < 0).all() and (pull[-6:] > 0).all()
    lifted = PoseCorrection(standing, body.parents, joints_rest(body))
    with torch.no_grad():
        lifted.joints[STEP, 0, 1] = 0.3
    assert float(lifted.penalty(rows, rows, only_feet(options)).detach()) < 1e-9


def test_a_motion_as_fitted_slides_no_further_than_it_did(standing: BodyTrack, body: BodyModel, options: TrainingOptions):
    correction = PoseCorrection(standing, body.parents, joints_rest(body))
    assert float(correction.penalty(torch.arange(4), torch.arange(FRAMES), only_feet(options)).detach()) == pytest.approx(0, abs=1e-9)
    assert correction.planted.points(track_pose(standing)).shape == (FRAMES, 4, 3)


def test_a_body_without_feet_is_not_held(track: BodyTrack, options: TrainingOptions):
    correction = PoseCorrection(track, torch.tensor([-1, 0, 1]), torch.zeros(3, 3))
    assert correction.planted is None
    assert float(correction.penalty(torch.tensor([0]), torch.arange(track.num_frames), only_feet(options)).detach()) == 0
