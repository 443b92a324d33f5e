"""Claims about views that are finer than the clip: no gaps open between points that the clip could not tell apart."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model.avatar import Attributes, Avatar
from model.avatar_file import load_avatar, save_avatar
from model.body.track import BodyTrack
from model.camera import Camera
from model.export.appearance import posed_splats
from model.motion.placement import Placement
from model.pose import track_pose
from model.resolution import resolved_scales, resolved_scales_reference

FINER = 6


@pytest.fixture
def sparse(avatar: Avatar) -> tuple[Avatar, Attributes]:
    """Red points that hold together by the rasteriser's blur only."""
    look = avatar.attributes()
    red = torch.tensor([1.0, 0.0, 0.0]).expand_as(look.albedo)
    return avatar.requires_grad_(False).eval(), Attributes(torch.zeros_like(look.offsets), red, 0.2 * avatar.atlas_spacing)


def seen(avatar: Avatar, look: Attributes, track: BodyTrack, camera: Camera) -> torch.Tensor:
    with torch.no_grad():
        return avatar.render(track_pose(track, 0), camera, torch.zeros(3), backend="cpu", attributes=look).alpha


def middle(alpha: torch.Tensor) -> torch.Tensor:
    """A window well inside the tube, which stands in the middle of the picture."""
    height, width = alpha.shape
    return alpha[int(0.4 * height) : int(0.6 * height), int(0.48 * width) : int(0.52 * width)]


def finer(camera: Camera) -> Camera:
    return camera.resize(FINER * camera.width, FINER * camera.height)


def test_a_finer_picture_of_the_avatar_has_no_gaps(sparse: tuple[Avatar, Attributes], track: BodyTrack) -> None:
    avatar, look = sparse
    gaps = middle(seen(avatar, look, track, finer(track.camera)))
    avatar.note_resolution(track, torch.arange(track.num_frames))
    closed = middle(seen(avatar, look, track, finer(track.camera)))
    assert float(gaps.min()) < 0.5 and float(closed.min()) > 0.8


def test_a_finer_picture_averaged_down_is_the_clips_own(sparse: tuple[Avatar, Attributes], track: BodyTrack) -> None:
    avatar, look = sparse
    wanted = seen(avatar, look, track, track.camera)
    plain, resolved = [], []
    for found in (plain, resolved):
        fine = seen(avatar, look, track, finer(track.camera))
        found.append(torch.nn.functional.avg_pool2d(fine[None], FINER)[0])
        avatar.note_resolution(track, torch.arange(track.num_frames))
    off = [float((found[0] - wanted).abs().mean()) for found in (plain, resolved)]
    assert off[1] < 0.5 * off[0]


def test_pictures_as_coarse_as_the_clip_or_coarser_stay_as_they_are(sparse: tuple[Avatar, Attributes], track: BodyTrack) -> None:
    avatar, look = sparse
    half = track.camera.resize(track.camera.width // 2, track.camera.height // 2)
    before = seen(avatar, look, track, half)
    avatar.note_resolution(track, torch.arange(track.num_frames))
    assert torch.equal(seen(avatar, look, track, half), before)


def test_the_clips_own_pictures_hardly_change(sparse: tuple[Avatar, Attributes], track: BodyTrack) -> None:
    avatar, look = sparse
    before = seen(avatar, look, track, track.camera)
    avatar.note_resolution(track, torch.arange(track.num_frames))
    after = seen(avatar, look, track, track.camera)
    assert float((after - before).abs().max()) < 0.05, "even where points hold together by the blur only"
    assert float((after - before).abs().sum() / before.sum()) < 0.01


def test_the_finest_frame_counts_and_is_kept_in_the_file(avatar: Avatar, track: BodyTrack, tmp_path) -> None:
    nearer = dataclasses.replace(track, transl=track.transl * torch.linspace(1, 0.5, track.num_frames)[:, None])
    avatar.note_resolution(nearer, torch.arange(track.num_frames))
    whole = float(avatar.pixel_size)
    avatar.note_resolution(nearer, torch.tensor([0]))
    assert whole == pytest.approx(0.5 * float(avatar.pixel_size), rel=1e-3)
    assert float(avatar.pixel_size) == pytest.approx(3.0 / 100.0, rel=0.1)  # 3 m away, a focal length of 100 px
    save_avatar(tmp_path / "a.safetensors", avatar)
    assert torch.equal(load_avatar(tmp_path / "a.safetensors").pixel_size, avatar.pixel_size)


def test_exported_splats_are_as_large_as_the_clip_showed_them(avatar: Avatar, track: BodyTrack) -> None:
    avatar.requires_grad_(False)
    look = avatar.attributes()
    avatar.note_resolution(track, torch.arange(track.num_frames))
    splats = posed_splats(avatar, track_pose(track, 0), Placement(torch.eye(3), torch.zeros(3)), colors="albedo")
    added = splats.scales**2 - look.scales.numpy() ** 2
    assert added == pytest.approx(0.3 * float(avatar.pixel_size) ** 2, rel=1e-3)


def test_compiled_scales_equal_their_float64_twin(avatar: Avatar, track: BodyTrack) -> None:
    means = avatar.atlas_points_rest + torch.tensor([0.1, 0.0, 3.0])
    scales, camera = 0.3 * avatar.atlas_spacing, finer(track.camera)
    for size in (0.0, 0.028, 0.1):
        found = resolved_scales(means, scales, camera, torch.tensor(size))
        exact = camera.to(dtype=torch.float64)
        wanted = resolved_scales_reference(means.double(), scales.double(), exact, torch.tensor(size, dtype=torch.float64))
        assert torch.allclose(found.double(), wanted, rtol=1e-5)


def test_scales_of_a_view_have_gradients(track: BodyTrack) -> None:
    means = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.0, 3.0]], dtype=torch.float64)
    scales = torch.tensor([0.01, 0.02], dtype=torch.float64, requires_grad=True)
    camera, size = track.camera.to(dtype=torch.float64), torch.tensor(0.02, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: resolved_scales(means, s, camera, size), scales)
    single = scales.detach().float().requires_grad_()
    assert torch.autograd.grad(resolved_scales(means.float(), single, track.camera, size.float()).sum(), single)[0].abs().min() > 0
