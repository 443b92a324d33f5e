"""Claims about joint transforms, and about corrections of a motion: beside an avatar in training, and after it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model.avatar import Avatar
from model.body.track import BodyTrack
from model.pose import BodyPose, posed_joints, rest_to_posed, root_relative, track_pose
from model.pose_refinement import PoseCorrection, PoseRates, RowAdam, knot_weights
from model.refitting import keep_what_helps, refine_poses
from model.training import TrainingOptions
from model.training_frames import TrainingFrames
from model.uv.atlas import UvAtlas


def shaken(track: BodyTrack, size: float) -> BodyTrack:
    noise = torch.randn(track.body_pose.shape, generator=torch.Generator().manual_seed(3))
    return dataclasses.replace(track, body_pose=track.body_pose + size * noise)


def test_joint_transforms_are_the_body_models_own() -> None:
    from model.body.body_model import load_body_model

    body = load_body_model()
    generator = torch.Generator().manual_seed(0)
    pose = BodyPose(*(torch.randn(s, generator=generator, dtype=body.dtype) for s in ((2, 3), (2, body.num_joints - 1, 3), (2, 3))))
    joints = body.rest(torch.zeros(body.num_betas, dtype=body.dtype))[1]
    ours = rest_to_posed(joints, body.parents, pose)
    theirs = body.joint_transforms(joints, pose.global_orient, pose.body_pose, pose.transl)
    assert torch.allclose(ours, theirs, atol=2e-6 if body.dtype == torch.float32 else 1e-7)


def test_the_rest_pose_moves_nothing(atlas: UvAtlas) -> None:
    rest = root_relative(BodyPose(torch.ones(3), torch.zeros(2, 3), torch.ones(3)))
    transforms = rest_to_posed(atlas.joints_rest, atlas.parents, rest)
    assert torch.allclose(transforms, torch.eye(4).expand(3, 4, 4), atol=1e-6)
    assert torch.allclose(posed_joints(atlas.joints_rest, transforms), atlas.joints_rest, atol=1e-6)


def test_no_correction_leaves_the_track(track: BodyTrack, atlas: UvAtlas) -> None:
    corrected = PoseCorrection(track).corrected()
    for row in range(track.num_frames):
        ours, theirs = (rest_to_posed(atlas.joints_rest, atlas.parents, track_pose(t, row)) for t in (corrected, track))
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_frames_between_get_the_correction_of_their_neighbours(track: BodyTrack) -> None:
    correction = PoseCorrection(track)
    with torch.no_grad():
        correction.joints[2], correction.joints[6] = 0.1, 0.5
    correction.spread(torch.tensor([2, 6]))
    assert torch.allclose(correction.joints[:, 0, 0], torch.tensor([0.1, 0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5]), atol=1e-6)


def test_rows_between_two_knots_move_by_their_distance_and_nothing_is_lost() -> None:
    weights = knot_weights(torch.arange(9) / 10, 0.4)
    assert weights.shape == (9, 3)
    assert torch.allclose(weights.sum(1), torch.ones(9))
    assert weights[5].tolist() == pytest.approx([0.0, 0.75, 0.25])
    assert torch.allclose(knot_weights(torch.arange(9) / 10, 10**5)[:, 0], torch.ones(9), atol=1e-4)


def test_knots_follow_the_clock_whatever_the_rate_and_across_a_gap(track: BodyTrack) -> None:
    """A gap of the clip parts what lies before it from what comes after."""
    times = torch.tensor([0.0, 0.1, 0.2, 0.3, 2.0, 2.1, 2.2, 2.3])
    correction = PoseCorrection(dataclasses.replace(track, times=times))
    adam = RowAdam(correction, PoseRates(1e-2, 1e-2, 1e-2, 1e-2, [0.5]))
    (correction.joints[1].sum() + correction.root[1].sum() + correction.shift[1].sum()).backward()
    adam.step(torch.tensor([1]), 1.0)
    assert (correction.joints.flatten(1) < 0).all(1).tolist() == [True] * 4 + [False] * 4
    dense, sparse = (knot_weights(torch.arange(count) / fps, 0.24) for count, fps in ((50, 25.0), (20, 10.0)))
    assert torch.allclose(dense[::5, :9], sparse[::2, :9], atol=1e-5)


@pytest.mark.parametrize(("spans", "rows"), [([], [1]), ([0.0], [1]), ([0.3], [0, 1, 2, 3, 4, 5]), ([1000.0], list(range(8)))])
def test_a_step_moves_its_own_row_and_those_that_share_a_knot(track: BodyTrack, spans: list[float], rows: list[int]) -> None:
    correction = PoseCorrection(dataclasses.replace(track, fps=10.0))
    adam = RowAdam(correction, PoseRates(1e-2, 1e-2, 1e-2, 1e-2, spans))
    (correction.joints[1].sum() + correction.root[1].sum() + correction.shift[1].sum()).backward()
    adam.step(torch.tensor([1]), 1.0)
    for values in (correction.joints, correction.root, correction.shift):
        assert (values.flatten(1) < 0).all(1).nonzero().flatten().tolist() == rows
        others = sorted(set(range(track.num_frames)) - set(rows))
        assert (values[others] == 0).all()


def test_knots_undo_a_slow_error_in_few_visits(track: BodyTrack) -> None:
    wanted = 0.2 * torch.sin(torch.arange(track.num_frames) / track.num_frames * 3.0)
    left = []
    for spans in ([], [0.4, 40.0]):
        correction = PoseCorrection(dataclasses.replace(track, fps=10.0))
        adam = RowAdam(correction, PoseRates(4e-3, 4e-3, 4e-3, 4e-3, spans))
        for step in range(10 * track.num_frames):
            row = torch.tensor([(5 * step) % track.num_frames])
            off = correction.joints[row] - wanted[row, None, None]
            (off.square().sum() + 0 * correction.root.sum() + 0 * correction.shift.sum()).backward()
            adam.step(row, 1.0)
        left.append(float((correction.joints[:, 0, 0] - wanted).abs().mean().detach()))
    assert left[1] < 0.3 * left[0]


def test_a_trusted_fit_holds_its_joints_more_firmly(track: BodyTrack, options: TrainingOptions) -> None:
    pulls = []
    for trust in (0.1, 1.0):
        correction = PoseCorrection(dataclasses.replace(track, confidence=torch.full_like(track.confidence, trust)))
        with torch.no_grad():
            correction.joints.fill_(0.2)
        weights = dataclasses.replace(options.losses, pose_smooth=0.0)
        pulls.append(float(correction.penalty(torch.tensor([3]), torch.arange(track.num_frames), weights).detach()))
    assert pulls[1] == pytest.approx(10 * pulls[0])


def test_a_joint_is_held_less_firmly_where_the_place_below_it_is_in_doubt(track: BodyTrack, atlas: UvAtlas, options: TrainingOptions) -> None:
    spread = torch.full((track.num_frames, 3), 0.02)
    spread[3, 2] = 0.3  # m, the end of the chain in one frame: what the rotations above it do is doubtful there
    correction = PoseCorrection(dataclasses.replace(track, joint_spread=spread), atlas.parents)
    assert float(correction.hold.mean()) == pytest.approx(1)
    with torch.no_grad():
        correction.joints.fill_(0.2)
    weights = dataclasses.replace(options.losses, pose_smooth=0.0)
    correction.penalty(torch.tensor([3, 4]), torch.arange(track.num_frames), weights).backward()
    doubtful, sure = correction.joints.grad[3, 0, 0], correction.joints.grad[4, 0, 0]
    assert 0 < doubtful < 0.1 * sure


def test_refining_a_disturbed_motion_brings_it_nearer_to_the_truth(trained: Avatar, clip, atlas: UvAtlas) -> None:
    rough = shaken(clip.track, 0.1)
    better = refine_poses(trained, rough, clip.frames, steps=25, backend="cpu")

    def error(track: BodyTrack) -> float:
        joints = [posed_joints(atlas.joints_rest, rest_to_posed(atlas.joints_rest, atlas.parents, track_pose(t))) for t in (track, clip.track)]
        return float((joints[0] - joints[1]).norm(dim=-1).mean())

    assert error(better) < 0.6 * error(rough)


def test_rows_without_a_picture_stay_as_they_are(trained: Avatar, clip) -> None:
    some = TrainingFrames(clip.frames.rows[2:4], clip.frames.images[2:4], clip.frames.masks[2:4])
    rough = shaken(clip.track, 0.1)
    better = refine_poses(trained, rough, some, steps=3, backend="cpu")
    assert torch.equal(better.body_pose[5:], rough.body_pose[5:]) and not torch.equal(better.body_pose[2:4], rough.body_pose[2:4])


def test_a_correction_that_does_harm_is_taken_back_and_the_others_stay(trained: Avatar, clip) -> None:
    bent = clip.track.body_pose.clone()
    bent[5, :, 2] += 0.2
    correction = PoseCorrection(dataclasses.replace(clip.track, body_pose=bent))
    with torch.no_grad():
        correction.joints[3] = 0.5
        correction.joints[5, :, 2] = -0.2
    kept = keep_what_helps(trained, correction, clip.frames, backend="cpu")
    assert (kept[3], kept[5]) == (0.0, 1.0)
    assert correction.joints[3].abs().max() == 0 and torch.allclose(correction.pose(5).body_pose, clip.track.body_pose[5], atol=1e-6)


def test_a_correction_that_goes_too_far_is_kept_by_half(trained: Avatar, clip) -> None:
    moved = clip.track.transl + torch.tensor([0.03, 0.0, 0.0])
    correction = PoseCorrection(dataclasses.replace(clip.track, transl=moved))
    with torch.no_grad():
        correction.shift[:, 0] = -0.07
    assert (keep_what_helps(trained, correction, clip.frames, backend="cpu") == 0.5).all()
