"""Coverage of the body: what faces the camera is seen, what is hidden, masked out or outside of the picture is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from model.body.body_model import BodyModel, load_body_model
from model.body.track import BodyTrack
from model.coverage import BodyPart, body_parts, facing_camera, look_at_body, outer_area, share_seen, turned_by
from model.fitting.outline import render_faces

SIZE = 192  # px; a 1.7 m body fills most of it
ALL = np.full((SIZE, SIZE), 255, np.uint8)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open")


@pytest.fixture(scope="module")
def parts(body: BodyModel) -> dict[str, BodyPart]:
    return {part.name: part for part in body_parts(body, torch.zeros(1))}


@pytest.fixture(scope="module")
def area(body: BodyModel) -> np.ndarray:
    return outer_area(body, torch.zeros(1))


def turning(body: BodyModel, yaws: list[float], **changes) -> BodyTrack:
    """The body at rest before a camera, turned about its own vertical: 0 faces the camera."""
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    orient = []
    for yaw in yaws:
        c, s = math.cos(yaw), math.sin(yaw)
        turn = upright @ torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        orient.append(torch.from_numpy(Rotation.from_matrix(turn.numpy()).as_rotvec()).float())
    count = len(yaws)
    values = dict(
        betas=torch.zeros(1), global_orient=torch.stack(orient), body_pose=torch.zeros(count, body.num_joints - 1, 3),
        transl=torch.tensor([[0.0, 0.25, 3.0]]).repeat(count, 1), K=torch.tensor([[1.3 * SIZE, 0, SIZE / 2], [0, 1.3 * SIZE, SIZE / 2], [0, 0, 1]]),
        w2c=torch.eye(4), width=SIZE, height=SIZE, frame_ids=torch.arange(count), confidence=torch.ones(count), fps=10.0, body="open",
    )  # fmt: skip
    return BodyTrack(**values | changes)


def shares(seen: np.ndarray, area: np.ndarray, parts: dict[str, BodyPart]) -> dict[str, float]:
    return {name: share_seen(seen.astype(int), area, part.vertices) for name, part in parts.items()}


def test_the_front_is_seen_from_the_front_and_the_back_from_the_back(body: BodyModel, parts: dict, area: np.ndarray) -> None:
    track = turning(body, [0.0, math.pi])
    front, back = (shares(look_at_body(body, track, row, ALL).seen, area, parts) for row in range(2))
    for name, most in (("torso", 0.75), ("head", 0.5)):  # a head's front has ears, eyelids and a chin, which look aside
        assert front[f"{name}, front"] > most and front[f"{name}, back"] < 0.05
        assert back[f"{name}, back"] > most and back[f"{name}, front"] < 0.05
    assert front["soles"] < 0.05


def test_from_the_left_only_the_left_half_is_seen(body: BodyModel, parts: dict, area: np.ndarray) -> None:
    """The body's left is at +x; turned by -90 degrees it is towards the camera. The T-pose's near arm hides the far one."""
    seen = look_at_body(body, turning(body, [-math.pi / 2]), 0, ALL).seen.astype(int)
    near, far = (share_seen(seen, area, side) for side in parts["legs"].sides)
    assert near > 0.4 and far < 0.1


def test_what_the_mask_leaves_out_is_not_seen(body: BodyModel) -> None:
    track = turning(body, [0.0])
    whole = look_at_body(body, track, 0, ALL)
    upper = ALL.copy()
    upper[SIZE // 2 :] = 0
    part = look_at_body(body, track, 0, upper)
    rest = body.rest(torch.zeros(1))[0].numpy()
    assert not part.seen[rest[:, 1] < -0.5].any() and part.seen[rest[:, 1] > 0.1].sum() == whole.seen[rest[:, 1] > 0.1].sum()
    assert not look_at_body(body, track, 0, np.zeros_like(ALL)).seen.any()


def test_outside_of_the_picture_nothing_is_seen(body: BodyModel) -> None:
    away = torch.tensor([[5.0, 0.25, 3.0]])
    assert not look_at_body(body, turning(body, [0.0], transl=away), 0, ALL).seen.any()
    behind = torch.tensor([[0.0, 0.0, -3.0]])
    assert not look_at_body(body, turning(body, [0.0], transl=behind), 0, ALL).seen.any()


def test_the_outline_of_a_body_that_is_its_own_mask_overlaps_it_whole(body: BodyModel) -> None:
    track = turning(body, [0.4])
    with torch.no_grad():
        pixels = track.camera.project(body.pose(track.betas, track.global_orient[0], track.body_pose[0], track.transl[0]).vertices)
    owner, _ = render_faces(pixels.double().numpy(), np.full(len(pixels), 3.0), body.faces.numpy(), SIZE, SIZE)
    mask = np.where(owner >= 0, 255, 0).astype(np.uint8)
    assert look_at_body(body, track, 0, mask).iou > 0.999
    assert look_at_body(body, track, 0, np.roll(mask, 10, axis=1)).iou < 0.8


def test_parts_hold_the_whole_body_once_but_for_the_armpits(body: BodyModel, parts: dict, area: np.ndarray) -> None:
    count = sum(part.vertices.astype(int) for name, part in parts.items() if name != "armpits")
    assert (count == 1).all()
    for name, part in parts.items():
        assert area[part.vertices].sum() > 0, name
        if part.sides is not None:
            left, right = (area[side].sum() for side in part.sides)
            assert left == pytest.approx(right, rel=0.05), name
            assert (part.sides[0] | part.sides[1] == part.vertices).all() and not (part.sides[0] & part.sides[1]).any()


def test_the_area_is_that_of_the_skin_and_leaves_the_mouth_out(body: BodyModel, area: np.ndarray) -> None:
    vertices = body.rest(torch.zeros(1))[0].numpy()[body.faces.numpy()]
    total = np.linalg.norm(np.cross(vertices[:, 1] - vertices[:, 0], vertices[:, 2] - vertices[:, 0]), axis=1).sum() / 2
    assert 1.4 < area.sum() < total, "a grown person has 1.5 to 2.2 m^2 of skin"


def test_shares_count_area_and_frames() -> None:
    frames, area = np.array([0, 1, 5]), np.array([1.0, 2.0, 1.0])
    every = np.ones(3, bool)
    assert share_seen(frames, area, every) == 0.75 and share_seen(frames, area, every, at_least=5) == 0.25
    assert share_seen(frames, area, ~every) == 0.0


def test_a_turn_is_measured_by_the_widest_gap(body: BodyModel) -> None:
    yaws = np.linspace(-0.7, 0.7, 8)
    facing = facing_camera(turning(body, yaws.tolist()))
    assert np.abs(facing) == pytest.approx(np.abs(yaws), abs=1e-5)
    assert turned_by(facing) == pytest.approx(1.4, abs=1e-5)
    assert turned_by(facing + math.pi) == pytest.approx(1.4, abs=1e-5), "across the seam of the circle too"
    assert turned_by(np.linspace(0, 2 * math.pi, 36, endpoint=False)) == pytest.approx(2 * math.pi * 35 / 36)
    assert turned_by(np.zeros(1)) == 0.0