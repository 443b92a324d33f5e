"""Bone lengths as shape coefficients."""

import pytest
import torch

from model.body.body_model import BodyModel, load_body_model
from model.body.bone_lengths import BONE_LENGTHS, LENGTHENING


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open", dtype=torch.float64)


def lengthened(body: BodyModel, name: str, value: float) -> tuple[torch.Tensor, torch.Tensor]:
    betas = body.v_template.new_zeros(body.num_betas)
    betas[body.beta_names.index(name)] = value
    return body.rest(betas)


def bones(body: BodyModel, joints: torch.Tensor) -> torch.Tensor:
    return (joints - joints[body.parents.clamp_min(0)]).norm(dim=-1)


@pytest.mark.parametrize("name", BONE_LENGTHS)
def test_a_coefficient_lengthens_its_own_bones_and_no_others(body: BodyModel, name: str) -> None:
    _, joints = lengthened(body, name, 2.0)
    expected = bones(body, body.j_template)
    expected[[body.joint_names.index(end) for end in BONE_LENGTHS[name]]] *= 1 + 2 * LENGTHENING
    torch.testing.assert_close(bones(body, joints), expected)


def test_skin_goes_along_with_its_bone_without_a_tear(body: BodyModel) -> None:
    for name in BONE_LENGTHS:
        vertices, joints = lengthened(body, name, 1.0)
        moved = vertices - body.v_template
        edges = torch.cat([body.faces[:, [0, 1]], body.faces[:, [1, 2]]])
        length = (body.v_template[edges[:, 0]] - body.v_template[edges[:, 1]]).norm(dim=-1)
        stretch = (moved[edges[:, 0]] - moved[edges[:, 1]]).norm(dim=-1) / length.clamp_min(1e-3)
        assert stretch.quantile(0.999) < 0.35  # a tenth along the bone; more only where skinning weights change fast
        most = (joints - body.j_template).norm(dim=-1).max()
        assert moved.norm(dim=-1).max() <= most * 1.001


def test_a_hand_moves_as_a_whole_when_the_forearm_grows(body: BodyModel) -> None:
    vertices, joints = lengthened(body, "forearm_length", 1.0)
    fingers = body.lbs_weights[:, body.joint_names.index("left_hand")] > 0.999
    step = (joints - body.j_template)[body.joint_names.index("left_wrist")]
    torch.testing.assert_close((vertices - body.v_template)[fingers], step.expand(int(fingers.sum()), 3), atol=2e-4, rtol=0)


def test_coefficients_that_are_left_out_are_zero(body: BodyModel) -> None:
    betas = torch.linspace(-1, 1, 10, dtype=torch.float64)
    for short, full in zip(body.rest(betas), body.rest(torch.cat([betas, betas.new_zeros(body.num_betas - 10)])), strict=True):
        torch.testing.assert_close(short, full)
