"""BVH files: every rest pose, channel order and unit moves as the original, and what is no person is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from model.export.bvh import write_bvh
from model.export.joint_motion import joint_motion
from model.motion.bvh_file import parse_bvh
from model.motion.library import library_motion
from model.motion.motion import Motion, MotionError
from model.motion.read import read_motion
from model.motion.skeleton import ANKLE, ELBOW, HIP, KNEE, SHOULDER, SMPL_JOINT_NAMES, SMPL_PARENTS, WRIST
from model.motion.smpl_arrays import usual_skeleton
from model.pose import BodyPose
from tests.model.motion_samples import LIMBS, Z_UP, limbs_from_root

MIXAMO = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2", "LeftToeBase",
    "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm", "LeftForeArm", "RightForeArm", "LeftHand",
    "RightHand", "LeftHandMiddle1", "RightHandMiddle1",
)  # fmt: skip
UNREAL = (
    "pelvis", "thigh_l", "thigh_r", "spine_01", "calf_l", "calf_r", "spine_02", "foot_l", "foot_r", "spine_03", "ball_l", "ball_r",
    "neck_01", "clavicle_l", "clavicle_r", "head", "upperarm_l", "upperarm_r", "lowerarm_l", "lowerarm_r", "hand_l", "hand_r",
    "middle_01_l", "middle_01_r",
)  # fmt: skip
LAFAN = tuple(name.replace("LeftHandMiddle1", "LeftHandEnd").replace("RightHandMiddle1", "RightHandEnd") for name in MIXAMO)
POSER = (
    "hip", "lThigh", "rThigh", "abdomen", "lShin", "rShin", "chest", "lFoot", "rFoot", "upperChest", "lToe", "rToe", "neck", "lCollar",
    "rCollar", "head", "lShldr", "rShldr", "lForeArm", "rForeArm", "lHand", "rHand", "lMid1", "rMid1",
)  # fmt: skip


@pytest.fixture(scope="module")
def walk() -> Motion:
    return library_motion("walk", usual_skeleton(), 30.0)


def bvh_text(motion: Motion, names: tuple[str, ...], *, unit: float, order: str, arms_down: float, z_up: bool = False, prefix: str = "", along_x: bool = False) -> str:
    """A BVH file of a motion, written apart from the reader: arms lowered in its rest pose (or all bones along x), any channel order and unit."""
    joints = motion.skeleton.joints_rest.double().numpy()
    world = Z_UP.as_matrix() if z_up else np.eye(3)
    local = np.concatenate([motion.global_orient[:, None].numpy(), motion.body_pose.numpy()], axis=1).astype(np.float64)
    count, frames = 24, motion.num_frames
    turns = Rotation.from_rotvec(local.reshape(-1, 3)).as_matrix().reshape(frames, count, 3, 3)
    posed = np.empty_like(turns)
    bent = np.tile(np.eye(3), (count, 1, 1))  # the file's rest pose, from SMPL's
    for side, sign in ((0, 1), (1, -1)):
        lowered = Rotation.from_euler("z", -sign * arms_down, degrees=True).as_matrix()
        for joint in (SHOULDER[side], ELBOW[side], WRIST[side], 22 + side):
            bent[joint] = lowered
    if along_x:
        for j, parent in enumerate(SMPL_PARENTS):
            child = next((c for c in range(count - 1, 0, -1) if SMPL_PARENTS[c] == j), None)
            bone = np.array([0, 1.0, 0]) if child is None else joints[child] - joints[j]
            bent[j] = Rotation.align_vectors(np.eye(3)[:1], bone[None])[0].as_matrix()
    for j, parent in enumerate(SMPL_PARENTS):
        posed[:, j] = turns[:, j] if parent < 0 else posed[:, parent] @ turns[:, j]
    in_file = world @ posed @ np.swapaxes(bent, -1, -2) @ world.T
    children = [[c for c, p in enumerate(SMPL_PARENTS) if p == j] for j in range(count)]
    lines, sequence = ["HIERARCHY"], []

    def block(j: int, depth: int) -> None:
        pad, parent = "\t" * depth, SMPL_PARENTS[j]
        offset = np.zeros(3) if parent < 0 else world @ bent[parent] @ (joints[j] - joints[parent]) / unit
        sequence.append(j)
        lines.append(f"{pad}{'ROOT' if parent < 0 else 'JOINT'} {prefix}{names[j]}")
        lines.append(f"{pad}{{\n{pad}\tOFFSET {offset[0]:.6f} {offset[1]:.6f} {offset[2]:.6f}")
        turning = " ".join(f"{axis}rotation" for axis in order)
        lines.append(f"{pad}\tCHANNELS 6 Xposition Yposition Zposition {turning}" if parent < 0 else f"{pad}\tCHANNELS 3 {turning}")
        for child in children[j]:
            block(child, depth + 1)
        if not children[j]:
            end = world @ bent[j] @ (np.array([0, 0.15, 0]) if j == 15 else np.array([0, 0, 0.08]) if j in (10, 11) else np.array([0.08, 0, 0])) / unit
            lines.append(f"{pad}\tEnd Site\n{pad}\t{{\n{pad}\t\tOFFSET {end[0]:.6f} {end[1]:.6f} {end[2]:.6f}\n{pad}\t}}")
        lines.append(f"{pad}}}")

    block(0, 0)
    root = (joints[0] + motion.transl.numpy()) @ world.T / unit
    columns = [root]
    for j in sequence:
        parent = SMPL_PARENTS[j]
        relative = in_file[:, j] if parent < 0 else np.swapaxes(in_file[:, parent], -1, -2) @ in_file[:, j]
        columns.append(Rotation.from_matrix(relative).as_euler(order, degrees=True))
    rows = "\n".join(" ".join(f"{v:.6f}" for v in row) for row in np.concatenate(columns, axis=1))
    return "\n".join([*lines, "MOTION", f"Frames: {frames}", f"Frame Time: {1 / motion.fps:.8f}", rows]) + "\n"


@pytest.mark.parametrize(
    ("names", "unit", "order", "arms_down", "z_up", "prefix"),
    [
        (MIXAMO, 0.01, "ZXY", 0, False, "mixamorig:"),
        (MIXAMO, 0.056444, "ZYX", 45, False, ""),
        (LAFAN, 0.01, "ZYX", 80, False, ""),
        (UNREAL, 0.01, "XYZ", 50, True, ""),
        (POSER, 0.0254, "YXZ", 0, False, ""),
        (MIXAMO, 1.0, "XZY", 30, False, "Character1_"),
    ],
    ids=["mixamo cm", "cmu", "lafan arms down", "unreal z up", "poser inches", "metres"],
)
def test_bvh_of_any_rest_pose_order_and_unit_moves_as_the_original(
    walk: Motion, tmp_path: Path, names: tuple[str, ...], unit: float, order: str, arms_down: float, z_up: bool, prefix: str
) -> None:
    short = walk.with_pose(walk.pose[slice(0, 40)])
    (tmp_path / "a.bvh").write_text(bvh_text(short, names, unit=unit, order=order, arms_down=arms_down, z_up=z_up, prefix=prefix))
    read = read_motion(tmp_path / "a.bvh")
    assert read.fps == 30 and read.num_frames == 40
    assert (limbs_from_root(read) - limbs_from_root(short)).norm(dim=-1).max() < 1e-3  # file digits, and float32
    moved = (read.joints[:, 0] - read.joints[:1, 0]) - (short.joints[:, 0] - short.joints[:1, 0])
    assert moved.norm(dim=-1).max() < 1e-3


def test_a_bvh_whose_zero_angles_are_nobodys_pose_is_read_from_the_frame_that_stands(walk: Motion, tmp_path: Path) -> None:
    short = walk.with_pose(walk.pose[slice(0, 40)])
    text = bvh_text(short, LAFAN, unit=0.01, order="ZYX", arms_down=0, along_x=True)
    (tmp_path / "a.bvh").write_text(text)
    read = read_motion(tmp_path / "a.bvh")
    assert (limbs_from_root(read) - limbs_from_root(short)).norm(dim=-1).max() < 0.05  # where the trunk of that frame leans a little
    for a, b in ((HIP, KNEE), (KNEE, ANKLE), (SHOULDER, ELBOW), (ELBOW, WRIST)):
        for side in (0, 1):
            ours, theirs = (m.joints[:, b[side]] - m.joints[:, a[side]] for m in (read, short))
            assert torch.nn.functional.cosine_similarity(ours, theirs, dim=-1).min() > 0.999


def test_the_frame_that_stands_is_found_among_many_that_lie_and_that_squat_with_hanging_arms(walk: Motion, tmp_path: Path) -> None:
    still = walk.pose[slice(0, 1)]
    at = lambda **turns: still.body_pose.index_copy(1, torch.tensor([int(k[1:]) for k in turns]), torch.tensor([list(turns.values())]))  # noqa: E731
    level = at(j15=[0.0, 0, 0], j16=[0.0, 0, 0], j17=[0.0, 0, 0], j18=[0.0, 0, 0], j0=[0.0, 0, 0], j1=[0.0, 0, 0], j3=[0.0, 0, 0], j4=[0.0, 0, 0])  # a T
    squat = at(j0=[-1.6, 0, 0], j1=[-1.6, 0, 0], j3=[2.2, 0, 0], j4=[2.2, 0, 0])
    lying = Rotation.from_euler("x", -90, degrees=True) * Rotation.from_rotvec(still.global_orient[0].double().numpy())
    turns = torch.cat([still.global_orient.expand(4, 3), torch.from_numpy(lying.as_rotvec()).float().expand(40, 3)])
    pose = BodyPose(turns, torch.cat([level.expand(2, -1, -1), squat.expand(2, -1, -1), level.expand(40, -1, -1)]), still.transl.expand(44, 3))
    motion = walk.with_pose(pose)
    (tmp_path / "a.bvh").write_text(bvh_text(motion, LAFAN, unit=0.01, order="ZYX", arms_down=0, along_x=True))
    read = read_motion(tmp_path / "a.bvh")
    assert (limbs_from_root(read) - limbs_from_root(motion)).norm(dim=-1).max() < 0.1  # this person's trunk leans by 4 degrees


def test_a_bvh_in_which_nobody_ever_stands_is_refused(walk: Motion, tmp_path: Path) -> None:
    pose = walk.pose[slice(0, 5)]
    sitting = dataclasses.replace(pose, body_pose=pose.body_pose.index_fill(1, torch.tensor([0, 1]), 0.0) - torch.eye(23)[:2].sum(0)[:, None] * torch.tensor([1.7, 0, 0]))
    (tmp_path / "a.bvh").write_text(bvh_text(walk.with_pose(sitting), LAFAN, unit=0.01, order="ZYX", arms_down=0, along_x=True))
    with pytest.raises(MotionError, match="stands upright"):
        read_motion(tmp_path / "a.bvh")


def test_a_bvh_that_the_project_exports_moves_as_the_original(walk: Motion, tmp_path: Path) -> None:
    bones = walk.skeleton
    text = write_bvh(SMPL_JOINT_NAMES, bones.parents.tolist(), bones.joints_rest.numpy(), joint_motion(walk))
    (tmp_path / "a.bvh").write_bytes(text)
    read = read_motion(tmp_path / "a.bvh")
    assert (limbs_from_root(read) - limbs_from_root(walk)).norm(dim=-1).max() < 1e-3
    assert ((read.joints - read.joints[:1, :1]) - (walk.joints - walk.joints[:1, :1]))[:, LIMBS].norm(dim=-1).max() < 1e-3


def test_a_windows_file_with_tabs_and_a_byte_order_mark_reads_the_same(walk: Motion, tmp_path: Path) -> None:
    text = bvh_text(walk.with_pose(walk.pose[slice(0, 3)]), MIXAMO, unit=0.01, order="ZXY", arms_down=0)
    (tmp_path / "a.bvh").write_text(text)
    (tmp_path / "b.BVH").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert torch.equal(read_motion(tmp_path / "a.bvh").joints, read_motion(tmp_path / "b.BVH").joints)


TINY = "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\nEnd Site\n{\nOFFSET 0 1 0\n}\n}\nMOTION\nFrames: 1\nFrame Time: 0.033\n0 0 0 0 0 0\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("MOTION", "MOTHER"), "MOTION"),
        (("Frames: 1", "Frames: 2"), "expected 2 frames of 6 numbers"),
        (("Frame Time: 0.033", "Frame Time: 0"), "Frame Time in seconds"),
        (("0 0 0 0 0 0\n", "0 0 0 0 nan 0\n"), "not finite"),
        (("0 0 0 0 0 0\n", "0 0 0 zero 0 0\n"), "rows of numbers"),
        (("OFFSET 0 0 0", "OFFSET a b c"), "line 4: expected numbers"),
        (("OFFSET 0 0 0", "OFFSET 0 0"), "line 4: expected OFFSET x y z"),
        (("Zrotation", "Wrotation"), "expected 6 channels"),
        (("}\n}\nMOTION", "}\nMOTION"), "not closed"),
        (("OFFSET 0 1 0\n}", "OFFSET 0 1 0\n}\n}\n}"), r"without its \{"),
        (("End Site", "Ende"), "came 'Ende'"),
        (("nothing", "nothing"), "not found: left_hip"),
    ],
)
def test_a_damaged_bvh_is_refused_with_its_place(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "a.bvh").write_text(TINY.replace(*change))
    with pytest.raises(MotionError, match=message):
        read_motion(tmp_path / "a.bvh")


def test_bvh_channels_apply_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(TINY.replace("0 0 0 0 0 0\n", "1 2 3 90 45 0\n"))
    turns, places = parse_bvh(tmp_path / "a.bvh").posed()
    wanted = Rotation.from_euler("ZXY", [90, 45, 0], degrees=True).as_matrix()
    assert np.allclose(turns[0, 0], wanted) and np.allclose(places[0, 0], [1, 2, 3])
    assert np.allclose(places[0, 1], np.array([1, 2, 3]) + wanted[:, 1])
