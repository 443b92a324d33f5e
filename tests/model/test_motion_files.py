"""Motions from files: what a file says is what is read, whichever way is up, and what is no motion is refused in words."""

from __future__ import annotations

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
from model.motion.library import library_motion
from model.motion.motion import Motion, MotionError
from model.motion.read import read_motion, save_motion
from model.motion.skeleton import HIP, NUM_BODY_JOINTS
from model.motion.smpl_arrays import centred, scaled, usual_skeleton
from tests.model.motion_samples import Z_UP, limbs_from_root

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def walk() -> Motion:
    return library_motion("walk", usual_skeleton(), 30.0)


def smpl_arrays(motion: Motion, world: Rotation, size: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """SMPL's rotations [F, 24, 3] and translations in another world; `size` scales the places."""
    root = size * (motion.skeleton.joints_rest[0] + motion.transl).double().numpy()
    orient = (world * Rotation.from_rotvec(motion.global_orient.double().numpy())).as_rotvec()
    rotations = np.concatenate([orient[:, None], motion.body_pose.double().numpy()], axis=1)
    return rotations, world.apply(root) - size * motion.skeleton.joints_rest[0].double().numpy()


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
    content, rng, refused = (tmp_path / "walk.npz").read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 20):
            damaged[at] ^= int(rng.integers(1, 256))
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            read_motion(tmp_path / "a.npz")
        except MotionError:
            refused += 1
    assert refused > 50, "every byte counts in a compressed file"


def test_a_motion_of_our_own_that_lacks_a_part_is_refused_by_name(tmp_path: Path, walk: Motion) -> None:
    save_motion(tmp_path / "walk.npz", walk)
    with np.load(tmp_path / "walk.npz") as file:
        np.savez(tmp_path / "torn.npz", **{name: file[name] for name in file.files if name != "sole_toe"})
    with pytest.raises(MotionError, match="lacks sole_toe"):
        read_motion(tmp_path / "torn.npz")
