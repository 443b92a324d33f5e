"""Motions made by formula, and what is done with any motion in time: laws of loops, floors, bones and rotations."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.fitting.rotations import rotation_from_vector
from model.motion.leg_ik import reach_with_legs
from model.motion.library import LIBRARY, REFERENCE_LEG, STEP_SECONDS, WALK_STEP, library_motion
from model.motion.motion import Motion, MotionError, at_rate, carried, check_motion, evened, part_of, slerp, smoothed
from model.motion.placement import motion_of_track, placement_of_track
from model.motion.skeleton import ANKLE, HIP, KNEE, SHOULDER, SMPL_JOINT_NAMES, SMPL_PARENTS, WRIST, Skeleton, skeleton_with_surface, skeleton_without_surface
from model.pose import BodyPose

NAMES = list(LIBRARY)


def body_skeleton(**betas: float) -> Skeleton:
    """The open body's skeleton, its surface included, in some shape."""
    body = load_body_model("open")
    shape = torch.tensor([betas.get(name, 0.0) for name in body.beta_names])
    vertices, joints = body.rest(shape)
    return skeleton_with_surface(joints, body.parents, vertices, body.lbs_weights.argmax(dim=1))


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return body_skeleton()


@pytest.fixture(scope="module")
def tall() -> Skeleton:
    """Another person: longer shins, wider hips."""
    plain = body_skeleton()
    joints = plain.joints_rest.clone()
    joints[[1, 2, 4, 5, 7, 8, 10, 11], 0] *= 1.2
    joints[[7, 8, 10, 11], 1] -= 0.07
    return skeleton_without_surface(joints, plain.parents)


@pytest.fixture(scope="module", params=NAMES)
def motion(request: pytest.FixtureRequest, skeleton: Skeleton) -> Motion:
    return check_motion(library_motion(request.param, skeleton, 30.0))


def test_the_joint_names_are_those_of_the_open_body() -> None:
    body = load_body_model("open")
    assert tuple(body.joint_names) == SMPL_JOINT_NAMES and tuple(body.parents.tolist()) == SMPL_PARENTS


def test_feet_stand_on_the_floor_and_never_below_it(motion: Motion) -> None:
    lowest = motion.sole_points[..., 1].amin(dim=(1, 2))
    assert lowest.abs().max() < 1e-4  # float32 of a metre


def test_a_loop_closes_without_a_jump(motion: Motion) -> None:
    joints = motion.joints
    moved = (torch.roll(joints, -1, 0) - joints).norm(dim=-1).amax(dim=1)
    turned = (torch.roll(moved, -1) - moved).abs()
    assert moved[-1] <= 1.05 * moved[:-1].max() + 1e-4
    assert turned[-1] <= 1.05 * turned[:-1].max() + 1e-4


def test_a_motion_is_smooth(motion: Motion) -> None:
    joints = motion.joints
    acceleration = (torch.roll(joints, -1, 0) - 2 * joints + torch.roll(joints, 1, 0)).norm(dim=-1) * motion.fps**2
    assert acceleration.max() < 90.0  # m/s^2; a waving hand has 60, a jump of 10 cm within a frame 90


def test_a_foot_that_bears_does_not_slide(motion: Motion) -> None:
    floor = -WALK_STEP / STEP_SECONDS * motion.skeleton.leg_length / REFERENCE_LEG if motion.name == "stroll" else 0.0  # m/s along z
    points = motion.sole_points
    after = torch.roll(points, -1, 0)
    flat = points[..., 1] < 0.002
    bears = flat[:, :, 0] & flat[:, :, 1] & torch.roll(flat, -1, 0)[:, :, 0] & torch.roll(flat, -1, 0)[:, :, 1]
    level = ((after - points) * motion.fps - torch.tensor([0.0, 0.0, floor]))[..., [0, 2]].norm(dim=-1)[:, :, 1]
    assert bears.any()
    assert level[bears].max() < 0.02  # m/s


def test_bones_keep_their_lengths(motion: Motion, skeleton: Skeleton) -> None:
    parents = skeleton.parents[1:]
    lengths = (motion.joints[:, 1:] - motion.joints[:, parents]).norm(dim=-1)
    wanted = (skeleton.joints_rest[1:] - skeleton.joints_rest[parents]).norm(dim=-1)
    assert torch.allclose(lengths, wanted.expand_as(lengths), atol=1e-5)


def test_knees_bend_forwards_only(motion: Motion) -> None:
    for side in (0, 1):
        assert motion.body_pose[:, KNEE[side] - 1, 0].min() > -0.12  # the rest pose's own knees are bent by about 0.1


def test_ankles_stay_within_their_range(motion: Motion) -> None:
    for side in (0, 1):
        bend = motion.body_pose[:, ANKLE[side] - 1].norm(dim=-1)
        assert bend.max() < math.radians(65)


def test_arms_swing_against_the_legs(skeleton: Skeleton) -> None:
    joints = library_motion("stroll", skeleton).joints
    root = joints[:, 0, 2]
    for side in (0, 1):
        hand, foot = joints[:, WRIST[side], 2] - root, joints[:, ANKLE[side], 2] - root
        assert torch.corrcoef(torch.stack([hand, foot]))[0, 1] < -0.6


def test_longer_legs_take_longer_steps_and_stand_on_the_same_floor(skeleton: Skeleton, tall: Skeleton) -> None:
    short, long = (library_motion("walk", s) for s in (skeleton, tall))
    ratio = tall.leg_length / skeleton.leg_length
    assert ratio > 1.05
    reach = [float((m.transl[:, [0, 2]].amax(0) - m.transl[:, [0, 2]].amin(0)).max()) for m in (short, long)]
    assert reach[1] / reach[0] == pytest.approx(ratio, rel=0.02)
    assert long.sole_points[..., 1].amin(dim=(1, 2)).abs().max() < 1e-4


def test_any_frame_rate_shows_the_same_motion(skeleton: Skeleton) -> None:
    fine, coarse = library_motion("dance", skeleton, 60.0), library_motion("dance", skeleton, 30.0)
    assert fine.num_frames == 2 * coarse.num_frames
    assert (fine.joints[::2] - coarse.joints).norm(dim=-1).max() < 1e-3


def test_an_unknown_name_lists_the_known_ones(skeleton: Skeleton) -> None:
    with pytest.raises(MotionError, match=r"walk, .*came 'fly'"):
        library_motion("fly", skeleton)


# ----------------------------------------------------------------------------------------------------------- time


def test_a_motion_at_its_own_rate_is_itself(motion: Motion) -> None:
    assert at_rate(motion, motion.fps) is motion


def test_twice_the_rate_keeps_every_frame(motion: Motion) -> None:
    twice = at_rate(motion, 2 * motion.fps)
    assert twice.num_frames == 2 * motion.num_frames and twice.seconds == pytest.approx(motion.seconds)
    assert torch.equal(twice.transl[::2], motion.transl)
    assert (twice.joints[::2] - motion.joints).norm(dim=-1).max() < 1e-5


def test_between_frames_a_loop_passes_its_seam(skeleton: Skeleton) -> None:
    motion = library_motion("turn", skeleton)
    last = at_rate(motion, 2 * motion.fps).joints[-1]
    ends = motion.joints[[-1, 0]]
    assert (last - ends.mean(0)).norm(dim=-1).max() < 0.01


def test_without_a_loop_the_last_frame_is_held() -> None:
    motion = _line(3, fps=2.0)
    assert torch.allclose(at_rate(motion, 4.0).transl[:, 0], torch.tensor([0, 0.5, 1, 1.5, 2]))
    assert at_rate(motion, 2.0, speed=2.0).transl[:, 0].tolist() == [0.0, 2.0]


def test_slerp_has_its_ends_and_a_constant_speed() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(50, 3), torch.randn(50, 3)
    turn = lambda v: rotation_from_vector(v.double())  # noqa: E731
    angle = lambda p, q: torch.acos((((turn(p).mT @ turn(q)).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1))  # noqa: E731
    share = torch.full((50, 1), 0.3)
    assert (turn(slerp(a, b, share * 0)) - turn(a)).abs().max() < 1e-6
    assert (turn(slerp(a, b, share / 0.3)) - turn(b)).abs().max() < 1e-6
    assert torch.allclose(angle(a, slerp(a, b, share)), 0.3 * angle(a, b), atol=1e-3)  # acos near 1 in float32 inputs


def test_slerp_of_equal_rotations_is_exact() -> None:
    a = torch.tensor([[3.14, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(slerp(a, a, torch.tensor([[0.4], [0.9]])), a)


def test_a_part_is_the_frames_between() -> None:
    motion = _line(10, fps=10.0)
    assert part_of(motion, 0.2, 0.5).transl[:, 0].tolist() == [2.0, 3.0, 4.0]
    assert part_of(motion) is motion
    with pytest.raises(MotionError, match="nothing lies between"):
        part_of(motion, 3.0)


def test_smoothing_takes_the_corners_of_a_slow_recording_away(skeleton: Skeleton) -> None:
    truth = library_motion("wave", skeleton, 30.0)
    slow = dataclasses.replace(truth.with_pose(truth.pose[slice(0, None, 5)]), fps=6.0)
    cornered = at_rate(slow, 30.0)
    round_ = smoothed(cornered, 0.4 / 6)

    def jerk(motion: Motion) -> float:
        x = motion.joints
        return float((torch.roll(x, -1, 0) - 2 * x + torch.roll(x, 1, 0)).norm(dim=-1).max())

    assert jerk(round_) < 0.5 * jerk(cornered)
    assert (round_.joints - cornered.joints).norm(dim=-1).max() < 0.05


def test_smoothing_leaves_rest_and_turning_at_one_speed_alone(skeleton: Skeleton) -> None:
    still = _line(8, fps=10.0)
    assert torch.allclose(smoothed(still, 0.1).joints[3:5], still.joints[3:5], atol=0.05)
    frames = torch.arange(40)
    turning = torch.stack([torch.zeros(40), 2 * math.pi * frames / 40, torch.zeros(40)], dim=1)  # past half a turn, and closed
    motion = Motion("spin", turning, torch.zeros(40, 23, 3), torch.zeros(40, 3), 10.0, True, skeleton)
    assert (smoothed(motion, 0.1).joints - motion.joints)[5:-5].norm(dim=-1).max() < 0.01


def test_another_world_moves_all_joints_rigidly(skeleton: Skeleton) -> None:
    motion = library_motion("wave", skeleton, 10.0)
    turn, shift = rotation_from_vector(torch.tensor([0.3, -1.0, 2.0])), torch.tensor([1.0, 2.0, 3.0])
    moved = skeleton.joints(carried(motion.pose, skeleton, turn, shift))
    assert (moved - (motion.joints @ turn.T + shift)).abs().max() < 1e-5


# ----------------------------------------------------------------------------------------------------------- legs


def test_legs_that_reach_already_are_left_alone(motion: Motion, skeleton: Skeleton) -> None:
    transforms = skeleton.transforms(motion.pose)
    same = reach_with_legs(skeleton, motion.pose, motion.joints[:, list(ANKLE)], transforms[:, list(ANKLE), :3, :3])
    assert (skeleton.joints(same) - motion.joints).abs().max() < 1e-5


def test_legs_reach_footholds_and_keep_the_feet_turned(skeleton: Skeleton) -> None:
    motion = library_motion("squat", skeleton, 10.0)
    goal = motion.joints[:, list(ANKLE)] + torch.tensor([0.03, 0.05, 0.06])
    turns = skeleton.transforms(motion.pose)[:, list(ANKLE), :3, :3]
    reached = reach_with_legs(skeleton, motion.pose, goal, turns)
    after = motion.with_pose(reached)
    assert (after.joints[:, list(ANKLE)] - goal).norm(dim=-1).max() < 2e-4
    assert (skeleton.transforms(reached)[:, list(ANKLE), :3, :3] - turns).abs().max() < 1e-5


def test_a_foothold_out_of_reach_is_approached_with_a_straight_leg(skeleton: Skeleton) -> None:
    motion = library_motion("wave", skeleton, 5.0)
    far = motion.joints[:, list(ANKLE)] - torch.tensor([0.0, 0.5, 0.0])
    reached = motion.with_pose(reach_with_legs(skeleton, motion.pose, far, torch.eye(3).expand(motion.num_frames, 2, 3, 3)))
    span = (reached.joints[:, ANKLE[0]] - reached.joints[:, HIP[0]]).norm(dim=-1)
    assert (span > 0.995 * skeleton.leg_length).all() and torch.isfinite(reached.body_pose).all()


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 0.0}, "above 0"),
        ({"transl": torch.full((3, 3), math.nan)}, "not finite in 3 of 3"),
        ({"body_pose": torch.zeros(3, 5, 3)}, "expected rotations"),
        ({"transl": torch.zeros(0, 3)}, "no frames"),
    ],
)
def test_what_is_no_motion_is_refused(change: dict, message: str) -> None:
    with pytest.raises(MotionError, match=message):
        check_motion(dataclasses.replace(_line(3, fps=10.0), **change))


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(MotionError, match="above 0"):
        at_rate(_line(3, fps=10.0), -1.0)


@pytest.mark.parametrize(("fps", "speed"), [(1e9, 1.0), (math.inf, 1.0), (30.0, 1e-9)])
def test_a_rate_that_would_fill_the_memory_is_refused(fps: float, speed: float) -> None:
    with pytest.raises(MotionError, match="at most 200000 frames"):
        at_rate(_line(10, fps=10.0), fps, speed=speed)


def test_soles_without_a_surface_are_near_those_with_one(skeleton: Skeleton) -> None:
    plain = skeleton_without_surface(skeleton.joints_rest, skeleton.parents)
    assert plain.floor_rest == pytest.approx(skeleton.floor_rest, abs=0.02)
    for name in ("heel", "ball", "toe"):
        assert (getattr(plain.soles, name) - getattr(skeleton.soles, name)).norm(dim=-1).max() < 0.04


def _line(frames: int, *, fps: float) -> Motion:
    """A figure at rest that moves one metre a frame along x."""
    body = load_body_model("open")
    bones = skeleton_without_surface(body.rest(torch.zeros(body.num_betas))[1], body.parents)
    transl = torch.stack([torch.arange(float(frames)), torch.zeros(frames), torch.zeros(frames)], dim=1)
    pose = BodyPose(torch.zeros(frames, 3), torch.zeros(frames, 23, 3), transl)
    return Motion("line", pose.global_orient, pose.body_pose, pose.transl, fps, False, bones)


def test_shoulders_are_where_the_names_say(skeleton: Skeleton) -> None:
    assert skeleton.joints_rest[SHOULDER[0], 0] > 0 > skeleton.joints_rest[SHOULDER[1], 0]


def test_a_clip_with_a_gap_and_two_rates_plays_in_its_own_time() -> None:
    """0.5 s at 20 frames a second, 1 s without the person, 0.5 s at 10; somebody who goes at 1 m/s."""
    times = torch.cat([torch.arange(0, 0.5, 0.05), torch.arange(1.5, 2.01, 0.1)])
    skeleton = body_skeleton()
    track = BodyTrack(
        torch.zeros(10), torch.tensor([[math.pi, 0, 0]]).expand(len(times), 3), torch.zeros(len(times), 23, 3), torch.stack([times, 0 * times, 3 + 0 * times], 1),
        torch.eye(3), torch.eye(4), 64, 64, torch.arange(len(times)), torch.ones(len(times)), 8.0, "open", times=times,
    )  # fmt: skip
    motion = motion_of_track("clip", track, placement_of_track(track, skeleton), skeleton, fallback_fps=25.0)
    assert motion.fps == pytest.approx(20) and motion.seconds == pytest.approx(2.0, abs=0.03)
    steps = motion.transl.diff(dim=0).norm(dim=1) * motion.fps
    assert steps.min() > 0.99 and steps.max() < 1.01


@pytest.mark.parametrize("frames", ["jittered", "of a film of another rate", "unknown"])
def test_a_clip_whose_frames_lie_nearly_evenly_is_left_alone(frames: str) -> None:
    motion = library_motion("walk", body_skeleton(), 30.0)
    even = torch.arange(motion.num_frames) / 30.0
    jitter = 0.003 * torch.randn(motion.num_frames, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    times = {"jittered": even + jitter, "of a film of another rate": (even * 50).round() / 50, "unknown": None}[frames]
    assert evened(motion, times) is motion
