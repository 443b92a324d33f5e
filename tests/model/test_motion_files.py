"""Motions from files: what a file says is what is read, whichever way is up, and what is no motion is refused in words."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from model.body.body_model import load_body_model
from model.export.bvh import write_bvh
from model.export.joint_motion import joint_motion
from model.motion.bvh_file import parse_bvh
from model.motion.library import library_motion
from model.motion.motion import Motion, MotionError
from model.motion.read import read_motion, save_motion
from model.motion.skeleton import ANKLE, ELBOW, HIP, KNEE, NUM_BODY_JOINTS, SHOULDER, SMPL_JOINT_NAMES, SMPL_PARENTS, WRIST
from model.motion.smpl_arrays import centred, scaled, usual_skeleton
from model.pose import BodyPose

SHARED = Path(__file__).parents[3] / "shared" / "data"
LIMBS = [*HIP, *KNEE, *ANKLE, *SHOULDER, *ELBOW, *WRIST]
Z_UP = Rotation.from_euler("x", 90, degrees=True)  # carries y up to z up
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


def smpl_arrays(motion: Motion, world: Rotation, size: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """SMPL's rotations [F, 24, 3] and translations in another world; `size` scales the places."""
    root = size * (motion.skeleton.joints_rest[0] + motion.transl).double().numpy()
    orient = (world * Rotation.from_rotvec(motion.global_orient.double().numpy())).as_rotvec()
    rotations = np.concatenate([orient[:, None], motion.body_pose.double().numpy()], axis=1)
    return rotations, world.apply(root) - size * motion.skeleton.joints_rest[0].double().numpy()


def limbs_from_root(motion: Motion) -> torch.Tensor:
    joints = motion.joints
    return joints[:, LIMBS] - joints[:, :1]


def write_pickle(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


# --------------------------------------------------------------------------------------------------- SMPL's arrays


@pytest.mark.parametrize("layout", ["smplh", "smplx", "smplx whole", "thetas"])
def test_amass_layouts_come_back_upright_with_every_joint_in_place(walk: Motion, tmp_path: Path, layout: str) -> None:
    rotations, trans = smpl_arrays(walk, Z_UP)
    body = rotations[:, :NUM_BODY_JOINTS].reshape(len(rotations), -1)
    zeros = lambda n: np.zeros((len(body), n))  # noqa: E731
    content = {
        "smplh": {"poses": np.hstack([body, zeros(90)]), "mocap_framerate": np.array(30.0), "betas": np.zeros(16), "dmpls": zeros(8)},
        "smplx": {"root_orient": body[:, :3], "pose_body": body[:, 3:], "mocap_frame_rate": np.array(30.0)},
        "smplx whole": {"poses": np.hstack([body, zeros(99)]), "mocap_frame_rate": np.array(30), "gender": np.array("neutral")},
        "thetas": {"thetas": rotations.reshape(len(rotations), -1), "fps": np.array(30.0)},
    }[layout]
    np.savez(tmp_path / "walk.npz", trans=trans, **content)
    read = read_motion(tmp_path / "walk.npz")
    assert read.fps == 30.0 and read.num_frames == walk.num_frames and not read.loops
    assert (limbs_from_root(read) - limbs_from_root(walk)).abs().max() < 0.01  # the file's size is estimated from its heights
    assert read.sole_points[..., 1].amin(dim=(1, 2)).abs().max() < 0.01


def test_the_size_of_a_body_is_told_by_its_heights(walk: Motion, tmp_path: Path) -> None:
    rotations, trans = smpl_arrays(walk, Z_UP, size=1.1)
    np.savez(tmp_path / "tall.npz", poses=rotations.reshape(len(rotations), -1), trans=trans, mocap_framerate=30.0)
    read = read_motion(tmp_path / "tall.npz")
    assert read.skeleton.leg_length / usual_skeleton().leg_length == pytest.approx(1.1, abs=0.01)


@pytest.mark.parametrize("world", ["x", "y", "z", "-y"])
def test_whichever_way_is_up_the_motion_stands(walk: Motion, tmp_path: Path, world: str) -> None:
    turn = {"x": Rotation.from_euler("z", -90, degrees=True), "y": Rotation.identity(), "z": Z_UP, "-y": Rotation.from_euler("x", 180, degrees=True)}[world]
    rotations, trans = smpl_arrays(walk, turn)
    np.savez(tmp_path / "m.npz", poses=rotations.reshape(len(rotations), -1), trans=trans, fps=30.0)
    read = read_motion(tmp_path / "m.npz")
    head_over_feet = read.joints[:, 15, 1] - read.joints[:, 7, 1]
    assert head_over_feet.min() > 1.0 and read.sole_points[..., 1].min() > -0.02


def test_aist_translations_are_divided_by_their_scaling(walk: Motion, tmp_path: Path) -> None:
    rotations, trans = smpl_arrays(walk, Rotation.identity())
    content = {"smpl_poses": rotations.reshape(len(rotations), -1), "smpl_trans": trans * 93.7, "smpl_scaling": np.array([93.7])}
    read = read_motion(write_pickle(tmp_path / "gBR.pkl", content))
    assert read.fps == 60.0
    assert (limbs_from_root(read) - limbs_from_root(walk)).abs().max() < 0.01
    moved = (read.transl - read.transl[0]) - (walk.transl - walk.transl[0])
    assert moved.norm(dim=1).max() < 0.02


def test_a_motion_of_ones_own_comes_back_as_it_is(walk: Motion, tmp_path: Path) -> None:
    save_motion(tmp_path / "walk.npz", walk)
    read = read_motion(tmp_path / "walk.npz")
    assert read.loops and read.fps == walk.fps
    assert torch.equal(read.joints, walk.joints) and torch.equal(read.sole_points, walk.sole_points)


def test_a_body_track_stands_on_the_floor_with_its_own_bones(walk: Motion, tmp_path: Path) -> None:
    body = load_body_model("open")
    betas = torch.zeros(body.num_betas)
    rotations, trans = smpl_arrays(walk, Rotation.from_euler("x", 180, degrees=True))
    np.savez(
        tmp_path / "track.npz", global_orient=rotations[:, 0], body_pose=rotations[:, 1:], transl=trans + [0.1, 0.5, 3.0], betas=betas.numpy()[:10],
        K=np.eye(3), w2c=np.eye(4), fps=12.0, body="open", frame_ids=np.arange(len(trans)), confidence=np.ones(len(trans)), width=64, height=64,
    )  # fmt: skip
    read = read_motion(tmp_path / "track.npz")
    assert read.fps == 12.0
    assert (limbs_from_root(read) - limbs_from_root(walk)).abs().max() < 1e-4
    assert read.sole_points[..., 1].amin(dim=(1, 2)).abs().max() < 0.02


def test_the_rate_can_be_given_where_a_file_does_not_tell(walk: Motion, tmp_path: Path) -> None:
    rotations, trans = smpl_arrays(walk, Rotation.identity())
    np.savez(tmp_path / "m.npz", poses=rotations.reshape(len(rotations), -1), trans=trans)
    assert read_motion(tmp_path / "m.npz").fps == 30.0
    assert read_motion(tmp_path / "m.npz", fps=50.0).fps == 50.0


@pytest.mark.skipif(not (SHARED / "drive_smpl.npz").exists(), reason="needs shared/data/drive_smpl.npz")
def test_a_file_with_a_glued_pelvis_is_set_on_the_floor() -> None:
    read = read_motion(SHARED / "drive_smpl.npz")
    lowest = read.sole_points[..., 1].amin(dim=(1, 2))
    assert read.num_frames == 480 and lowest.abs().quantile(0.95) < 0.02


def test_a_centred_motion_starts_at_the_origin_facing_ahead(walk: Motion) -> None:
    motion = centred(walk)
    joints = motion.joints[0]
    assert joints[0, [0, 2]].abs().max() < 1e-5
    left = joints[HIP[0]] - joints[HIP[1]]
    assert left[0] > 0.9 * left.norm()


def test_scaled_bones_are_larger_as_a_whole() -> None:
    plain = usual_skeleton()
    twice = scaled(plain, 2.0)
    assert twice.leg_length == pytest.approx(2 * plain.leg_length) and twice.standing_height == pytest.approx(2 * plain.standing_height)


# -------------------------------------------------------------------------------------------------------------- BVH


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


# -------------------------------------------------------------------------------------------------------- bad input


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/should-never-exist",)


def npz(path: Path, **arrays: object) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.npz", lambda p: p, "found nothing"),
        ("text.npz", lambda p: p.write_text("hello") and p, "is none of them"),
        ("empty.bvh", lambda p: p.write_bytes(b"") or p, "is none of them"),
        ("cut.npz", lambda p: p.write_bytes(b"PK\x03\x04 and then nothing") and p, "does not open"),
        ("other.npz", lambda p: npz(p, x=np.zeros(3)), r"arrays named x \[3\]"),
        ("rows.npz", lambda p: npz(p, poses=np.zeros((4, 72)), trans=np.zeros((5, 3))), "expected rotations"),
        ("few.npz", lambda p: npz(p, poses=np.zeros((4, 30)), trans=np.zeros((4, 3))), "22 or more"),
        ("odd.npz", lambda p: npz(p, poses=np.zeros((4, 71)), trans=np.zeros((4, 3))), "3 x joints"),
        ("nan.npz", lambda p: npz(p, poses=np.full((4, 72), np.nan), trans=np.zeros((4, 3))), "not finite"),
        ("words.npz", lambda p: npz(p, poses=np.array([["a"] * 72]), trans=np.zeros((1, 3))), "expected numbers"),
        ("nobody.npz", lambda p: npz(p, poses=np.zeros((0, 72)), trans=np.zeros((0, 3))), "no frames|expected"),
        ("objects.npz", lambda p: npz(p, poses=np.array([{"a": 1}], dtype=object), trans=np.zeros((1, 3))), "expected joint rotations"),
        ("evil.pkl", lambda p: write_pickle(p, {"smpl_poses": Evil()}), "refused"),
        ("list.pkl", lambda p: write_pickle(p, [1, 2]), "expected a dictionary"),
        ("zero.pkl", lambda p: write_pickle(p, {"smpl_poses": np.zeros((2, 72)), "smpl_trans": np.zeros((2, 3)), "smpl_scaling": np.zeros(1)}), "scaling above 0"),
        ("json.pkl", lambda p: p.write_text(json.dumps({"a": 1})) and p, "no pickled body model"),
    ],
)  # fmt: skip
def test_what_is_no_motion_file_is_refused_in_words(tmp_path: Path, name: str, make: object, message: str) -> None:
    with pytest.raises(MotionError, match=message):
        read_motion(make(tmp_path / name))
    assert not Path("/tmp/should-never-exist").exists()


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("parents", lambda a: np.roll(a, -1), "hang from an earlier one"),
        ("parents", lambda a: a[:5], "at least the body's 22 joints"),
        ("joints_rest", lambda a: a[:5], "expected joints_rest"),
        ("joints_rest", lambda a: np.full(a.shape, "x"), "expected numbers in joints_rest"),
    ],
)
def test_a_motion_of_our_own_whose_parts_do_not_fit_is_refused_in_words(tmp_path: Path, walk: Motion, key: str, change: object, said: str) -> None:
    save_motion(tmp_path / "walk.npz", walk)
    with np.load(tmp_path / "walk.npz") as file:
        np.savez(tmp_path / "torn.npz", **{name: change(file[name]) if name == key else file[name] for name in file.files})
    with pytest.raises(MotionError, match=said):
        read_motion(tmp_path / "torn.npz")


def test_flipped_bytes_in_a_motion_never_end_in_a_traceback(tmp_path: Path, walk: Motion) -> None:
    save_motion(tmp_path / "walk.npz", walk)
    content, rng = (tmp_path / "walk.npz").read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 20):
            damaged[at] ^= int(rng.integers(1, 256))
        (tmp_path / "a.npz").write_bytes(damaged)
        with contextlib.suppress(MotionError):
            read_motion(tmp_path / "a.npz")


def test_a_motion_of_our_own_that_lacks_a_part_is_refused_by_name(tmp_path: Path, walk: Motion) -> None:
    save_motion(tmp_path / "walk.npz", walk)
    with np.load(tmp_path / "walk.npz") as file:
        np.savez(tmp_path / "torn.npz", **{name: file[name] for name in file.files if name != "sole_toe"})
    with pytest.raises(MotionError, match="lacks sole_toe"):
        read_motion(tmp_path / "torn.npz")
