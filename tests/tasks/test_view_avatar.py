"""Claims about the live view: what it shows, that it follows a training without touching it, and that a browser can connect."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import socket
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import viser
from safetensors.torch import save_file
from websockets.sync.client import connect

from model.avatar import Avatar, AvatarOptions
from model.avatar_file import save_avatar, with_pose_shapes
from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.camera import camera_from_focal
from model.export.appearance import posed_splats
from model.motion.skeleton import SMPL_JOINT_NAMES
from model.networks import NetworkOptions
from model.pose import track_pose
from model.pose_shapes import PoseShapeOptions
from model.training import trainable_state
from model.uv.atlas import bake_atlas, body_surface
from tasks.artifacts import subject_paths, write_npz, write_track
from tasks.errors import InputError
from tasks.options import options_from
from tasks.settings import load_settings
from tasks.view_avatar import CLIP, STILL, Scene, Viewer, newest_source, open_viewer, read_scene, watch

PROJECT = Path(__file__).parents[2]
FRAMES = 3


@pytest.fixture(scope="module")
def person() -> tuple[Avatar, BodyTrack]:
    """An untrained avatar of the open body, made as params.yaml would, and three frames of it in the camera's axes."""
    torch.manual_seed(0)
    body = load_body_model("open", dtype=torch.float32)
    section = load_settings(PROJECT / "params.yaml").chosen.train_stage1
    look = AvatarOptions(options_from(section.network, NetworkOptions), section.light, None, section.cull_margin)
    betas = torch.zeros(body.num_betas)
    atlas = bake_atlas(body_surface(body, betas), resolution=24, map_resolution=32, density=None)
    avatar = Avatar(atlas, look, body="open", betas=betas).requires_grad_(False).eval()
    avatar.light.data = 0.1 * torch.randn(avatar.light.shape)
    orient, pose = torch.tensor([[np.pi, 0.0, 0.0]]).repeat(FRAMES, 1), 0.3 * torch.randn(FRAMES, body.num_joints - 1, 3)
    place, camera = torch.tensor([[0.1, 0.2, 3.0]]).repeat(FRAMES, 1), camera_from_focal(500.0, 512, 512)
    ids, trust = torch.arange(FRAMES), torch.ones(FRAMES)
    return avatar, BodyTrack(betas, orient, pose, place, camera.K, camera.w2c, 512, 512, ids, trust, 12.0, "open")


@pytest.fixture(scope="module")
def scene(person: tuple[Avatar, BodyTrack]) -> Scene:
    return Scene(*person, "somebody")


@pytest.fixture
def project(person: tuple[Avatar, BodyTrack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which stage 1 is about to be trained."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    avatar, track = person
    paths = subject_paths("demo")
    write_track(paths.fit_refined / "track.npz", track)
    write_npz(paths.uv / "atlas.npz", **avatar.atlas.arrays())
    return tmp_path


def write_checkpoint(avatar: Avatar, step: int) -> Path:
    folder = subject_paths("demo").checkpoints / "stage1" / f"step_{step:08d}"
    folder.mkdir(parents=True)
    save_file({f"avatar.{name}": t.contiguous() for name, t in trainable_state(avatar).items()}, folder / "state.safetensors")
    (folder / "record.json").write_text(json.dumps({"step": step, "history": [{"psnr": 21.5}]}))
    return folder


def write_finished(person: tuple[Avatar, BodyTrack], avatar: Avatar | None = None) -> Path:
    paths = subject_paths("demo")
    paths.stage1.mkdir(parents=True, exist_ok=True)
    save_avatar(paths.stage1 / "avatar.safetensors", avatar or person[0])
    write_track(paths.stage1 / "track.npz", person[1])
    return paths.stage1 / "avatar.safetensors"


def test_a_frame_of_the_clip_is_what_the_exports_write(scene: Scene, person: tuple[Avatar, BodyTrack]) -> None:
    avatar, track = person
    for row in range(FRAMES):
        wanted = posed_splats(avatar, track_pose(track, row), scene.placement, colors="lit")
        shown = scene.splats(CLIP, row / track.fps, colors="lit", turns={})
        assert np.abs(shown.means - wanted.means).max() < 1e-4
        assert np.abs(shown.colors - wanted.colors).max() < 1e-3


def test_the_folds_of_stage_2_are_shown_in_each_pose(person: tuple[Avatar, BodyTrack]) -> None:
    shared, track = person
    first = copy.deepcopy(shared)
    first.known_poses = track.body_pose
    second = with_pose_shapes(first, PoseShapeOptions(keys=FRAMES, reach=0.1, fade=0.01))
    second.pose_shapes.shapes.data = 0.5 * torch.randn(second.pose_shapes.shapes.shape, generator=torch.Generator().manual_seed(1))
    folding = Scene(second.requires_grad_(False).eval(), track, "somebody")
    wanted = posed_splats(second, track_pose(track, 1), folding.placement, colors="lit")
    shown = folding.splats(CLIP, 1 / track.fps, colors="lit", turns={})
    plain = Scene(first, track, "somebody").splats(CLIP, 1 / track.fps, colors="lit", turns={})
    assert np.abs(shown.means - wanted.means).max() < 1e-4 and np.abs(shown.colors - wanted.colors).max() < 1e-3
    assert np.abs(shown.means - plain.means).max() > 5e-3


def test_a_pose_slider_moves_what_hangs_on_the_joint_and_nothing_else(scene: Scene) -> None:
    avatar = scene.avatar
    elbow, wrist = SMPL_JOINT_NAMES.index("left_elbow"), SMPL_JOINT_NAMES.index("left_wrist")
    before, after = (scene.splats(STILL, 0.0, colors="albedo", turns=turns) for turns in ({}, {elbow: np.array([0.0, 90.0, 0.0])}))
    moved = np.linalg.norm(after.means - before.means, axis=1)
    share = ((avatar.atlas_skin_joints >= wrist) & (avatar.atlas_skin_joints % 2 == 0)).float().mul(avatar.atlas_skin_weights).sum(1).numpy()
    below = np.isin(avatar.atlas_skin_joints.numpy(), [elbow, wrist, 22]) * avatar.atlas_skin_weights.numpy()
    assert moved[below.sum(1) == 0].max() < 1e-5
    assert moved[share > 0.99].min() > 0.1


def test_thinning_out_keeps_what_is_covered(scene: Scene) -> None:
    all_, few = (scene.splats(STILL, 0.0, colors="albedo", turns={}, most=most) for most in (10**6, 100))
    assert len(few) <= 100 < len(all_)
    assert abs((few.scales**2).sum() / (all_.scales**2).sum() - 1) < 0.15


def test_the_newest_of_training_and_finished_avatar_is_shown(project: Path, person: tuple[Avatar, BodyTrack]) -> None:
    paths, settings = subject_paths("demo"), load_settings()
    assert newest_source(paths) is None
    first = write_checkpoint(person[0], 200)
    second = write_checkpoint(person[0], 400)
    os.utime(first, (1, 1))
    assert newest_source(paths).path == second
    scene = read_scene(paths, newest_source(paths), settings)
    assert scene.caption == f"in training: step 400 of {settings.chosen.train_stage1.training.steps}, 21.5 dB"
    finished = write_finished(person)
    os.utime(second, (2, 2))
    assert newest_source(paths).path == finished
    assert read_scene(paths, newest_source(paths), settings).caption == "finished: stage1"


def test_looking_leaves_the_training_folder_as_it_is(project: Path, person: tuple[Avatar, BodyTrack]) -> None:
    folder = write_checkpoint(person[0], 200)
    half = folder.parent / ".step_00000400.77.part"  # what a training writes at this moment
    half.mkdir()
    read_scene(subject_paths("demo"), newest_source(subject_paths("demo")), load_settings())
    assert half.is_dir() and sorted(path.name for path in folder.iterdir()) == ["record.json", "state.safetensors"]


def test_nothing_to_see_is_said_in_words(project: Path) -> None:
    with pytest.raises(InputError, match=re.escape("expected an avatar or a training of 'demo' under work/demo, found neither; run: make avatar")):
        open_viewer("demo", load_settings(), port=0, wait=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def arrives(port: int, wanted: bytes) -> bool:
    """Connect as the page does; whether these bytes are among the first that it is sent (viser sends arrays as they are)."""
    with connect(f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"], max_size=None) as page:
        return any(wanted in page.recv(timeout=10) for _ in range(20))


def test_a_browser_gets_the_page_and_the_splats_on_this_machine_only(project: Path, person: tuple[Avatar, BodyTrack]) -> None:
    write_finished(person)
    viewer, paths, source = open_viewer("demo", load_settings(), port=free_port(), wait=False)
    try:
        assert viewer.server.get_host() == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{viewer.port}/", timeout=10) as page:
            assert page.status == 200 and b"<html" in page.read().lower()
        words = viewer.splats.buffer
        assert arrives(viewer.port, words.tobytes())
        wanted = viewer.scene.splats(CLIP, 0.0, colors="lit", turns={})
        assert np.abs(words[:, :3].copy().view(np.float32) - wanted.means).max() < 1e-4
        rgb = words[:, 7:].copy().view(np.uint8).reshape(-1, 4)[:, :3]
        assert np.abs(rgb / 255.0 - wanted.colors).max() <= 1.01 / 255
    finally:
        viewer.stop()


def test_the_page_follows_a_training(project: Path, person: tuple[Avatar, BodyTrack], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.view_avatar.SECONDS_BETWEEN_LOOKS", 0.05)
    write_checkpoint(person[0], 200)
    settings = load_settings()
    viewer, paths, source = open_viewer("demo", settings, port=free_port(), wait=False)
    try:
        before = viewer.splats.buffer.copy()
        brighter = replace_colors(person[0])
        write_finished(person, brighter)
        watch(viewer, paths, settings, source, seconds=0.6)
        assert viewer.scene.caption == "finished: stage1" == viewer.caption.content
        assert not np.array_equal(before, viewer.splats.buffer)
    finally:
        viewer.stop()


def test_a_file_that_is_half_written_keeps_the_last_good_picture(project: Path, person: tuple[Avatar, BodyTrack], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("tasks.view_avatar.SECONDS_BETWEEN_LOOKS", 0.05)
    write_checkpoint(person[0], 200)
    settings = load_settings()
    viewer, paths, source = open_viewer("demo", settings, port=free_port(), wait=False)
    try:
        broken = paths.checkpoints / "stage1" / "step_00000400"
        broken.mkdir()
        watch(viewer, paths, settings, source, seconds=0.4)
        assert "step 200" in viewer.scene.caption and "cannot be shown yet" in capsys.readouterr().out
    finally:
        viewer.stop()


def replace_colors(avatar: Avatar) -> Avatar:
    """The same avatar in another paint."""
    other = Avatar(avatar.atlas, replace(avatar.options), body=avatar.body, betas=avatar.betas).requires_grad_(False).eval()
    other.load_state_dict(avatar.state_dict())
    other.texel_colors.data += 2.0
    return other


def test_the_motions_of_the_library_play(scene: Scene) -> None:
    one, other = (scene.splats("wave", seconds, colors="lit", turns={}).means for seconds in (0.2, 1.1))
    assert -0.15 < one[:, 1].min() < 0.1 and np.linalg.norm(other - one, axis=1).max() > 0.05


def test_the_clip_plays_when_it_is_asked_to(scene: Scene) -> None:
    viewer = Viewer(scene, port=free_port())
    try:
        assert viewer.caption.content == "somebody" and viewer.time.max == pytest.approx((FRAMES - 1) / 12.0)
        before = viewer.splats.buffer.copy()
        viewer.step(1.5 / 12.0)
        assert np.array_equal(before, viewer.splats.buffer)
        viewer.playing.value = True
        viewer.step(1.5 / 12.0)
        assert viewer.time.value > 0 and not np.array_equal(before, viewer.splats.buffer)
    finally:
        viewer.stop()
