"""Claims about losses and training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from model.avatar import Avatar, pose_distance
from model.avatar_file import with_pose_encoder, with_pose_shapes
from model.body.track import BodyTrack
from model.checkpoint import load_checkpoint, save_checkpoint
from model.losses import composite, roughness, roughness_reference
from model.metrics import psnr
from model.pose import BodyPose, posed_joints, rest_to_posed, track_pose
from model.pose_refinement import PoseCorrection
from model.pose_shapes import PoseShapeOptions, choose_keys, joints_around
from model.refitting import keep_what_helps, picture_errors
from model.training import NotFinite, Training, TrainingOptions, run_training, settle_statistics
from model.unseen import fill_unseen, point_visibility
from model.uv.atlas import UvAtlas
from model.uv.position_maps import bake_position_maps
from tests.conftest import ENCODER, with_shapes


def start(avatar: Avatar, clip, options: TrainingOptions, *, seed: int = 0) -> Training:
    return Training(avatar, PoseCorrection(clip.track), clip.frames, options, lpips=None, backend="cpu", seed=seed)


def finish(training: Training) -> bool:
    return run_training(training, on_step=lambda _: None, stop_asked=lambda: False)


def heldin_psnr(avatar: Avatar, clip) -> float:
    values = []
    for k, row in enumerate(clip.frames.rows.tolist()):
        image, mask = clip.frames.picture(k)
        with torch.no_grad():
            seen = avatar.render(track_pose(clip.track, row), clip.track.camera, torch.ones(3), backend="cpu").image
        values.append(psnr(seen, composite(image, mask, torch.ones(3))))
    return float(np.mean(values))


# ---------------------------------------------------------------------------------------------------------- training


def test_an_avatar_learns_its_clip(avatar: Avatar, clip, options: TrainingOptions) -> None:
    settle_statistics(avatar)
    before = heldin_psnr(avatar, clip)
    training = start(avatar, clip, dataclasses.replace(options, steps=60))
    assert finish(training)
    settle_statistics(avatar)
    assert heldin_psnr(avatar, clip) > max(before + 5, 20)
    assert [entry["step"] for entry in training.history] == [10, 20, 30, 40, 50, 60]


def test_training_is_the_same_every_time(atlas: UvAtlas, avatar: Avatar, clip, options: TrainingOptions) -> None:
    import copy

    twin = copy.deepcopy(avatar)
    for each in (avatar, twin):
        finish(start(each, clip, dataclasses.replace(options, steps=6)))
    assert all(torch.equal(a, b) for a, b in zip(avatar.state_dict().values(), twin.state_dict().values(), strict=True))


def test_going_on_from_a_checkpoint_equals_never_having_stopped(avatar: Avatar, clip, options: TrainingOptions, tmp_path: Path) -> None:
    import copy

    twin, fresh = copy.deepcopy(avatar), copy.deepcopy(avatar)
    options = dataclasses.replace(options, steps=12)
    whole = start(avatar, clip, options)
    finish(whole)
    first = start(twin, clip, options)
    assert not run_training(first, on_step=lambda _: None, stop_asked=lambda: first.step_number == 5)
    save_checkpoint(tmp_path, first.checkpoint("key"))
    second = start(fresh, clip, options, seed=99)
    second.resume(load_checkpoint(tmp_path))
    finish(second)
    for name, value in whole._tensors().items():
        assert torch.equal(value, second._tensors()[name]), name
    assert [e["loss"] for e in whole.history] == [e["loss"] for e in second.history]


def test_training_ends_when_its_minutes_are_over(avatar: Avatar, clip, options: TrainingOptions) -> None:
    training = start(avatar, clip, dataclasses.replace(options, steps=10**6, max_minutes=1e-3))
    assert finish(training) and training.step_number < 1000


def test_a_step_that_is_not_finite_is_taken_back(avatar: Avatar, clip, options: TrainingOptions) -> None:
    training = start(avatar, clip, options)
    sound = {name: t.clone() for name, t in training._tensors().items()}
    with torch.no_grad():
        avatar.texel_colors[0] = float("nan")
    training.step()
    assert training.step_number == 0 and training.rollbacks == 1
    assert torch.equal(avatar.texel_colors, sound["avatar.texel_colors"])


def test_a_fault_that_stays_ends_the_training(avatar: Avatar, clip, options: TrainingOptions) -> None:
    training = start(avatar, clip, options)
    training.snapshot["avatar.texel_colors"] = torch.full_like(avatar.texel_colors, float("nan"))
    training._load_tensors(training.snapshot)
    with pytest.raises(NotFinite, match="learning rates"):
        finish(training)


def test_milestones_count_thirds_of_the_steps(avatar: Avatar, clip, options: TrainingOptions) -> None:
    training = start(avatar, clip, dataclasses.replace(options, schedule="milestones", steps=30))
    factors = []
    for training.step_number in (0, 9, 10, 19, 20, 29):
        factors.append(round(training.rate_factor(), 6))
    assert factors == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_the_surface_is_smooth_where_all_offsets_agree(atlas: UvAtlas) -> None:
    assert float(roughness(torch.full((atlas.num_points, 3), 0.3), atlas.neighbours)) < 1e-10
    assert float(roughness(torch.randn(atlas.num_points, 3), atlas.neighbours)) > 0.5


def test_the_compiled_roughness_equals_plain_torch_with_its_gradients(atlas: UvAtlas) -> None:
    values = torch.randn(atlas.num_points, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for rough in (roughness, roughness_reference):
        leaf = values.clone().requires_grad_()
        loss = 7 * rough(leaf, atlas.neighbours)
        loss.backward()
        found.append((loss.detach(), leaf.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)  # sums in another order


def test_a_look_that_stays_is_decoded_once(avatar: Avatar, clip, options: TrainingOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = dataclasses.replace(options.rates, networks=0, features=0, texel_colors=0, light=0, pose_encoder=1e-2, poses=None)
    decoded, count = Avatar.decode, []
    monkeypatch.setattr(Avatar, "decode", lambda self, features: count.append(1) or decoded(self, features))
    avatar.known_poses = clip.track.body_pose[clip.frames.rows].clone()
    training = start(with_pose_shapes(avatar, PoseShapeOptions(keys=3, reach=0.1, fade=0.01)), clip, dataclasses.replace(options, steps=4, rates=rates))
    assert finish(training) and len(count) == 1
    assert training.avatar.pose_shapes.shapes.detach().any()


# ------------------------------------------------------------------------------------------------- training with its motion


@pytest.mark.parametrize("seed", range(3))
def test_joint_training_from_a_disturbed_start_leaves_no_frame_with_a_worse_picture(
    atlas: UvAtlas, avatar: Avatar, clip, options: TrainingOptions, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    noise = [torch.randn(values.shape, generator=generator) for values in (clip.track.body_pose, clip.track.transl)]
    rough = dataclasses.replace(clip.track, body_pose=clip.track.body_pose + 0.087 * noise[0], transl=clip.track.transl + 0.03 * noise[1])
    correction = PoseCorrection(rough)
    assert options.rates.poses is not None
    alone = dataclasses.replace(options.rates, poses=dataclasses.replace(options.rates.poses, spans=[0.0]))  # as the noise is
    options = dataclasses.replace(options, rates=alone, steps=60)
    finish(Training(avatar, correction, clip.frames, options, lpips=None, backend="cpu", seed=seed))
    settle_statistics(avatar)
    keep_what_helps(avatar, correction, clip.frames, backend="cpu")
    look, better = avatar.attributes(), correction.corrected()
    for k in range(rough.num_frames):
        with torch.no_grad():
            before, after = (picture_errors(avatar, look, track_pose(t, k), t, clip.frames, k, backend="cpu") for t in (rough, better))
        assert after[0] <= before[0] + 1e-6 and after[1] <= before[1] + 1e-6

    def error(track: BodyTrack) -> float:
        """Of the joints, across the picture: along depth one camera hardly sees."""
        joints = [posed_joints(atlas.joints_rest, rest_to_posed(atlas.joints_rest, atlas.parents, track_pose(t))) for t in (track, clip.track)]
        return float((joints[0] - joints[1])[..., :2].norm(dim=-1).mean())

    assert error(better) < 0.9 * error(rough)  # some turns of a striped tube leave its picture as it is


def test_windows_of_one_size_lie_in_the_picture_and_hold_the_person(clip) -> None:
    frames, (height, width) = clip.frames, clip.frames.masks.shape[1:]
    for k, (x, y, w, h) in enumerate(frames.equal_windows()):
        own_x, own_y, own_w, own_h = frames.window(k)
        assert 0 <= x <= own_x and own_x + own_w <= x + w <= width and 0 <= y <= own_y and own_y + own_h <= y + h <= height
    assert len({window[2:] for window in frames.equal_windows()}) == 1 < len({frames.window(k)[2:] for k in range(len(frames.rows))})


def test_frames_with_other_pictures_show_them(clip) -> None:
    clip.frames.picture(0)
    white = dataclasses.replace(clip.frames, images=np.full_like(clip.frames.images, 255))
    assert float(white.picture(0)[0].min()) == 1


def test_a_frame_that_is_not_trusted_teaches_nothing(avatar: Avatar, clip, options: TrainingOptions) -> None:
    import copy

    trust = torch.ones_like(clip.track.confidence)
    trust[3] = 0.0
    doubted, looks = dataclasses.replace(clip.track, confidence=trust), []
    still = dataclasses.replace(options, steps=8, rates=dataclasses.replace(options.rates, poses=None))
    for shade in (0, 255):
        images = clip.frames.images.copy()
        images[3] = shade
        each = copy.deepcopy(avatar)
        finish(Training(each, PoseCorrection(doubted), dataclasses.replace(clip.frames, images=images), still, lpips=None, backend="cpu", seed=0))
        looks.append(each.attributes().albedo)
    assert torch.equal(*looks)


# -------------------------------------------------------------------------------------------------------- unseen parts


def test_what_no_frame_shows_is_found_and_filled(trained: Avatar, clip) -> None:
    import copy

    avatar = copy.deepcopy(trained)
    front = clip.frames.rows[:1]
    weight = point_visibility(avatar, clip.track, front, clip.track.camera, backend="cpu")
    facing = avatar.atlas_normals_rest[:, 2] < -0.5  # row 0 does not turn; the camera looks along +z
    behind = avatar.atlas_normals_rest[:, 2] > 0.5
    assert weight[facing].mean() > 0.1 and weight[behind].max() == 0
    before = avatar.attributes().albedo
    assert torch.equal(fill_unseen(avatar, (weight > 0).float()), weight > 0)
    after = avatar.attributes().albedo
    assert torch.equal(after[weight > 0], before[weight > 0]) and not torch.equal(after[behind], before[behind])


# ------------------------------------------------------------------------------------------------------------ stage 2


def test_stage_2_starts_with_the_picture_of_stage_1(trained: Avatar, clip) -> None:
    dynamic = with_pose_encoder(trained, ENCODER).eval()
    for row in (0, 3):
        with torch.no_grad():
            first, second = (a.attributes(track_pose(clip.track, row)) for a in (trained, dynamic))
        assert all(torch.equal(x, y) for x, y in zip(vars(first).values(), vars(second).values(), strict=True))


def test_stage_2_trains_the_encoder_alone_when_told_so(trained: Avatar, clip, options: TrainingOptions) -> None:
    rates = dataclasses.replace(options.rates, networks=0.0, features=0.0, texel_colors=0.0, light=0.0, pose_encoder=2e-3, poses=None)
    dynamic = with_pose_encoder(trained, ENCODER)
    dynamic.known_poses = clip.track.body_pose.clone()
    maps = bake_position_maps(trained.atlas, track_pose(clip.track))
    frames = dataclasses.replace(clip.frames, position_maps=maps)
    training = Training(
        dynamic, PoseCorrection(clip.track), frames, dataclasses.replace(options, steps=20, rates=rates), lpips=None, backend="cpu", seed=0
    )
    finish(training)
    dynamic.eval()
    for name, value in trained.state_dict().items():
        assert name == "known_poses" or torch.equal(value, dynamic.state_dict()[name]), name
    far = BodyPose(torch.zeros(3), torch.full((2, 3), 1.2), torch.tensor([0.0, 0.0, 3.0]))
    near = track_pose(clip.track, 2)
    with torch.no_grad():
        assert not torch.equal(dynamic.attributes(near).albedo, trained.attributes(near).albedo)
        assert torch.equal(dynamic.attributes(far).albedo, trained.attributes(far).albedo)
    assert heldin_psnr(dynamic, clip) >= heldin_psnr(trained, clip) - 0.1


def test_pose_shapes_start_with_the_picture_of_stage_1(trained: Avatar, clip) -> None:
    pose = track_pose(clip.track, 3)
    first, second = trained.attributes(pose), with_shapes(trained, clip).attributes(pose)
    assert all(torch.equal(x, y) for x, y in zip(vars(first).values(), vars(second).values(), strict=True))


def test_keys_are_far_from_each_other_and_more_than_there_are_poses_is_all(clip) -> None:
    poses = torch.cat([torch.zeros(5, 2, 3), torch.full((1, 2, 3), 0.8)])
    chosen = choose_keys(poses, 2).tolist()
    assert len(chosen) == 2 and 5 in chosen
    assert choose_keys(poses, 9).tolist() == list(range(6))


def test_a_pose_takes_its_own_shape_near_a_key_and_none_far_from_all(trained: Avatar, clip) -> None:
    shapes = with_shapes(trained, clip).pose_shapes
    at_key = shapes.weights(shapes.keys[1])
    assert (at_key.sum(0) <= 1).all() and (at_key.sum(0) > 0.98).all()
    assert shapes.weights(torch.full((2, 3), 1.2)).max() < 1e-3


def test_a_part_of_the_body_heeds_the_joints_around_it_alone(trained: Avatar, clip) -> None:
    shapes = with_shapes(trained, clip).pose_shapes
    around = joints_around(trained.atlas)
    assert torch.allclose(around.sum(0), torch.ones(around.shape[1]))
    turned = shapes.keys[0].clone()
    turned[1, 0] += 0.5  # the last joint of the tube
    change = (shapes.weights(turned) - shapes.weights(shapes.keys[0])).abs().sum(0)
    assert change[around[1] > 0.5].mean() > 3 * change[around[1] < 0.35].mean()


def test_stage_2_learns_what_stage_1_cannot_and_forgets_it_far_away(trained: Avatar, clip, options: TrainingOptions) -> None:
    darker = clip.frames.images.copy()
    darker[2:5] = (0.6 * darker[2:5]).astype(np.uint8)  # a shade that comes with the pose
    shaded = dataclasses.replace(clip, frames=dataclasses.replace(clip.frames, images=darker))
    dynamic = with_shapes(trained, clip)
    rates = dataclasses.replace(options.rates, networks=0.0, features=0.0, texel_colors=0.0, light=0.0, pose_encoder=2e-2, poses=None)
    finish(start(dynamic, shaded, dataclasses.replace(options, steps=60, rates=rates)))
    dynamic.eval()
    for name, value in trained.state_dict().items():
        assert name == "known_poses" or torch.equal(value, dynamic.state_dict()[name]), name
    assert heldin_psnr(dynamic, shaded) > heldin_psnr(trained, shaded) + 1.0
    far = BodyPose(torch.zeros(3), torch.full((2, 3), 1.2), torch.tensor([0.0, 0.0, 3.0]))
    assert torch.allclose(dynamic.attributes(far).albedo, trained.attributes(far).albedo, atol=1e-3)


def test_pose_features_fade_with_the_distance_to_known_poses(trained: Avatar, clip) -> None:
    dynamic = with_pose_encoder(trained, ENCODER)
    dynamic.known_poses = torch.zeros(1, 2, 3)
    levels = []
    for angle in (0.0, 0.2, 0.6, 1.0):
        pose = BodyPose(torch.zeros(3), torch.tensor([[angle, 0.0, 0.0], [angle, 0.0, 0.0]]), torch.zeros(3))
        assert float(pose_distance(pose.body_pose, dynamic.known_poses)) == pytest.approx(angle, abs=1e-3)
        levels.append(float(dynamic.familiarity(pose)))
    assert levels == pytest.approx([1.0, 1.0, 0.5, 0.0], abs=5e-3)
