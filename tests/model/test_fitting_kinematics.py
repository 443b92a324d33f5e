"""Claims about the closed-form derivatives of the posed body, held against autograd through the body model in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.body.body_model import BodyModel, load_body_model
from model.fitting.kinematics import jacobian, place, place_surface, point_slopes, pose_skeleton, surface_slopes
from model.fitting.objective import FitBody, fit_body_of
from model.fitting.rotations import left_jacobian, rotation_between, rotation_from_vector, unit, vector_from_rotation

EXACT = 1e-9  # float64, a dozen products deep
SMPLX_EPSILON = 1e-7  # smplx adds 1e-8 to every angle


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return load_body_model("open", dtype=torch.float64)


@pytest.fixture(scope="module")
def body(model: BodyModel) -> FitBody:
    return fit_body_of(model)


def some_pose(model: BodyModel, frames: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return 0.5 * draw(model.num_betas), draw(frames, 3), draw(frames, 3), 0.4 * draw(frames, model.num_joints - 1, 3)


def turned(root: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """The root rotation after a small turn in world axes."""
    return rotation_from_vector(own[:, :3]) @ root


def test_blended_landmarks_are_those_of_the_body_model(model: BodyModel, body: FitBody) -> None:
    betas, orient, transl, pose = some_pose(model)
    posed = pose_skeleton(body.skeleton, betas, rotation_from_vector(orient), transl, pose)
    reference = model.pose(betas, orient, pose, transl)
    torch.testing.assert_close(posed.joints, reference.joints, atol=SMPLX_EPSILON, rtol=0)
    torch.testing.assert_close(
        place(body.landmarks, posed, betas), model.landmarks(reference.vertices, reference.joints), atol=SMPLX_EPSILON, rtol=0
    )


@pytest.mark.parametrize("kind", ["landmarks", "surface"])
def test_the_closed_form_jacobian_is_autograds(model: BodyModel, body: FitBody, kind: str) -> None:
    betas, orient, transl, pose = some_pose(model)
    root = rotation_from_vector(orient)
    rows = torch.tensor([[0, 500, 9000], [12000, 77, 4000]])
    picked = [10, 15, 19, 31]

    def points(own: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        moved = pose_skeleton(body.skeleton, shape, turned(root, own), transl + own[:, 3:6], pose + own[:, 6:].unflatten(1, (-1, 3)))
        if kind == "landmarks":
            return place(body.landmarks[picked], moved, shape)
        return place_surface(body.surface, rows, moved, shape)

    zero = torch.zeros(2, 6 + 3 * (model.num_joints - 1), dtype=torch.float64)
    by_own, by_shape = torch.autograd.functional.jacobian(points, (zero, betas))
    posed = pose_skeleton(body.skeleton, betas, root, transl, pose)
    axes = torch.eye(3, dtype=torch.float64)[:, None, None].expand(3, *points(zero, betas).shape)
    if kind == "landmarks":
        _, ours, shape = jacobian(body.skeleton, body.landmarks[picked], posed, betas)
        along = [point_slopes(body.skeleton, body.landmarks[picked], posed, betas, axis) for axis in axes]
        torch.testing.assert_close(torch.stack([slopes for slopes, _ in along], -2), ours)
        torch.testing.assert_close(torch.stack([slopes for _, slopes in along], -2), shape)
    else:
        along = [surface_slopes(body.skeleton, body.surface, rows, posed, betas, axis) for axis in axes]
        ours, shape = (torch.stack(parts, -2) for parts in zip(*along, strict=True))
    for frame in range(2):
        torch.testing.assert_close(ours[frame], by_own[frame, :, :, frame], atol=EXACT, rtol=0)
    torch.testing.assert_close(shape, by_shape, atol=EXACT, rtol=0)


@given(st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_a_rotation_vector_survives_the_way_to_a_matrix_and_back(values: list[float]) -> None:
    theta = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(vector_from_rotation(rotation_from_vector(theta)), theta, atol=1e-7, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 0.3, 3.1])
def test_the_left_jacobian_is_how_a_rotation_turns(angle: float) -> None:
    theta = angle * unit(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64))
    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    for k in range(3):
        change = vector_from_rotation(rotation_from_vector(theta + step[k]) @ rotation_from_vector(theta - step[k]).T) / 2e-6
        torch.testing.assert_close(change, left_jacobian(theta)[:, k], atol=1e-6, rtol=0)


def test_the_smallest_rotation_carries_one_direction_to_the_other_even_when_opposite() -> None:
    a = unit(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64))
    b = unit(torch.tensor([[-3.0, 1.0, 0.5], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close((rotation_between(a, b) @ a[..., None]).squeeze(-1), b, atol=1e-9, rtol=0)
