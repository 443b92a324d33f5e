"""Points followed from a drawing into a picture end where the surface really is, and say how sure of it they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.avatar import Attributes, Avatar
from model.body.track import BodyTrack
from model.camera import Camera
from model.fitting.follow import follow_points
from model.pose import BodyPose, track_pose
from tests.conftest import make_avatar

HEIGHT_PX = 160.0  # of the tube in a picture of 256 px


@pytest.fixture(scope="module")
def painted(atlas) -> tuple[Avatar, Attributes]:
    """A tube with blotches of 5 to 10 cm all over it."""
    x, y, z = (40 * atlas.points_rest).T
    blotches = 0.5 + 0.2 * torch.sin(x + 1.3 * y) + 0.2 * torch.sin(1.7 * z - 0.9 * y + 1.0) + 0.1 * torch.sin(2.3 * y)
    paint = torch.stack([blotches, 0.8 * blotches, 1 - blotches], -1).clamp(0, 1)
    look = Attributes(torch.zeros_like(atlas.points_rest), paint, 0.7 * atlas.spacing)
    return make_avatar(atlas, light="none"), look


@pytest.fixture(scope="module")
def camera(track: BodyTrack) -> Camera:
    return track.camera.resize(256, 256)


def see(painted: tuple[Avatar, Attributes], pose: BodyPose, camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    avatar, look = painted
    with torch.no_grad():
        drawn = avatar.render(pose, camera, torch.zeros(3), backend="cpu", attributes=look)
    return drawn.image.clamp(0, 1), drawn.alpha.clamp(0, 1)


def pixels_of(avatar: Avatar, pose: BodyPose, camera: Camera, rows: np.ndarray) -> np.ndarray:
    transforms = avatar.joint_transforms(pose)[avatar.atlas_skin_joints[rows], :3]
    blended = (transforms * avatar.atlas_skin_weights[rows, :, None, None]).sum(1)
    places = (blended[:, :, :3] @ avatar.atlas_points_rest[rows, :, None]).squeeze(-1) + blended[:, :, 3]
    return camera.project(places).detach().numpy()


def follow(painted, drawn_in: BodyPose, image: torch.Tensor, mask: torch.Tensor, camera: Camera):
    avatar, look = painted
    everything = np.ones(avatar.atlas.num_points, bool)
    return follow_points(avatar, look, drawn_in, camera, image, mask, everything, height_px=HEIGHT_PX, backend="cpu")


def test_points_are_found_where_the_true_pose_has_them(painted, track: BodyTrack, camera: Camera) -> None:
    true = track_pose(track, 1)
    fitted = dataclasses.replace(true, transl=true.transl + torch.tensor([0.02, -0.015, 0.0]), body_pose=true.body_pose + 0.03)
    found = follow(painted, fitted, *see(painted, true, camera), camera)
    wanted = pixels_of(painted[0], true, camera, found.points)
    before = np.linalg.norm(pixels_of(painted[0], fitted, camera, found.points) - wanted, axis=1)
    after = np.linalg.norm(found.targets - wanted, axis=1)
    assert len(found.points) > 150
    assert np.median(before) > 2.0
    assert np.median(after) < 0.4, np.median(after)
    assert np.allclose(found.moved, np.linalg.norm(found.targets - pixels_of(painted[0], fitted, camera, found.points), axis=1), atol=1e-3)


def test_points_that_face_away_or_miss_the_person_are_left_out(painted, track: BodyTrack, camera: Camera) -> None:
    pose = track_pose(track, 0)
    image, mask = see(painted, pose, camera)
    found = follow(painted, pose, image, mask, camera)
    normals = painted[0].atlas_normals_rest[found.points]
    turned = painted[0].joint_transforms(pose)[0, :3, :3] @ normals.mT
    assert (turned[2] < 0.3).all()  # the camera looks along +z
    upper = mask.clone()
    upper[128:] = 0
    below = follow(painted, pose, image, upper, camera)
    assert below.targets[:, 1].max() < 130 < found.targets[:, 1].max()


def test_a_plain_surface_is_followed_with_less_certainty_than_a_patterned_one(painted, track: BodyTrack, camera: Camera) -> None:
    avatar, look = painted
    pose = track_pose(track, 0)
    plain = (avatar, dataclasses.replace(look, albedo=torch.full_like(look.albedo, 0.3)))
    sure, unsure = (
        np.linalg.det(follow(person, pose, *see(person, pose, camera), camera).sharpness) for person in (painted, plain)
    )
    assert np.median(unsure) < 0.2 * np.median(sure)
