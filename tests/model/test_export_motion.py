"""Claims about skeletons and motions in files, each read back by a reader that is not ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.export.bvh import euler_zxy, write_bvh
from model.export.joint_motion import JointMotion, joint_motion, without_jumps
from model.motion.motion import Motion
from model.motion.skeleton import SMPL_JOINT_NAMES, SMPL_PARENTS, skeleton_without_surface

bvhio = pytest.importorskip("bvhio")

FRAMES = 7
TENTH_MM = 1e-4


@pytest.fixture(scope="module")
def motion() -> Motion:
    """A figure of random bones in random large turns, away from the origin."""
    generator = torch.Generator().manual_seed(1)
    joints = 0.3 * torch.randn(24, 3, generator=generator)
    skeleton = skeleton_without_surface(joints, torch.tensor(SMPL_PARENTS))
    orient, pose = 2 * torch.randn(FRAMES, 3, generator=generator), torch.randn(FRAMES, 23, 3, generator=generator)
    return Motion("random", orient, pose, torch.randn(FRAMES, 3, generator=generator), 12.5, False, skeleton)


def test_a_bvh_reader_puts_every_joint_where_it_is(motion: Motion, tmp_path: Path) -> None:
    path = tmp_path / "a.bvh"
    path.write_bytes(write_bvh(SMPL_JOINT_NAMES, list(SMPL_PARENTS), motion.skeleton.joints_rest.numpy(), joint_motion(motion)))
    root = bvhio.readAsHierarchy(str(path))
    assert {joint.Name for joint, _, _ in root.layout()} >= set(SMPL_JOINT_NAMES)
    for frame, places in enumerate(motion.joints.double().numpy()):
        root.loadPose(frame)
        for name, place in zip(SMPL_JOINT_NAMES, places, strict=True):
            read = np.array(root.filter(name, isEqual=True)[0].PositionWorld) / 100  # centimetres
            assert np.abs(read - place).max() < TENTH_MM, f"{name} in frame {frame}"


def test_a_bvh_reader_finds_the_frames_and_their_rate(motion: Motion, tmp_path: Path) -> None:
    path = tmp_path / "a.bvh"
    path.write_bytes(write_bvh(SMPL_JOINT_NAMES, list(SMPL_PARENTS), motion.skeleton.joints_rest.numpy(), joint_motion(motion)))
    read = bvhio.readAsBvh(str(path))
    assert read.FrameCount == FRAMES and abs(read.FrameTime - 1 / 12.5) < 1e-6


def test_bvh_angles_never_jump_by_a_turn() -> None:
    angle = np.linspace(0, 4 * np.pi, 60)
    spinning = np.stack([0 * angle, np.sin(angle / 2), 0 * angle, np.cos(angle / 2)], axis=1)[:, None]
    steps = np.abs(np.diff(euler_zxy(spinning)[:, 0], axis=0))
    about_y = np.diff(np.unwrap(np.deg2rad(euler_zxy(spinning)[:, 0]), axis=0), axis=0)
    assert steps.max() < 200 and np.abs(about_y).max() < 3.5


def test_quaternions_take_the_short_way_from_frame_to_frame() -> None:
    angle = np.linspace(0, 6 * np.pi, 80)
    turns = np.stack([np.sin(angle / 2), 0 * angle, 0 * angle, np.cos(angle / 2)], axis=1)[:, None]
    flipped = turns * np.where(np.arange(80) % 3 == 0, -1, 1)[:, None, None]
    mended = without_jumps(flipped)
    assert ((mended[1:] * mended[:-1]).sum(-1) > 0.9).all()
    assert np.allclose(np.abs(mended), np.abs(turns))


def test_the_root_is_where_the_motion_has_it(motion: Motion) -> None:
    exported = joint_motion(motion)
    assert np.abs(exported.root_places - motion.joints[:, 0].numpy()).max() < TENTH_MM
    assert isinstance(exported, JointMotion) and exported.fps == 12.5 and exported.num_frames == FRAMES
