"""Claims about the fit of hands and face: bends, jaw and expression come back from their points, whatever the body's wrist does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.model.smplx_sample import write_smplx

from model.body.body_model import BodyModel, load_body_model
from model.fitting.fit_parts import PartSpreads, SeenPart, fit_part, misses_px
from model.fitting.parts import Part, parts_of
from model.fitting.rotations import rotation_from_vector
from tasks.settings import load_settings

FRAMES, FOCAL, MIDDLE = 24, 1000.0, (256.0, 256.0)
PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BodyModel:
    return load_body_model(write_smplx(tmp_path_factory.mktemp("body")), num_expressions=2, dtype=torch.float64)


@pytest.fixture(scope="module")
def parts(model: BodyModel) -> dict[str, Part]:
    return {part.name: part for part in parts_of(model, torch.zeros(model.num_betas))}


@pytest.fixture(scope="module")
def spreads() -> PartSpreads:
    return PartSpreads(**load_settings(PARAMS).fit_smpl.hands_and_face.spreads.model_dump())


def filmed(part: Part, values: torch.Tensor, *, turned: float = 0.0, shifted: float = 0.0, noise: float = 0.0, facing: float = 0.4) -> SeenPart:
    """The part's true points in a picture, beside a body whose joint is turned (rad) and shifted (m) from the truth."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    way = torch.linspace(-0.3, 0.3, len(values), dtype=torch.float64)
    upright = torch.stack([torch.full_like(way, np.pi), 0 * way, 0 * way], 1)  # y down, z away from the camera
    root = rotation_from_vector(torch.stack([facing + way, way, 0.5 * way], 1)) @ rotation_from_vector(upright)
    place = torch.tensor([0.1, -0.1, 1.2], dtype=torch.float64).expand(len(values), 3)
    points = torch.stack([part.place(v) for v in values]) @ root.mT + place[:, None]
    pixels = FOCAL * points[..., :2] / points[..., 2:] + torch.tensor(MIDDLE, dtype=torch.float64)
    pixels = pixels + noise * draw(*pixels.shape)
    wrong = rotation_from_vector(turned * torch.nn.functional.normalize(draw(3), dim=0))
    shift = shifted * torch.nn.functional.normalize(draw(3), dim=0)
    return SeenPart(pixels, torch.ones(len(values), dtype=torch.bool), root @ wrong, place + shift, FOCAL, MIDDLE, torch.arange(len(values)) / 10.0)


def closing(part: Part) -> torch.Tensor:
    """A hand that closes, its index finger staying out."""
    values = part.usual.expand(FRAMES, -1).clone()
    values[:, :12] += torch.linspace(-0.2, 0.8, FRAMES, dtype=torch.float64)[:, None]
    values[:, 0:3] = torch.tensor([0.2, 0.2, 0.1], dtype=torch.float64)
    return values.clamp(part.lowest, part.highest)


def off_degrees(part: Part, found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (part.rotations(found) - part.rotations(truth)).norm(dim=-1).rad2deg()


@pytest.mark.parametrize("name", ["left hand", "right hand"])
@pytest.mark.parametrize(("turned", "shifted", "noise", "most"), [(0.0, 0.0, 0.0, 5.0), (0.2, 0.02, 0.0, 8.0), (0.2, 0.02, 1.0, 9.0), (0.6, 0.04, 1.0, 12.0)])
def test_fingers_bend_as_their_points_say_though_the_bodys_wrist_is_off(parts, spreads, name, turned, shifted, noise, most):
    part, truth = parts[name], closing(parts[name])
    seen = filmed(part, truth, turned=turned, shifted=shifted, noise=noise)
    state = fit_part(part, seen, spreads)
    relaxed = off_degrees(part, part.usual.expand_as(truth), truth)
    off = off_degrees(part, state.values, truth)
    assert off.median() < most / 2 and off.mean() < most and off.mean() < relaxed.mean() / 2
    assert misses_px(part, seen, spreads, state).median() < 1.5 + noise


def test_a_finger_that_is_stretched_differs_from_those_that_are_closed(parts, spreads):
    part, truth = parts["left hand"], closing(parts["left hand"])
    values = fit_part(part, filmed(part, truth, turned=0.15, shifted=0.02), spreads).values[-1]
    assert values[:3].sum() < 1.2 < values[3:6].sum()


def test_a_hand_that_is_lost_relaxes_and_a_short_gap_is_bridged(parts, spreads):
    part = parts["left hand"]
    truth = part.usual.expand(FRAMES, -1).clone()
    truth[:, :12] += 0.8
    seen = filmed(part, truth)
    lost = seen.there.clone()
    lost[5], lost[10:] = False, False
    values = fit_part(part, replace(seen, there=lost), spreads).values[:, 3]
    assert (values[5] - truth[5, 3]).abs() < 0.15
    assert (values[-1] - part.usual[3]).abs() < 0.1 < (values[9] - part.usual[3]).abs()


def test_points_of_another_hand_in_a_frame_hardly_matter(parts, spreads):
    part, truth = parts["right hand"], closing(parts["right hand"])
    seen = filmed(part, truth)
    points = seen.points.clone()
    points[12] += 400.0
    clean, disturbed = (fit_part(part, replace(seen, points=p), spreads).values for p in (seen.points, points))
    assert off_degrees(part, clean, disturbed).median() < 1.0


def test_jaw_and_expression_come_back_though_the_head_is_off(parts, spreads):
    part = parts["face"]
    truth = torch.zeros(FRAMES, 5, dtype=torch.float64)
    truth[:, 0] = 0.15 + 0.15 * torch.sin(torch.arange(FRAMES) * 0.6)  # talks
    truth[:, 3], truth[12:, 4] = 1.5 * torch.cos(torch.arange(FRAMES) * 0.3), 1.5  # smiles, lifts the brows
    state = fit_part(part, filmed(part, truth, turned=0.1, shifted=0.02, noise=0.3, facing=0.1), spreads)
    jaw = state.values[:, 0]
    assert (jaw - truth[:, 0]).abs().median().rad2deg() < 3 and np.corrcoef(jaw, truth[:, 0])[0, 1] > 0.95
    assert np.corrcoef(state.values[:, 3], truth[:, 3])[0, 1] > 0.9
    assert state.values[12:, 4].mean() - state.values[:12, 4].mean() > 0.7


def test_limits_are_kept(parts, spreads):
    part = parts["left hand"]
    values = fit_part(part, filmed(part, part.usual.expand(FRAMES, -1) + 3.0), spreads).values
    assert (values >= part.lowest).all() and (values <= part.highest).all()


def test_a_body_without_finger_joints_has_no_parts():
    model = load_body_model("open")
    assert parts_of(model, torch.zeros(model.num_betas)) == []


def test_a_bent_hand_is_the_body_models_own(model, parts):
    part, truth = parts["left hand"], closing(parts["left hand"])[-1]
    pose = torch.zeros(model.num_joints - 1, 3, dtype=torch.float64)
    pose[[j - 1 for j in part.joints]] = part.rotations(truth)
    still = torch.zeros(3, dtype=torch.float64)
    joints = model.pose(torch.zeros(model.num_betas, dtype=torch.float64), still, pose, still).joints
    ours = part.place(truth)[[5, 6, 7, 8]]
    index = [model.joint_names.index(f"left_index{k}") for k in (1, 2, 3)]
    torch.testing.assert_close(ours[:3], joints[index] - joints[part.root], atol=1e-6, rtol=0)
    assert ours[3, 1] < ours[0, 1] < 0.02  # closed fingers point down, where the palm looks
