"""Claims about linear blend skinning."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.body.body_model import canonical_pose, load_body_model
from model.body.skinning import blend_transforms, skin_points

GENERATOR_SEED = 0


@pytest.fixture
def scene() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(GENERATOR_SEED)
    rand = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    rotations = torch.linalg.qr(rand(2, 5, 3, 3)).Q
    rotations = rotations * torch.linalg.det(rotations).sign()[..., None, None]
    transforms = torch.eye(4, dtype=torch.float64).repeat(2, 5, 1, 1)
    transforms[..., :3, :3], transforms[..., :3, 3] = rotations, rand(2, 5, 3)
    return {"points": rand(7, 3), "weights": torch.softmax(3 * rand(7, 5), dim=-1), "transforms": transforms}


def one_rigid(scene: dict[str, torch.Tensor]) -> torch.Tensor:
    """All joints moving as the first one does."""
    return scene["transforms"][:, :1].expand(-1, 5, -1, -1)


def test_joints_that_move_together_move_points_rigidly(scene):
    transforms = one_rigid(scene)
    expected = scene["points"] @ transforms[:, 0, :3, :3].mT + transforms[:, 0, None, :3, 3]
    assert torch.allclose(skin_points(scene["points"], scene["weights"], transforms), expected, atol=1e-12)


def test_a_batch_equals_its_frames_one_by_one(scene):
    together = skin_points(scene["points"], scene["weights"], scene["transforms"])
    for frame in range(2):
        assert torch.allclose(skin_points(scene["points"], scene["weights"], scene["transforms"][frame]), together[frame], atol=1e-14)


def test_a_point_of_one_joint_follows_that_joint(scene):
    weights = torch.nn.functional.one_hot(torch.arange(7) % 5, 5).double()
    blended = blend_transforms(weights, scene["transforms"])
    assert torch.allclose(blended, scene["transforms"][:, torch.arange(7) % 5])


def test_skinning_has_right_gradients(scene):
    inputs = (scene["points"].requires_grad_(), scene["weights"].requires_grad_(), scene["transforms"].requires_grad_())
    assert torch.autograd.gradcheck(skin_points, inputs, fast_mode=True)


def test_skinning_from_the_canonical_pose_lands_where_the_body_model_does():
    body = load_body_model("open", dtype=torch.float64).subset(torch.arange(0, 13000, 13))
    body = replace(body, posedirs=None, pose_basis=None)  # skinning alone: an avatar's points have no pose correctives
    generator = torch.Generator().manual_seed(GENERATOR_SEED)
    betas = torch.randn(10, dtype=torch.float64, generator=generator)
    pose = 0.3 * torch.randn(2, 23, 3, dtype=torch.float64, generator=generator)
    zeros = torch.zeros(3, dtype=torch.float64)
    cano = body.pose(betas, zeros, canonical_pose(body), zeros)
    posed = body.pose(betas, zeros, pose, zeros)
    # Undo the canonical blend a point at a time, as an avatar's points are made, then skin from the rest pose.
    rest = torch.linalg.solve(blend_transforms(body.lbs_weights, cano.rest_to_posed), torch.nn.functional.pad(cano.vertices, (0, 1), value=1.0)[..., None])[..., :3, 0]
    assert torch.allclose(skin_points(rest, body.lbs_weights, posed.rest_to_posed), posed.vertices, atol=1e-9)
