"""Claims about a user's own SMPL and SMPL-X files: they go through the same door, and errors say what to do."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from smplx.lbs import lbs
from smplx.vertex_ids import vertex_ids

from model.body.body_files import BodyFileError, read_open_body
from model.body.bone_lengths import BONE_LENGTHS
from model.body.body_model import body_model_from_arrays, canonical_pose, load_body_model

SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
SMPLX_PARENTS = (*SMPL_PARENTS[:22], 15, 15, 15, *(p for root, first in ((20, 25), (21, 40)) for f in range(5) for p in (root, first + 3 * f, first + 3 * f + 1)))


def family_member(num_vertices: int, parents: tuple[int, ...], num_shapes: int) -> dict[str, np.ndarray]:
    """Random arrays in the layout of an SMPL-family file."""
    rng = np.random.default_rng(0)
    num_joints = len(parents)
    chosen = rng.integers(0, num_vertices, (num_joints, 6))
    regressor = np.zeros((num_joints, num_vertices))
    np.put_along_axis(regressor, chosen, 1.0, axis=1)
    weights = np.zeros((num_vertices, num_joints))
    np.put_along_axis(weights, rng.integers(0, num_joints, (num_vertices, 4)), rng.uniform(0.1, 1, (num_vertices, 4)), axis=1)
    tree = np.stack([np.array(parents), np.arange(num_joints)]).astype(np.uint32)  # the root's parent wraps round, as in SMPL's files
    return {
        "v_template": rng.normal(size=(num_vertices, 3)),
        "shapedirs": 0.01 * rng.normal(size=(num_vertices, 3, num_shapes)).astype(np.float32),
        "posedirs": 0.01 * rng.normal(size=(num_vertices, 3, 9 * (num_joints - 1))).astype(np.float32),
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "kintree_table": tree,
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "f": rng.integers(0, num_vertices, (200, 3)).astype(np.uint32),
    }


def posed_by_smplx(data, betas, pose, shapedirs):
    t = lambda a: torch.as_tensor(np.asarray(a), dtype=torch.float64)  # noqa: E731
    posedirs = t(data["posedirs"]).reshape(len(data["v_template"]) * 3, -1).T
    parents = torch.as_tensor(data["kintree_table"][0].astype(np.int64))
    parents[0] = -1
    return lbs(betas[None], pose[None], t(data["v_template"]), t(shapedirs), posedirs, t(data["J_regressor"]), parents, t(data["weights"]))


def test_an_smpl_pickle_loads_and_poses_as_smplx_does(tmp_path):
    data = family_member(6890, SMPL_PARENTS, 10)
    with (tmp_path / "SMPL_NEUTRAL.pkl").open("wb") as stream:
        pickle.dump(data | {"J_regressor": sparse.csc_matrix(data["J_regressor"]), "bs_type": "lrotmin"}, stream, protocol=2)
    body = load_body_model(tmp_path / "SMPL_NEUTRAL.pkl", dtype=torch.float64)
    assert (body.name, body.num_joints, body.num_betas, body.uv) == ("SMPL_NEUTRAL", 24, 10 + len(BONE_LENGTHS), None)
    generator = torch.Generator().manual_seed(0)
    betas, pose = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((10,), (24, 3)))
    posed = body.pose(betas, pose[0], pose[1:], torch.zeros(3, dtype=torch.float64))
    vertices, joints = posed_by_smplx(data, betas, pose.flatten(), data["shapedirs"])
    assert torch.allclose(posed.vertices, vertices[0], atol=1e-9) and torch.allclose(posed.joints, joints[0], atol=1e-9)
    with pytest.raises(BodyFileError, match="SMPL_NEUTRAL has no UV layout; give"):
        body.require_uv()
    assert body.landmarks(posed.vertices, posed.joints).shape == (33, 3)
    assert torch.allclose(body.landmark_weights.vertex_weights.sum(1) + body.landmark_weights.joint_weights.sum(1), torch.ones(33, dtype=torch.float64))


def test_stand_ins_for_points_that_smpl_does_not_name_lie_near_the_real_ones():
    arrays = read_open_body()
    fewer = {name: vertex for name, vertex in arrays.points.items() if name in vertex_ids["smplh"]}
    body, poorer = body_model_from_arrays(arrays), body_model_from_arrays(replace(arrays, points=fewer))
    vertices, joints = body.rest(torch.zeros(10, dtype=torch.float64))
    error = (body.landmarks(vertices, joints) - poorer.landmarks(vertices, joints)).norm(dim=-1)
    assert len(fewer) == 21
    assert error.max() < 0.025  # knuckles stand 2 cm off the line from wrist to finger tip


def test_an_smplx_npz_loads_with_hands_expressions_and_its_own_uv(tmp_path):
    data = family_member(10475, SMPLX_PARENTS, 320)
    uv = {"vt": np.random.default_rng(0).uniform(size=(300, 2)), "ft": np.arange(600).reshape(200, 3) % 300}
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", **data, **uv)
    body = load_body_model(tmp_path / "SMPLX_NEUTRAL.npz", num_betas=16, num_expressions=5, dtype=torch.float64)
    assert (body.num_joints, body.num_betas) == (55, 21 + len(BONE_LENGTHS)) and "left_index1" in body.joint_names
    assert body.beta_names[20] == "expression4" and body.beta_names[21:] == tuple(BONE_LENGTHS)
    assert torch.allclose(body.uv[:, 1], 1 - torch.from_numpy(uv["vt"][:, 1]))  # row 0 of an image is v = 0
    generator = torch.Generator().manual_seed(0)
    betas, pose = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((21,), (55, 3)))
    posed = body.pose(betas, pose[0], pose[1:], torch.zeros(3, dtype=torch.float64))
    used = np.concatenate([data["shapedirs"][..., :16], data["shapedirs"][..., 300:305]], axis=-1)
    vertices, joints = posed_by_smplx(data, betas, pose.flatten(), used)
    assert torch.allclose(posed.vertices, vertices[0], atol=1e-9) and torch.allclose(posed.joints, joints[0], atol=1e-9)
    assert canonical_pose(body).shape == (54, 3)


def test_an_smpl_file_takes_its_uv_from_an_obj(tmp_path):
    data = family_member(6890, SMPL_PARENTS, 10)
    np.savez(tmp_path / "smpl.npz", **data)
    lines = ["vt 0.25 0.75", "vt 0.5 0.5", "vt 0 0"] + ["f 1/1 2/2 3/3"] * 200
    (tmp_path / "uv.obj").write_text("\n".join(lines))
    body = load_body_model(tmp_path / "smpl.npz", uv_path=tmp_path / "uv.obj")
    assert torch.allclose(body.uv[0], torch.tensor([0.25, 0.25])) and torch.equal(body.uv_faces[0], torch.tensor([0, 1, 2]))


def test_a_uv_layout_of_another_mesh_is_refused(tmp_path):
    np.savez(tmp_path / "smpl.npz", **family_member(6890, SMPL_PARENTS, 10))
    (tmp_path / "uv.obj").write_text("vt 0 0\nf 1/1 1/1 1/1\n")
    with pytest.raises(BodyFileError, match="1 triangles but .* has 200"):
        load_body_model(tmp_path / "smpl.npz", uv_path=tmp_path / "uv.obj")


@pytest.mark.parametrize("line", ["vt 0", "vt a b", "f 1/1 1/1", "f 1/1 1/1 1/1 1/1", "f 1 1 1", "f 1//1 1//1 1//1"])
def test_a_line_of_a_uv_file_that_makes_no_triangle_is_named(tmp_path, line):
    np.savez(tmp_path / "smpl.npz", **family_member(6890, SMPL_PARENTS, 10))
    (tmp_path / "uv.obj").write_text(f"vt 0 0\n{line}\n")
    with pytest.raises(BodyFileError, match=f"it has: {line}"):
        load_body_model(tmp_path / "smpl.npz", uv_path=tmp_path / "uv.obj")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent.npz", "there is no body model at"),
        (lambda p: p, "is a folder; give the model file itself"),
        (lambda p: _text(p / "notes.txt"), "body models are .npz or .pkl"),
        (lambda p: _text(p / "text.npz"), "cannot be read as a .npz"),
        (lambda p: _text(p / "text.pkl"), "no pickled body model"),
        (lambda p: _arrays(p / "other.npz", a=np.zeros(3)), "lacks v_template, shapedirs"),
        (lambda p: _arrays(p / "hand.npz", **family_member(778, SMPL_PARENTS[:16], 10)), "16 joints; expected 24"),
        (lambda p: _arrays(p / "odd.npz", **family_member(700, SMPL_PARENTS, 10)), r"has \(6890, 3\)"),
    ],
)
def test_a_wrong_file_gets_a_message_that_says_what_was_expected(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        load_body_model(make(tmp_path))


def test_an_npz_that_hides_a_pickle_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "model.npz", v_template=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BodyFileError):
        load_body_model(tmp_path / "model.npz")


def _text(path):
    path.write_text("hello")
    return path


def _arrays(path, **arrays):
    np.savez(path, **arrays)
    return path
