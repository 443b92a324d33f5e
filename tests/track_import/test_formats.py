"""Claims about importing body tracks: every program's conventions end in the same body before the same camera, and no file runs code."""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from model.body.body_model import BodyModel, load_body_model
from model.body.landmarks import LANDMARK_NAMES
from model.body.track_import.imported import ImportedTrack, TrackFormatError, carry_joints, intrinsics, picture_around, still, vectors
from model.body.track_import.keypoints import fit_keypoints
from model.body.track_import.place import place_on_body
from tasks.errors import InputError
from tasks.track_import.match import choose_person, crop_intrinsics
from tasks.track_import.read import read_track_file
from tests.track_import import samples
from tests.track_import.samples import FOCAL, FRAMES, HEIGHT, PROGRAMS, WIDTH, Motion, make_motion
from tests.track_import.test_match import clip_info

FLOAT32_M = 1e-5  # programs store single precision, at four metres


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open", dtype=torch.float64)


@pytest.fixture(scope="module")
def motion() -> Motion:
    return make_motion()


def joints_of(body: BodyModel, orient, pose, transl, betas=None) -> np.ndarray:
    parts = [torch.as_tensor(np.asarray(part), dtype=torch.float64) for part in (orient, pose, transl)]
    return body.pose(torch.zeros(body.num_betas, dtype=torch.float64) if betas is None else betas, *parts).joints.numpy()


def true_joints(body: BodyModel, motion: Motion) -> np.ndarray:
    rest_pelvis = body.rest(torch.zeros(body.num_betas, dtype=torch.float64))[1][0].numpy()
    return joints_of(body, motion.orient, motion.pose, motion.pelvis - rest_pelvis)


@pytest.mark.parametrize("program", [samples.gvhmr, samples.prompt_hmr, samples.tram], ids=lambda program: program.__name__)
def test_poses_of_a_smaller_copy_of_the_video_see_the_same_in_its_crop(tmp_path: Path, motion: Motion, program) -> None:
    (track,) = read_track_file(program(tmp_path, motion), (2 * WIDTH, 2 * HEIGHT)).people
    x0, y0, side = clip_info().crop
    twice = replace(clip_info(), source_width=2 * WIDTH, source_height=2 * HEIGHT, crop=[2 * x0, 2 * y0, 2 * side])
    expected = crop_intrinsics(samples.camera(FOCAL), None, clip_info(), "x")
    assert np.allclose(crop_intrinsics(track.K, (track.width, track.height), twice, "x"), expected, rtol=1e-5)


def test_a_calibrated_principal_point_beside_the_middle_stays_where_it_is() -> None:
    K = intrinsics(1800.0, 965.0, 530.0)
    assert picture_around(K, (1920, 1080)) == {} and picture_around(K / [[2], [2], [1]], (1920, 1080)) == {"width": 965, "height": 530}
    with pytest.raises(TrackFormatError, match="principal point"):
        picture_around(intrinsics(1800.0, 0.0, 530.0), (1920, 1080))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_every_program_leads_to_the_same_joints_before_the_same_camera(tmp_path: Path, body: BodyModel, motion: Motion, program) -> None:
    read = read_track_file(program(tmp_path, motion), (WIDTH, HEIGHT))
    name, focal = PROGRAMS[program]
    assert read.format == name
    track = choose_person(read.people, clip_info())
    assert np.allclose(track.K, samples.camera(focal), rtol=1e-5)
    placed = place_on_body(track, body)
    assert not placed.own_shape
    joints = joints_of(body, placed.global_orient, placed.body_pose, placed.transl)
    assert np.abs(joints - true_joints(body, motion)).max() < FLOAT32_M
    assert track.frame_ids is None or track.frame_ids.tolist() == list(range(FRAMES))


def test_of_several_people_the_one_in_the_clips_boxes_is_taken(tmp_path: Path, motion: Motion) -> None:
    people = read_track_file(samples.romp(tmp_path, motion), (WIDTH, HEIGHT)).people
    assert sorted(p.person for p in people) == ["7", "9"]
    assert choose_person(people, clip_info()).person == "7"
    left = replace(clip_info(), boxes=[[0, 0, 120, 480]] * FRAMES)
    assert choose_person(people, left).person == "9"


def test_predicted_boxes_of_4d_humans_are_ghosts_and_left_out(tmp_path: Path, motion: Motion) -> None:
    people = read_track_file(samples.phalp(tmp_path, motion), (WIDTH, HEIGHT)).people
    assert [p.person for p in people] == ["1"]


def test_betas_are_used_on_their_own_body_and_only_there(body: BodyModel, motion: Motion) -> None:
    own = replace(body, name="SMPL_NEUTRAL", beta_names=tuple(f"beta{i}" for i in range(body.num_betas)))
    betas = np.linspace(-1, 1, 10)
    track = ImportedTrack("x", "smpl", motion.orient, motion.pose, motion.transl(), betas, samples.camera(), still())
    placed = place_on_body(track, own)
    assert placed.own_shape and np.allclose(placed.betas[:10], betas) and not placed.betas[10:].any()
    assert np.allclose(placed.transl, motion.transl()), "on its own body a track is what the file says"
    assert not place_on_body(track, body).own_shape and not place_on_body(track, body).betas.any()
    assert not place_on_body(replace(track, family="smplx"), own).own_shape


def test_a_body_of_55_joints_keeps_what_smpl_x_says_of_jaw_and_fingers(motion: Motion) -> None:
    pose = samples.smplx_pose(motion)
    assert np.array_equal(carry_joints(pose, 54), pose)
    as_smpl = carry_joints(pose, 23)
    assert np.array_equal(as_smpl[:, :21], pose[:, :21]) and not as_smpl[:, 21:].any()
    assert not carry_joints(motion.pose, 54)[:, 21:].any()


def test_sam_3d_body_is_read_as_points_before_the_camera(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).normal(0, 0.5, (2, 33, 3)) + [0, 0, 4]
    read = read_track_file(samples.sam3d(tmp_path, truth, list(LANDMARK_NAMES)), (WIDTH, HEIGHT))
    person = read.people[0]
    columns = [LANDMARK_NAMES.index(name) for name in person.names]
    assert read.format == "SAM 3D Body" and np.allclose(person.points, truth[:, columns]) and person.frame_ids.tolist() == [0, 1]


@pytest.mark.slow
def test_sam_3d_body_is_fitted_by_its_keypoints(tmp_path: Path, motion: Motion) -> None:
    body = load_body_model("open", dtype=torch.float64)
    rest_pelvis = body.rest(torch.zeros(body.num_betas, dtype=torch.float64))[1][0].numpy()
    parts = [torch.as_tensor(part) for part in (motion.orient, motion.pose, motion.pelvis - rest_pelvis)]
    posed = body.pose(torch.zeros(body.num_betas, dtype=torch.float64), *parts)
    truth = body.landmarks(posed.vertices, posed.joints).numpy()
    read = read_track_file(samples.sam3d(tmp_path, truth, list(LANDMARK_NAMES)), (WIDTH, HEIGHT))
    assert read.format == "SAM 3D Body" and read.people[0].K[0, 0] == pytest.approx(FOCAL)
    placed, miss = fit_keypoints(body, read.people[0])
    assert miss < 0.012, "the prior holds back a little, metres"
    joints = joints_of(body, placed.global_orient, placed.body_pose, placed.transl, placed.betas)
    assert np.linalg.norm(joints - posed.joints.numpy(), axis=-1).mean() < 0.025


def test_sam_3d_body_without_keypoints_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    joblib.dump([[{"pred_vertices": np.zeros((18439, 3)), "pred_cam_t": np.zeros(3), "focal_length": 500.0}]], tmp_path / "x.pkl")
    with pytest.raises(InputError, match="pred_keypoints_3d.*18439 vertices"):
        read_track_file(tmp_path / "x.pkl", (WIDTH, HEIGHT))


# ---------------------------------------------------------------------------------------------------------- bad input


class Calls:
    def __init__(self, *arguments) -> None:
        self.arguments = arguments

    def __reduce__(self):
        return os.system, self.arguments


def hostile_files(trace: Path) -> dict[str, bytes]:
    evil = {0: {"pose": Calls(f"touch {trace}"), "trans": 0, "betas": 0, "frame_ids": 0}}
    packed, array, archive, torched = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    joblib.dump(evil, packed, compress=3)
    np.save(array, np.array(evil, dtype=object), allow_pickle=True)
    np.savez(archive, results=np.array(evil, dtype=object))
    torch.save(evil, torched)
    return {"plain.pkl": pickle.dumps(evil), "packed.pkl": packed.getvalue(), "array.npy": array.getvalue(), "archive.npz": archive.getvalue(), "torch.pt": torched.getvalue()}


@pytest.mark.parametrize("name", ["plain.pkl", "packed.pkl", "array.npy", "archive.npz", "torch.pt"])
def test_a_file_that_asks_for_code_is_refused_and_runs_nothing(tmp_path: Path, name: str) -> None:
    trace = tmp_path / "trace"
    (tmp_path / name).write_bytes(hostile_files(trace)[name])
    with pytest.raises(InputError, match="refused|nothing of it was run"):
        read_track_file(tmp_path / name, (WIDTH, HEIGHT))
    assert not trace.exists()


def test_a_file_of_no_known_kind_says_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", weights=np.zeros(3), bias=np.zeros(2))
    with pytest.raises(InputError, match=r"none of the body tracks.*weights, bias"):
        read_track_file(tmp_path / "x.npz", (WIDTH, HEIGHT))
    with pytest.raises(InputError, match="found nothing"):
        read_track_file(tmp_path / "missing.npz", (WIDTH, HEIGHT))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="found none of"):
        read_track_file(tmp_path / "folder", (WIDTH, HEIGHT))


def test_a_track_without_its_camera_names_the_file_to_bring(tmp_path: Path, motion: Motion) -> None:
    file = samples.tram(tmp_path, motion)
    (tmp_path / "camera.npy").unlink()
    with pytest.raises(InputError, match="camera.npy"):
        read_track_file(file, (WIDTH, HEIGHT))
    samples.instant_avatar(tmp_path, motion)
    (tmp_path / "cameras.npz").unlink()
    with pytest.raises(InputError, match="cameras.npz"):
        read_track_file(tmp_path / "poses_optimized.npz", (WIDTH, HEIGHT))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("program", [samples.wham, samples.phalp, samples.tram, samples.romp, samples.gvhmr, samples.people_snapshot], ids=lambda p: p.__name__)
def test_a_file_that_was_cut_off_is_refused_in_one_line(tmp_path: Path, motion: Motion, program, keep: float) -> None:
    path = program(tmp_path, motion)
    file = read_track_file(path, (WIDTH, HEIGHT)).path
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError):
        read_track_file(path, (WIDTH, HEIGHT))


def test_numbers_that_are_not_finite_are_refused(motion: Motion) -> None:
    with pytest.raises(TrackFormatError, match="transl"):
        ImportedTrack("x", "smpl", motion.orient, motion.pose, motion.pelvis * np.nan, None, intrinsics(1, 0, 0), still())


def test_matrices_that_are_no_rotations_are_refused() -> None:
    with pytest.raises(TrackFormatError, match="rotation"):
        vectors(2 * np.eye(3)[None])
    with pytest.raises(TrackFormatError, match="rotation"):
        vectors(np.diag([1.0, 1.0, -1.0])[None])
