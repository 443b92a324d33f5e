"""Motions on other bodies, on the floor, and in front of cameras."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.motion.camera_paths import PATHS, camera_path, read_camera_path
from model.motion.clearance import Girth, clear_arms, depth_inside, girth_of_surface
from model.motion.ground import feet_that_bear, keep_feet, level_floor, speed_of, stand_on_floor
from model.motion.library import LIBRARY, library_motion
from model.motion.motion import Motion, MotionError, carried
from model.motion.placement import camera_axes, placement_of_track
from model.motion.retarget import retarget
from model.motion.skeleton import ANKLE, ELBOW, HIP, KNEE, SHOULDER, Skeleton, skeleton_with_surface, skeleton_without_surface
from model.motion.smpl_arrays import scaled, usual_skeleton
from model.pose import BodyPose


@pytest.fixture(scope="module")
def plain() -> Skeleton:
    return usual_skeleton()


@pytest.fixture(scope="module")
def other(plain: Skeleton) -> Skeleton:
    """Longer thighs, narrower hips, flatter feet, wider shoulders."""
    joints = plain.joints_rest.clone()
    joints[[4, 5, 7, 8, 10, 11], 1] -= 0.06
    joints[[1, 2, 4, 5, 7, 8, 10, 11], 0] *= 0.85
    joints[[16, 17, 18, 19, 20, 21, 22, 23], 0] *= 1.1
    joints[[10, 11], 1] += 0.01
    return skeleton_without_surface(joints, plain.parents)


@pytest.fixture(scope="module", params=list(LIBRARY))
def motion(request: pytest.FixtureRequest, plain: Skeleton) -> Motion:
    return library_motion(request.param, plain, 30.0)


def heights(motion: Motion) -> torch.Tensor:
    return motion.sole_points[..., 1].amin(dim=(1, 2))


# ------------------------------------------------------------------------------------------------------ retargeting


def test_on_its_own_body_a_motion_is_itself(motion: Motion, plain: Skeleton) -> None:
    same = retarget(motion, plain)
    assert (same.joints - motion.joints).abs().max() < 1e-5 and same.loops == motion.loops


def test_on_a_body_twice_as_large_everything_is_twice_as_far(motion: Motion, plain: Skeleton) -> None:
    large = retarget(motion, scaled(plain, 2.0))
    assert (large.joints - 2 * motion.joints).abs().max() < 1e-4


def test_feet_stay_on_the_floor_of_another_body(motion: Motion, other: Skeleton) -> None:
    assert heights(retarget(motion, other)).abs().max() < 2e-3  # where a leg is a little too short it ends above


def test_feet_that_stand_do_not_slide_on_another_body(motion: Motion, other: Skeleton) -> None:
    moved = retarget(motion, other)
    ankles, wanted = moved.joints[:, list(ANKLE)], motion.joints[:, list(ANKLE)] * (other.leg_length / motion.skeleton.leg_length)
    assert (ankles - wanted)[..., [0, 2]].norm(dim=-1).max() < 2e-3


def test_bones_keep_the_other_bodys_lengths(motion: Motion, other: Skeleton) -> None:
    joints, rest, parents = retarget(motion, other).joints, other.joints_rest, other.parents[1:]
    lengths = (joints[:, 1:] - joints[:, parents]).norm(dim=-1)
    assert torch.allclose(lengths, (rest[1:] - rest[parents]).norm(dim=-1).expand_as(lengths), atol=1e-5)


def test_there_and_back_is_nearly_the_same(motion: Motion, plain: Skeleton, other: Skeleton) -> None:
    back = retarget(retarget(motion, other), plain)
    assert (back.joints - motion.joints).norm(dim=-1).mean() < 0.012
    assert (back.joints - motion.joints)[:, list(ANKLE)].norm(dim=-1).max() < 0.01


def test_a_retargeted_loop_closes(motion: Motion, other: Skeleton) -> None:
    joints = retarget(motion, other).joints
    moved = (torch.roll(joints, -1, 0) - joints).norm(dim=-1).amax(dim=1)
    assert moved[-1] <= 1.1 * moved[:-1].max() + 1e-3


def test_a_body_with_hands_gets_the_shared_joints_and_rests_the_others(plain: Skeleton) -> None:
    joints = torch.cat([plain.joints_rest, plain.joints_rest[[20] * 31]])
    hands = Skeleton(joints, torch.cat([plain.parents, torch.full((31,), 20)]), plain.soles)
    motion = library_motion("wave", plain, 5.0)
    moved = retarget(motion, hands)
    assert moved.body_pose.shape == (motion.num_frames, 54, 3)
    assert torch.equal(moved.body_pose[:, 8:21], motion.body_pose[:, 8:21]) and not moved.body_pose[:, 21:].any()


# ------------------------------------------------------------------------------------------------------------ floor


def disturbed(motion: Motion, *, drift: float, float_height: float, seed: int = 0) -> Motion:
    """The same motion as a film would tell it: the root wanders slowly and bobs."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(motion.num_frames) / motion.fps
    wander = torch.zeros(motion.num_frames, 3)
    for axis, size in ((0, drift), (2, drift), (1, float_height)):
        for rate in (0.3, 0.8, 1.3):
            wander[:, axis] += size * torch.randn((), generator=generator) * torch.sin(2 * math.pi * rate * t + 6 * torch.rand((), generator=generator))
    moved = BodyPose(motion.global_orient, motion.body_pose, motion.transl + wander)
    return dataclasses.replace(motion.with_pose(moved), loops=False)


def sliding(motion: Motion, bears: np.ndarray) -> float:
    """Mean level speed of the balls of the feet where they bear, m/s."""
    return float(speed_of(motion.sole_points.double().numpy()[:, :, 1], motion)[bears].mean())


@pytest.mark.parametrize("name", ["walk", "squat", "dance"])
def test_sliding_and_floating_feet_are_mended(name: str, plain: Skeleton) -> None:
    clean = library_motion(name, plain, 30.0)
    rough = disturbed(clean, drift=0.02, float_height=0.012)
    mended = keep_feet(rough)
    bears = feet_that_bear(clean)
    assert sliding(mended, bears) < 0.45 * sliding(rough, bears)
    assert heights(mended).min() > -2e-3
    assert heights(mended).abs().mean() < 0.5 * heights(rough).abs().mean()
    assert (mended.joints - rough.joints).norm(dim=-1).mean() < 0.06


def test_feet_that_stand_already_are_left_alone(plain: Skeleton) -> None:
    for name in ("wave", "squat"):
        motion = library_motion(name, plain, 30.0)
        assert (keep_feet(motion).joints - motion.joints).abs().max() < 1e-4


def test_holding_feet_keeps_bones_and_loops(plain: Skeleton) -> None:
    motion = library_motion("walk", plain, 30.0)
    kept = keep_feet(motion)
    assert kept.loops
    thigh = (kept.joints[:, KNEE[0]] - kept.joints[:, HIP[0]]).norm(dim=-1)
    assert torch.allclose(thigh, thigh[:1].expand_as(thigh), atol=1e-5)
    moved = (torch.roll(kept.joints, -1, 0) - kept.joints).norm(dim=-1).amax(dim=1)
    assert moved[-1] <= 1.2 * moved[:-1].max() + 1e-3


def test_a_level_floor_is_a_shift_of_the_whole(plain: Skeleton) -> None:
    motion = library_motion("dance", plain, 15.0)
    lifted = motion.with_pose(BodyPose(motion.global_orient, motion.body_pose, motion.transl + torch.tensor([0.0, 0.3, 0.0])))
    assert (level_floor(lifted).joints - motion.joints).abs().max() < 1e-4


def test_a_jump_stays_a_jump_on_a_level_floor_and_not_where_one_foot_always_stands(plain: Skeleton) -> None:
    motion = library_motion("wave", plain, 30.0)
    hop = 0.3 * torch.exp(-(((torch.arange(motion.num_frames) - 75) / 6) ** 2))
    jump = motion.with_pose(BodyPose(motion.global_orient, motion.body_pose, motion.transl + hop[:, None] * torch.tensor([0.0, 1.0, 0.0])))
    assert heights(level_floor(jump)).max() == pytest.approx(0.3, abs=0.01)
    assert heights(keep_feet(jump)).max() == pytest.approx(0.3, abs=0.03)
    assert heights(stand_on_floor(jump, follow=0.02)).abs().max() < 0.05


# ------------------------------------------------------------------------------------------------------------- arms


@pytest.fixture(scope="module")
def girth(plain: Skeleton) -> Girth:
    """The open body's, made fuller around the belly."""
    body = load_body_model("open")
    vertices, _ = body.rest(torch.zeros(body.num_betas))
    belly = (vertices[:, 1] > -0.25) & (vertices[:, 1] < 0.15) & (vertices[:, 0].abs() < 0.25)
    fuller = torch.where(belly[:, None], vertices * torch.tensor([1.25, 1.0, 1.4]), vertices)
    return girth_of_surface(plain, fuller, body.lbs_weights.argmax(dim=1))


def crossing(plain: Skeleton) -> Motion:
    """Both arms swing into belly and thighs and out again."""
    motion = library_motion("wave", plain, 30.0)
    pose = motion.body_pose.clone()
    swing = torch.sin(2 * math.pi * torch.arange(motion.num_frames) / motion.num_frames).clamp_min(0)
    for side, sign in ((0, 1.0), (1, -1.0)):
        pose[:, SHOULDER[side] - 1] = (1.25 + 0.5 * swing[:, None]) * torch.tensor([0.0, 0.0, -sign])
        pose[:, ELBOW[side] - 1] = 0.0
    return motion.with_pose(BodyPose(motion.global_orient, pose, motion.transl))


def deepest(motion: Motion, girth: Girth) -> float:
    return max(float(depth_inside(motion.skeleton, motion.pose, girth, side)[1].norm(dim=-1).max()) for side in (0, 1))


def test_arms_inside_a_fuller_body_are_brought_out(plain: Skeleton, girth: Girth) -> None:
    rough = crossing(plain)
    mended = clear_arms(rough, girth)
    assert deepest(rough, girth) > 0.05
    assert deepest(mended, girth) < 0.3 * deepest(rough, girth)
    others = [j for j in range(23) if j + 1 not in SHOULDER]
    assert torch.equal(mended.body_pose[:, others], rough.body_pose[:, others])


def test_arms_are_brought_out_without_a_jump(plain: Skeleton, girth: Girth) -> None:
    rough = crossing(plain)
    mended = clear_arms(rough, girth)
    step = lambda m: float((torch.roll(m.joints, -1, 0) - m.joints).norm(dim=-1).max())  # noqa: E731
    assert step(mended) < 2 * step(rough)


def test_arms_that_are_clear_are_left_alone(motion: Motion, plain: Skeleton) -> None:
    body = load_body_model("open")
    vertices, _ = body.rest(torch.zeros(body.num_betas))
    own = girth_of_surface(plain, vertices, body.lbs_weights.argmax(dim=1))
    assert torch.equal(clear_arms(motion, own).body_pose, motion.body_pose)


# -------------------------------------------------------------------------------------------------------- placement


def test_a_track_in_camera_axes_gets_its_floor_and_its_front_back(plain: Skeleton) -> None:
    motion = library_motion("wave", plain, 10.0)
    turn, shift = torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor([0.4, 0.9, 3.0])
    pose = carried(motion.pose, plain, turn, shift)
    frames = motion.num_frames
    track = BodyTrack(
        torch.zeros(10), pose.global_orient, pose.body_pose, pose.transl, torch.eye(3), torch.eye(4), 64, 64, torch.arange(frames),
        torch.ones(frames), 10.0, "open",
    )  # fmt: skip
    placement = placement_of_track(track, plain)
    assert placement.up[1] < -0.99
    assert float((placement.shift - shift) @ placement.up) == pytest.approx(0.0, abs=0.01)  # the floor
    towards_camera = -placement.shift / placement.shift.norm()
    assert float(placement.turn[:, 2] @ towards_camera) > 0.9
    assert torch.linalg.det(placement.turn) == pytest.approx(1.0, abs=1e-5)


def test_a_camera_and_points_carried_together_make_the_same_picture(plain: Skeleton) -> None:
    motion = library_motion("wave", plain, 5.0)
    camera = camera_path("orbit", motion, aspect=1.0).camera(3, 100, 100)
    placement = dataclasses.replace(camera_axes(), shift=torch.tensor([1.0, -2.0, 3.0]))
    points = motion.joints[3]
    moved = points @ placement.turn.T + placement.shift
    there = dataclasses.replace(camera, w2c=placement.carry_camera(camera.w2c))
    assert torch.allclose(there.project(moved), camera.project(points), atol=1e-2)
    assert torch.allclose(plain.joints(placement.carry(motion))[3], moved, atol=1e-5)


def test_an_avatar_surface_makes_the_soles(plain: Skeleton) -> None:
    body = load_body_model("open")
    vertices, joints = body.rest(torch.zeros(body.num_betas))
    thick = vertices + torch.tensor([0.0, -0.02, 0.0])
    shod = skeleton_with_surface(joints, body.parents, thick, body.lbs_weights.argmax(dim=1))
    assert shod.floor_rest == pytest.approx(plain.floor_rest - 0.02, abs=1e-3)


# ---------------------------------------------------------------------------------------------------------- cameras


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("size", [(64, 64), (160, 60), (60, 160)])
def test_the_whole_motion_is_in_every_picture(name: str, size: tuple[int, int], plain: Skeleton) -> None:
    motion = library_motion("dance", plain, 8.0)
    path = camera_path(name, motion, aspect=size[0] / size[1])
    for row in range(0, motion.num_frames, 5):
        camera = path.camera(row, *size)
        pixels = camera.project(motion.joints[row])
        assert (pixels > 0).all() and (pixels < torch.tensor(size)).all()
        assert torch.linalg.det(camera.w2c[:3, :3]) == pytest.approx(1.0, abs=1e-5)


def test_the_front_camera_sees_the_left_hand_on_its_right(plain: Skeleton) -> None:
    motion = library_motion("wave", plain, 5.0)
    pixels = camera_path("front", motion, aspect=1.0).camera(0, 100, 100).project(motion.joints[0])
    assert pixels[20, 0] > pixels[21, 0] and pixels[15, 1] < pixels[0, 1]


def test_a_turntable_closes(plain: Skeleton) -> None:
    motion = library_motion("squat", plain, 10.0)
    azimuth = camera_path("turntable", motion, aspect=1.0, turns=2.0).azimuth
    steps = np.diff(np.append(azimuth, 720.0))
    assert np.allclose(steps, steps[0])


def test_a_following_camera_is_nearer_to_a_walk(plain: Skeleton) -> None:
    motion = library_motion("walk", plain, 10.0)
    still, following = (camera_path("front", motion, aspect=1.0, follow=follow) for follow in (False, True))
    assert following.distance[0] < 0.7 * still.distance[0]
    assert np.ptp(following.target[:, 0]) > 1.5


def test_a_camera_file_is_followed_from_key_to_key(tmp_path: Path, plain: Skeleton) -> None:
    motion = library_motion("wave", plain, 10.0)
    (tmp_path / "c.json").write_text(json.dumps([{"time": 0, "azimuth": 0, "distance": 3}, {"time": 4, "azimuth": 90, "target": [0, 1, 0]}]))
    path = read_camera_path(tmp_path / "c.json", motion, aspect=1.0)
    assert path.azimuth[0] == pytest.approx(0) and path.azimuth[40] == pytest.approx(90) and path.azimuth[-1] == pytest.approx(90)
    assert (np.diff(path.azimuth) >= -1e-9).all() and np.allclose(path.distance, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a list of keys"),
        ("[]", "expected a list of keys"),
        ('[{"azimuth": 1}]', "expected a list of keys"),
        ('[{"time": 0, "zoom": 1}]', "expected a list of keys"),
        ('[{"time": 0, "azimuth": "left"}]', "expected numbers"),
        ('[{"time": 0, "distance": -1}]', "distance above 0"),
        ('[{"time": 0, "target": [1, 2]}]', r"target as \[x, y, z\]"),
        ('[{"time": 1}, {"time": 1}]', "times that rise"),
    ],
)
def test_a_camera_file_that_is_none_is_refused(tmp_path: Path, plain: Skeleton, text: str, message: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(MotionError, match=message):
        read_camera_path(tmp_path / "c.json", library_motion("wave", plain, 5.0), aspect=1.0)


def test_an_unknown_camera_path_lists_the_known_ones(plain: Skeleton) -> None:
    with pytest.raises(MotionError, match="turntable, orbit"):
        camera_path("spiral", library_motion("wave", plain, 5.0), aspect=1.0)
