"""Claims about body models: the open body's anatomy, posing through smplx, its shape coefficients, its UV layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from smplx import SMPL
from smplx.utils import Struct

from model.body.body_files import read_open_body
from model.body.body_model import BodyModel, canonical_pose, load_body_model

REFERENCE = Path(__file__).parent / "data" / "open_body_reference.npz"
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open", dtype=torch.float64)


@pytest.fixture(scope="module")
def motion() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    randn = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    return {"betas": randn(10), "global_orient": randn(3, 3), "body_pose": 0.4 * randn(3, 23, 3), "transl": randn(3, 3)}


def smplx_twin(body: BodyModel, batch_size: int) -> SMPL:
    """smplx's own module, built from the same arrays."""
    arrays = read_open_body()
    data = Struct(
        v_template=arrays.v_template, shapedirs=arrays.shapedirs, posedirs=arrays.posedirs @ arrays.pose_basis.T,
        J_regressor=arrays.J_regressor.toarray(), kintree_table=np.stack([arrays.parents.astype(np.int64), np.arange(24)]),
        weights=arrays.weights, f=arrays.faces.astype(np.int64),
    )  # fmt: skip
    names = ("nose", "reye", "leye", "rear", "lear", *(f"{s}{f}" for s in "lr" for f in ("thumb", "index", "middle", "ring", "pinky")))
    feet = tuple(f"{s}{p}" for s in "LR" for p in ("BigToe", "SmallToe", "Heel"))
    ids = {name: arrays.points[name] for name in names + feet}
    return SMPL(model_path="", data_struct=data, batch_size=batch_size, vertex_ids=ids, dtype=torch.float64)


def test_posing_equals_smplx_own_forward(body, motion):
    twin = smplx_twin(body, 3)
    expected = twin(betas=motion["betas"].expand(3, 10), global_orient=motion["global_orient"], body_pose=motion["body_pose"].flatten(1), transl=motion["transl"])
    posed = body.pose(**motion)
    # smplx rounds the model's arrays to float32 on the way in, even when it computes in float64
    assert torch.allclose(posed.vertices, expected.vertices, atol=3e-6)
    assert torch.allclose(posed.joints, expected.joints[:, :24], atol=3e-6)


def test_smplx_finds_the_21_extra_joints_on_this_mesh(body):
    zeros = torch.zeros(1, 3, dtype=torch.float64)
    out = smplx_twin(body, 1)(betas=zeros.new_zeros(1, 10), global_orient=zeros, body_pose=zeros.new_zeros(1, 69), transl=zeros)
    joints = out.joints[0]
    assert joints.shape == (45, 3)
    nose, right_eye, left_eye, right_ear, left_ear = joints[24:29]
    assert abs(nose[0]) < 0.003 and nose[2] > left_eye[2] > left_ear[2] and left_eye[1] > nose[1]
    assert left_eye[0] > 0.02 and left_ear[0] > left_eye[0] and torch.allclose(left_ear * left_ear.new_tensor([-1, 1, 1]), right_ear, atol=2e-3)
    toe, small_toe, heel = joints[29:32]
    assert toe[2] > heel[2] + 0.18 and small_toe[0] > toe[0] and heel[2] < out.joints[0, 7, 2]
    thumb, index, middle, ring, pinky = joints[35:40]
    assert middle[0] > max(index[0], ring[0]) > thumb[0] and thumb[2] > index[2] > middle[2] > ring[2] > pinky[2]


def test_a_batch_equals_its_frames_one_by_one(body, motion):
    together = body.pose(**motion)
    for i in range(3):
        alone = body.pose(motion["betas"], motion["global_orient"][i], motion["body_pose"][i], motion["transl"][i])
        assert torch.allclose(alone.vertices, together.vertices[i], atol=1e-12)
        assert torch.allclose(alone.rest_to_posed, together.rest_to_posed[i], atol=1e-12)


def test_one_shape_each_equals_one_shape_for_all(body, motion):
    each = body.pose(**(motion | {"betas": motion["betas"].expand(3, 10)}))
    assert torch.allclose(each.vertices, body.pose(**motion).vertices, atol=1e-12)


def test_the_rest_pose_leaves_the_body_where_it_is(body, motion):
    zeros = torch.zeros(3, dtype=torch.float64)
    vertices, joints = body.rest(motion["betas"])
    posed = body.pose(motion["betas"], zeros, zeros.expand(23, 3), zeros)
    # smplx adds 1e-8 to each angle, hence not to the last bit
    assert torch.allclose(posed.vertices, vertices, atol=1e-7) and torch.allclose(posed.joints, joints, atol=1e-7)


def test_turning_the_root_moves_the_body_rigidly_about_the_pelvis(body, motion):
    zeros = torch.zeros(3, dtype=torch.float64)
    still = body.pose(motion["betas"], zeros, motion["body_pose"][0], zeros)
    turned = body.pose(motion["betas"], torch.tensor([0.0, torch.pi / 2, 0.0], dtype=torch.float64), motion["body_pose"][0], motion["transl"][0])
    R = torch.tensor([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]], dtype=torch.float64)
    expected = (still.vertices - still.joints[0]) @ R.T + still.joints[0] + motion["transl"][0]
    assert torch.allclose(turned.vertices, expected, atol=1e-6)
    assert torch.allclose(turned.joints[0], still.joints[0] + motion["transl"][0], atol=1e-6)


def test_joint_transforms_carry_rest_joints_to_posed_joints(body, motion):
    _, joints = body.rest(motion["betas"])
    transforms = body.joint_transforms(joints, motion["global_orient"], motion["body_pose"], motion["transl"])
    carried = (transforms[..., :3, :3] @ joints[..., None])[..., 0] + transforms[..., :3, 3]
    assert torch.allclose(carried, body.pose(**motion).joints, atol=1e-12)


def test_gradients_flow_to_every_input(body, motion):
    small = body.subset(torch.arange(0, body.num_vertices, 3000))
    inputs = tuple(motion[k][:1].clone().requires_grad_() if k != "betas" else motion[k].clone().requires_grad_() for k in ("betas", "global_orient", "body_pose", "transl"))

    def run(*values):
        posed = small.pose(*values)
        return posed.vertices, posed.joints, posed.rest_to_posed

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def test_float32_stays_within_a_hundredth_of_a_millimetre_of_float64(body, motion):
    single = body.to(dtype=torch.float32).pose(**{k: v.float() for k, v in motion.items()})
    assert single.vertices.dtype == torch.float32
    assert (single.vertices.double() - body.pose(**motion).vertices).abs().max() < 1e-5


def test_a_subset_poses_its_vertices_as_the_whole_does(body, motion):
    ids = torch.cat([body.landmark_weights.vertex_ids, torch.arange(100, 4000, 77)])
    whole, part = body.pose(**motion), body.subset(ids).pose(**motion)
    assert torch.allclose(part.vertices, whole.vertices[:, ids], atol=1e-12)
    assert torch.allclose(body.subset(ids).landmarks(part.vertices, part.joints), body.landmarks(whole.vertices, whole.joints), atol=1e-12)


def test_a_subset_without_the_landmarks_vertices_says_so(body, motion):
    part = body.subset(torch.tensor([0, 1, 2]))
    posed = part.pose(**motion)
    with pytest.raises(ValueError, match="landmark_weights.vertex_ids"):
        part.landmarks(posed.vertices, posed.joints)


def test_landmarks_lie_where_blazepose_marks_a_person(body):
    vertices, joints = body.rest(torch.zeros(10, dtype=torch.float64))
    at = dict(zip(body.landmark_names, body.landmarks(vertices, joints), strict=True))
    assert len(at) == 33
    mirror = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    for name in body.landmark_names:
        other = name.replace("left", "right") if "left" in name else name.replace("right", "left")
        assert torch.allclose(at[name] * mirror, at[other], atol=4e-3), name  # the mesh mirrors to about a vertex spacing
        assert name == "nose" or ("left" in name) == bool(at[name][0] > 0), name
    assert at["mouth_left"][1] < at["nose"][1] < at["left_eye"][1]
    assert at["left_eye_inner"][0] < at["left_eye"][0] < at["left_eye_outer"][0] < at["left_ear"][0]
    assert at["left_index"][2] > at["left_pinky"][2] and at["left_foot_index"][2] > at["left_heel"][2] + 0.18
    hips = body.joint_names.index("left_hip")
    assert joints[hips][1] < at["left_hip"][1] < joints[0][1]


def test_weights_share_each_vertex_out_completely_among_few_joints(body):
    weights = body.lbs_weights
    assert torch.allclose(weights.sum(dim=1), torch.ones(body.num_vertices, dtype=torch.float64), atol=1e-12)
    assert weights.min() >= 0 and (weights > 0).sum(dim=1).max() <= 5


def test_weights_change_smoothly_over_the_surface(body):
    edges = torch.cat([body.faces[:, [0, 1]], body.faces[:, [1, 2]]])
    jump = (body.lbs_weights[edges[:, 0]] - body.lbs_weights[edges[:, 1]]).abs().sum(dim=1) / 2
    assert jump.max() < 0.5  # at worst half of a vertex's share passes to another joint along one edge


def test_the_mesh_is_closed_and_turned_outwards(body):
    edges = torch.cat([body.faces[:, [0, 1]], body.faces[:, [1, 2]], body.faces[:, [2, 0]]])
    pairs, count = torch.unique(edges, dim=0, return_counts=True)
    assert count.max() == 1  # each directed edge once ...
    assert torch.equal(torch.unique(pairs.flip(1), dim=0), pairs)  # ... and once the other way round
    assert body.num_vertices - len(pairs) // 2 + len(body.faces) == 2  # one piece, no handles (Euler)
    a, b, c = body.v_template[body.faces].unbind(dim=1)
    assert 0.055 < (a * torch.linalg.cross(b, c)).sum() / 6 < 0.080  # cubic metres of a person


def rasterised_count(body: BodyModel, size: int) -> np.ndarray:
    """How many uv triangles hold each texel's centre; all triangles at once, each over a window as large as the largest."""
    corners = body.uv[body.uv_faces].numpy() * size  # [T, 3, 2]
    low = np.floor(corners.min(axis=1)).astype(int)
    window = int((np.ceil(corners.max(axis=1)) - low).max())
    texel = low[:, None] + np.stack(np.meshgrid(np.arange(window), np.arange(window)), axis=-1).reshape(-1, 2)  # [T, window^2, 2]
    a, b = corners[:, None], np.roll(corners, -1, axis=1)[:, None]
    to = texel[:, :, None] + 0.5 - a
    side = (b - a)[..., 0] * to[..., 1] - (b - a)[..., 1] * to[..., 0]
    inside = (side > 1e-9).all(axis=-1) | (side < -1e-9).all(axis=-1)
    count = np.zeros((size + window, size + window), dtype=int)
    np.add.at(count, tuple(texel[inside].T[::-1]), 1)
    return count[:size, :size]


def test_uv_charts_do_not_overlap(body):
    assert body.uv.min() >= 0 and body.uv.max() <= 1
    count = rasterised_count(body, 160)
    assert count.max() == 1
    assert (count > 0).mean() > 0.55


def test_the_joint_regressor_finds_the_rig_of_people_it_was_not_fitted_on(body):
    regressor = read_open_body().J_regressor
    reference = np.load(REFERENCE)
    for vertices, joints in zip(reference["vertices"], reference["joints"], strict=True):
        found = regressor[:, reference["vertex_ids"]] @ vertices.astype(np.float64)
        assert np.linalg.norm(found - joints, axis=1).max() < 0.010


def test_shaped_joints_follow_the_rig(body):
    reference = np.load(REFERENCE)
    _, joints = body.rest(torch.from_numpy(reference["betas"]).double())
    error = (joints - torch.from_numpy(reference["beta_joints"])).norm(dim=-1)
    assert error.max() < 0.010 and error.mean() < 0.002


def test_joints_sit_where_smpl_has_them(body):
    # SMPL's neutral rest joints, rounded to the centimetre; two skeletons of two mean people: 7 cm at worst (the arms, in depth).
    _, joints = body.rest(torch.zeros(10, dtype=torch.float64))
    expected = {"pelvis": (0, -0.22, 0.03), "left_hip": (0.07, -0.31, 0.02), "left_knee": (0.10, -0.69, 0.02), "left_ankle": (0.09, -1.09, -0.03),
                "neck": (0, 0.29, -0.01), "left_shoulder": (0.17, 0.23, -0.01), "left_elbow": (0.43, 0.21, -0.04), "left_wrist": (0.68, 0.22, -0.04)}  # fmt: skip
    for name, place in expected.items():
        assert (joints[body.joint_names.index(name)] - torch.tensor(place)).norm() < 0.07, name
    assert 0.07 <= joints[1, 0] <= 0.09
    assert torch.allclose(joints[1::3][:1, 1:], joints[2::3][:1, 1:], atol=1e-3)


def test_arms_are_level_and_straight_in_the_rest_pose(body):
    _, joints = body.rest(torch.zeros(10, dtype=torch.float64))
    arm = joints[[body.joint_names.index(f"left_{n}") for n in ("shoulder", "elbow", "wrist")]]
    assert (arm[:, 1:] - arm[0, 1:]).abs().max() < 0.01


def stature(body: BodyModel, **betas: float) -> float:
    return measured(body, **betas)["stature"]


def measured(body: BodyModel, **betas: float) -> dict[str, float]:
    coefficients = torch.zeros(10, dtype=torch.float64)
    for name, value in betas.items():
        coefficients[body.beta_names.index(name)] = value
    vertices, joints = body.rest(coefficients)
    length = lambda *names: sum(float((joints[body.joint_names.index(a)] - joints[body.joint_names.index(b)]).norm()) for a, b in zip(names, names[1:], strict=False))  # noqa: E731
    a, b, c = vertices[body.faces].unbind(dim=1)
    return {
        "stature": float(vertices[:, 1].max() - vertices[:, 1].min()),
        "litres": float((a * torch.linalg.cross(b, c)).sum() / 6 * 1000),
        "leg": length("left_hip", "left_knee", "left_ankle"),
        "arm": length("left_shoulder", "left_elbow", "left_wrist"),
        "shoulders": length("left_shoulder", "right_shoulder"),
        "head": float(vertices[:, 1].max() - joints[body.joint_names.index("head"), 1]),
    }


@pytest.mark.parametrize(
    ("name", "what", "change"),
    [("height", "stature", 0.07), ("weight", "litres", 8.0), ("leg_length", "leg", 0.025), ("arm_length", "arm", 0.02),
     ("shoulder_width", "shoulders", 0.02), ("belly", "litres", 1.8), ("head_size", "head", 0.007)],
)  # fmt: skip
def test_a_beta_changes_what_it_is_named_after(body, name, what, change):
    up, down = measured(body, **{name: 1.0}), measured(body, **{name: -1.0})
    # 15 %: volume is not linear in the shape, and joints come from the regressor
    assert (up[what] - down[what]) / 2 == pytest.approx(change, rel=0.15)
    if name != "height":
        assert abs(up["stature"] - down["stature"]) < 0.01  # stature is height's alone


def test_muscle_is_not_weight_and_gender_widens_shoulders(body):
    muscle = measured(body, muscle=1.0)["litres"] - measured(body, muscle=-1.0)["litres"]
    assert abs(muscle) < 1.0
    assert measured(body, gender=1.0)["shoulders"] > measured(body, gender=-1.0)["shoulders"] + 0.02


def test_no_single_beta_dominates(body):
    rms = body.shapedirs.square().sum(dim=1).mean(dim=0).sqrt()
    share = rms.square() / rms.square().sum()
    assert share.max() < 0.9 and rms.min() > 0.0005


def test_the_pelvis_stays_when_the_shape_changes(body):
    generator = torch.Generator().manual_seed(1)
    _, joints = body.rest(torch.randn(20, 10, dtype=torch.float64, generator=generator))
    assert (joints[:, 0] - joints[:, 0].mean(dim=0)).norm(dim=-1).max() < 0.010


def test_the_canonical_pose_parts_the_legs_by_30_degrees_each(body):
    zeros = torch.zeros(3, dtype=torch.float64)
    _, rest = body.rest(torch.zeros(10, dtype=torch.float64))
    posed = body.pose(torch.zeros(10, dtype=torch.float64), zeros, canonical_pose(body), zeros).joints
    for hip, knee, sign in ((1, 4, 1), (2, 5, -1)):
        before, after = rest[knee] - rest[hip], posed[knee] - posed[hip]
        angle = torch.rad2deg(torch.atan2(after[0], -after[1]) - torch.atan2(before[0], -before[1]))
        assert angle.item() == pytest.approx(30 * sign, abs=1e-3)
    assert torch.allclose(posed[[16, 18, 20]], rest[[16, 18, 20]], atol=1e-6)


@pytest.mark.skipif(not (SHARED / "drive_smpl.npz").exists(), reason="the shared SMPL motion is not on this machine")
def test_an_smpl_motion_keeps_the_body_upright_and_its_volume(body):
    drive = np.load(SHARED / "drive_smpl.npz")
    poses = torch.from_numpy(drive["poses"][::60]).double().unflatten(-1, (24, 3))
    posed = body.pose(torch.zeros(10, dtype=torch.float64), poses[:, 0], poses[:, 1:], torch.zeros(3, dtype=torch.float64))
    a, b, c = posed.vertices[:, body.faces].unbind(dim=-2)
    litres = (a * torch.linalg.cross(b, c)).sum(dim=(-1, -2)) / 6
    rest_litres = measured(body)["litres"] / 1000
    assert (litres / rest_litres - 1).abs().max() < 0.05  # blended joints lose little
