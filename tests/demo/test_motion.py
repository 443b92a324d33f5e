"""What the person does, checked on the bones and on the soles."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from demo.motion import Motion, clip_motion, second_motion
from demo.skeleton import ANKLE, ELBOW, HIP, KNEE, SHOULDER, WRIST, Skeleton, joint_transforms, reach_with_leg
from demo.subject import SHOES, Subject, hem_swing
from model.body.body_model import load_body_model


def headings(motion: Motion) -> np.ndarray:
    ahead = Rotation.from_rotvec(motion.global_orient).as_matrix()[:, :, 2]
    return np.rad2deg(np.unwrap(np.arctan2(ahead[:, 0], ahead[:, 2])))


def pose_distances(one: Motion, other: Motion) -> np.ndarray:
    """Mean angle of the limbs' joints between each row of `one` and the nearest row of `other`, degrees."""
    limbs = [j - 1 for j in (*HIP, *KNEE, 3, 6, 9, *SHOULDER, *ELBOW)]
    a, b = (Rotation.from_rotvec(m.body_pose[:, limbs].reshape(-1, 3)).as_matrix().reshape(-1, len(limbs), 3, 3) for m in (one, other))
    traces = np.einsum("fjab,gjab->fgj", a, b)
    return np.rad2deg(np.arccos(np.clip((traces - 1) / 2, -1, 1))).mean(axis=2).min(axis=1)


def shoes(subject: Subject, motion: Motion, row: int) -> tuple[np.ndarray, np.ndarray]:
    vertices = subject.pose(motion, row, np.zeros((len(motion.transl), 3)))[subject.part == SHOES]
    return vertices[: len(vertices) // 2], vertices[len(vertices) // 2 :]


def test_forward_kinematics_agree_with_the_body_model() -> None:
    model = load_body_model("open")
    betas = torch.linspace(-1, 1, model.num_betas, dtype=model.dtype)
    rng = np.random.default_rng(0)
    orient, pose, transl = rng.normal(size=(2, 3)), 0.4 * rng.normal(size=(2, 23, 3)), rng.normal(size=(2, 3))
    skeleton = Skeleton(model.rest(betas)[1].numpy().astype(float), model.parents.numpy(), 0.0)
    expected = model.pose(betas, *(torch.tensor(a, dtype=model.dtype) for a in (orient, pose, transl))).joints
    np.testing.assert_allclose(joint_transforms(skeleton, orient, pose, transl)[1], expected.numpy(), atol=2e-5)  # float32


def test_the_clip_turns_once_around(clip: Motion) -> None:
    heading = headings(clip)
    assert np.ptp(heading) >= 358
    assert abs(heading[:5].mean()) < 8 and abs(heading[-5:].mean() - 360) < 8
    assert np.diff(heading[10:105]).min() > -0.5  # never back


def test_the_crouch_is_deep_and_the_feet_stay_flat(clip: Motion, subject: Subject) -> None:
    lowest = int(clip.joints[:, 0, 1].argmin())
    assert np.rad2deg(clip.knee_flexion[lowest]).min() > 90
    thigh = clip.joints[lowest, KNEE[0]] - clip.joints[lowest, HIP[0]]
    assert np.rad2deg(np.arcsin(-thigh[1] / np.linalg.norm(thigh))) < 35  # the thighs come near the horizontal
    for shoe in shoes(subject, clip, lowest):
        assert (shoe[:, 1] < 0.012).sum() > 50  # the whole sole


def test_arms_reach_forward_back_across_and_up(clip: Motion) -> None:
    ahead = Rotation.from_rotvec(clip.global_orient).as_matrix()[:, :, 2]
    for side, sign in ((0, 1), (1, -1)):
        arm = clip.joints[:, WRIST[side]] - clip.joints[:, SHOULDER[side]]
        forward = (arm * ahead).sum(axis=1)
        assert forward.max() > 0.45 and forward.min() < -0.20
        assert (arm[:, 1]).max() > 0.25
        assert (sign * (clip.joints[110:, WRIST[side], 0] - clip.joints[110:, 9, 0])).min() < 0.0  # past the middle


def test_planted_feet_neither_slide_nor_sink(subject: Subject, clip: Motion, second: Motion) -> None:
    for motion in (clip, second):
        for row in range(1, len(motion.transl), 5):
            before = shoes(subject, motion, row - 1)
            for side, foot in enumerate(shoes(subject, motion, row)):
                assert foot[:, 1].min() > -0.01
                if motion.planted[row, side]:
                    assert abs(foot[:, 1].min()) < 0.005
                    if motion.planted[row - 1, side]:
                        sole = foot[:, 1] < 0.012
                        assert np.linalg.norm((foot - before[side])[sole], axis=1).max() < 0.002


def test_one_foot_always_stands(clip: Motion, second: Motion) -> None:
    assert clip.planted.any(axis=1).all() and second.planted.any(axis=1).all()


def test_the_second_motion_is_not_in_the_clip(clip: Motion, second: Motion) -> None:
    distance = pose_distances(second, clip)
    assert np.median(distance) > 12 and (distance > 8).mean() > 0.85
    assert pose_distances(clip, clip).max() < 1e-3  # the measure itself finds what is there


def test_motion_is_smooth(clip: Motion, second: Motion) -> None:
    for motion, fps in ((clip, 25), (second, 25)):
        acceleration = np.diff(motion.joints, n=2, axis=0) * fps**2
        assert np.linalg.norm(acceleration, axis=2).max() < 60  # m/s^2; a sprinter's foot reaches some 100


def test_a_seed_repeats_its_motion_and_another_differs(subject: Subject) -> None:
    one, same, other = (clip_motion(subject.skeleton, 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.body_pose, same.body_pose)
    assert np.abs(one.body_pose - other.body_pose).max() > 1e-3


def test_length_and_rate_do_not_change_what_is_done(subject: Subject) -> None:
    coarse, fine = second_motion(subject.skeleton, 100, 0), second_motion(subject.skeleton, 300, 0)
    assert np.abs(coarse.joints - fine.joints[1::3]).max() < 0.02  # the pelvis is lowered on the frames' own grid


def test_a_leg_reaches_its_foothold(subject: Subject) -> None:
    at = subject.skeleton.joints
    pelvis, target = at[:1] + [0, -0.2, 0.05], at[ANKLE[0]][None] + [0.05, 0.02, 0.1]
    turn = Rotation.from_euler("yx", [20, 10], degrees=True).as_matrix()[None]
    leg = reach_with_leg(subject.skeleton, 0, pelvis, turn, target, np.eye(3)[None], np.array([[0, 0.2, 1.0]]))
    pose = np.zeros((1, 24, 3))
    for joint, local in ((0, turn), (HIP[0], leg.hip), (KNEE[0], leg.knee), (ANKLE[0], leg.ankle)):
        pose[:, joint] = Rotation.from_matrix(local).as_rotvec()
    joints = joint_transforms(subject.skeleton, pose[:, 0], pose[:, 1:], pelvis - at[:1])[1]
    np.testing.assert_allclose(joints[0, ANKLE[0]], target[0], atol=1e-9)


def test_the_hem_lags_behind_a_turn_and_comes_to_rest(clip: Motion) -> None:
    swing = hem_swing(clip, 25)
    assert np.linalg.norm(swing, axis=1).max() > 0.005
    still = Motion(*(np.repeat(getattr(clip, k)[:1], 40, axis=0) for k in ("global_orient", "body_pose", "transl", "joints", "planted", "knee_flexion")))
    assert np.abs(hem_swing(still, 25)).max() < 1e-9
