"""Claims about pictures of one avatar: they are those that the avatar renders, from whatever was kept between them."""

from __future__ import annotations

import copy

import pytest
import torch

from model.avatar import Avatar
from model.avatar_file import with_pose_shapes
from model.camera import Camera
from model.drawing import Drawer
from model.pose import track_pose
from model.pose_shapes import PoseShapeOptions


def with_folds(avatar: Avatar) -> Avatar:
    """A second stage whose shapes say something."""
    avatar.known_poses = torch.zeros(3, len(avatar.parents) - 1, 3)
    grown = with_pose_shapes(copy.deepcopy(avatar), PoseShapeOptions(keys=3, reach=1.0, fade=0.01))
    with torch.no_grad():
        grown.pose_shapes.shapes.normal_(generator=torch.Generator().manual_seed(2))
    return grown


def seen_by(avatar: Avatar, clip, draw) -> list[torch.Tensor]:
    """The clip's poses, seen from two places by turns, in two sizes; some poses twice in a row."""
    camera = clip.track.camera
    nearer = camera.w2c.clone()
    nearer[2, 3] -= 0.5
    views = [camera, Camera(camera.K, nearer, camera.width, camera.height).resize(2 * camera.width, 2 * camera.height)]
    background = torch.tensor([0.2, 0.5, 0.9], device=avatar.device)
    return [draw(track_pose(clip.track, row), view, background).image.cpu() for row in (0, 2, 2, 1) for view in views]


@pytest.mark.parametrize("folds", [False, True], ids=["stage 1", "folds"])
def test_a_drawer_draws_what_the_avatar_renders(trained: Avatar, clip, folds: bool) -> None:
    avatar = with_folds(trained) if folds else copy.deepcopy(trained)
    avatar.requires_grad_(False).eval()
    found = seen_by(avatar, clip, Drawer(avatar, backend="cpu").draw)
    wanted = seen_by(avatar, clip, lambda *scene: avatar.render(*scene, backend="cpu"))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert len({one.sum().item() for one in found}) == len(found) - 2  # each pose and view is another picture


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("folds", [False, True], ids=["stage 1", "folds"])
def test_a_recording_on_a_gpu_draws_what_the_cpu_draws(trained: Avatar, clip, folds: bool) -> None:
    pytest.importorskip("gsplat")
    avatar = with_folds(trained) if folds else copy.deepcopy(trained)
    avatar.requires_grad_(False).eval()
    with torch.no_grad():
        avatar.lamp.copy_(torch.tensor([0.6, -0.64, -0.48]))
        avatar.pixel_size.fill_(0.01)
    wanted = seen_by(avatar, clip, Drawer(avatar, backend="cpu").draw)
    avatar.to("cuda")
    found = seen_by(avatar, clip, Drawer(avatar, backend="gsplat").draw)
    rendered = seen_by(avatar, clip, lambda *scene: avatar.render(*scene, backend="gsplat"))
    for one, same, other in zip(found, rendered, wanted, strict=True):
        assert (one - same).abs().mean() < 1e-5
        assert (one - other).abs().mean() < 0.01  # gsplat cuts footprints farther out (model/render/cuda.py)
