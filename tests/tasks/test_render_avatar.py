"""Films and pictures of an avatar: what is written, what is kept when interrupted, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from model.avatar import Avatar, AvatarOptions, PoseEncoderOptions
from model.avatar_file import save_avatar, with_pose_encoder, with_pose_shapes
from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.motion.library import library_motion
from model.motion.motion import Motion, carried
from model.motion.placement import camera_axes, girth_of_avatar, skeleton_of_avatar
from model.motion.read import save_motion
from model.networks import NetworkOptions
from model.pose_shapes import PoseShapeOptions
from model.uv.atlas import bake_atlas, body_surface
from tasks import render_avatar as module
from tasks.animate import Actor, MotionChoice, actor_from_file, find_motion, fit_motion, is_video, load_actor, repeated
from tasks.artifacts import SubjectPaths, read_image, write_track
from tasks.errors import InputError
from tasks.movie import write_mp4
from tasks.render_avatar import LEFTOVERS, Look, Photographer, background_color, render_avatar

NETWORK = NetworkOptions(
    features=4, feature_std=1.0, smoother_kernel=0, width=16, layers=2, skip_layer=0, branch_layers=0, activation="relu",
    head_std=0.05, offset_scale=0.02, color_gain=4.0, texel_residual=True, scale_start=2.0, scale_floor=1.0, scale_ceiling=3.0, decode_at="texels",
)  # fmt: skip
LOOK = Look(width=48, height=64, supersampling=1, camera="front")


@pytest.fixture(scope="module")
def small_avatar() -> Avatar:
    """An untrained avatar of the open body, few points."""
    body = load_body_model("open")
    torch.manual_seed(0)
    betas = torch.zeros(body.num_betas)
    atlas = bake_atlas(body_surface(body, betas), resolution=40, map_resolution=32, density=None)
    options = AvatarOptions(network=NETWORK, light="linear", pose_encoder=None, cull_margin=0.2)
    return Avatar(atlas, options, body="open", betas=betas).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def actor(small_avatar: Avatar) -> Actor:
    return Actor("me", small_avatar, skeleton_of_avatar(small_avatar), girth_of_avatar(small_avatar), camera_axes(), None)


@pytest.fixture(scope="module")
def wave(actor: Actor) -> Motion:
    return fit_motion(find_motion("wave", actor), actor, MotionChoice(fps=2.0))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if LEFTOVERS in path.name or path.name.endswith(".part")]


# ------------------------------------------------------------------------------------------------------------ films


def test_an_mp4_has_every_frame_its_size_and_its_rate(actor: Actor, wave: Motion, tmp_path: Path) -> None:
    render_avatar(actor, wave, LOOK, tmp_path / "wave.mp4")
    with av.open(str(tmp_path / "wave.mp4")) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert (stream.width, stream.height, float(stream.average_rate)) == (48, 64, 2.0)
    assert len(frames) == wave.num_frames == 10
    assert frames[0][0, 0].min() > 245 and frames[0].min() < 200  # white, and a person on it
    assert leftovers(tmp_path) == []


def test_an_odd_size_loses_its_last_row_and_column(tmp_path: Path) -> None:
    write_mp4(tmp_path / "odd.mp4", iter([np.zeros((33, 17, 3), np.uint8)] * 2), fps=23.976)
    with av.open(str(tmp_path / "odd.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (16, 32)


def test_a_gif_repeats_with_the_right_length(actor: Actor, wave: Motion, tmp_path: Path) -> None:
    render_avatar(actor, wave, LOOK, tmp_path / "wave.gif")
    with Image.open(tmp_path / "wave.gif") as picture:
        lengths = []
        for page in range(picture.n_frames):
            picture.seek(page)
            lengths.append(picture.info["duration"])
        assert picture.info["loop"] == 0 and sum(lengths) == pytest.approx(5000, abs=10)


def test_a_webp_keeps_alpha(actor: Actor, wave: Motion, tmp_path: Path) -> None:
    render_avatar(actor, wave, replace(LOOK, background="transparent"), tmp_path / "wave.webp")
    with Image.open(tmp_path / "wave.webp") as picture:
        assert picture.n_frames == wave.num_frames
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0 and alpha.max() > 250


def test_a_folder_has_one_picture_a_frame_and_a_png_is_the_first(actor: Actor, wave: Motion, tmp_path: Path) -> None:
    look = replace(LOOK, background="transparent")
    render_avatar(actor, wave, look, tmp_path / "frames")
    render_avatar(actor, wave, look, tmp_path / "one.png")
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"{i:06d}.png" for i in range(wave.num_frames)]
    assert np.array_equal(read_image(tmp_path / "frames" / names[0]), read_image(tmp_path / "one.png"))


def test_a_folder_is_replaced_only_where_it_holds_pictures_from_before(actor: Actor, wave: Motion, tmp_path: Path) -> None:
    pictures, mine = tmp_path / "pictures", tmp_path / "mine"
    render_avatar(actor, wave, LOOK, pictures)
    render_avatar(actor, wave, replace(LOOK, background="black"), pictures)
    assert len(list(pictures.iterdir())) == wave.num_frames
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds letter.txt"):
        render_avatar(actor, wave, LOOK, mine)
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]
    assert not leftovers(tmp_path)


def test_alpha_over_a_colour_is_the_picture_on_that_colour(actor: Actor, wave: Motion) -> None:
    path = module.find_camera_path(LOOK, wave)
    pose, camera = actor.placement.carry(wave, slice(0, 1))[0], path.camera(0, 48, 64)
    for samples in (1, 3):
        clear = Photographer(actor, replace(LOOK, background="transparent", supersampling=samples), None).take(pose, camera).astype(float) / 255
        color = np.array([0.2, 0.6, 0.4], np.float32)
        solid = Photographer(actor, replace(LOOK, supersampling=samples), color).take(pose, camera).astype(float) / 255
        composed = clear[..., :3] * clear[..., 3:] + color * (1 - clear[..., 3:])
        assert np.abs(composed - solid).max() < 2.5 / 255  # two roundings to bytes


def test_supersampling_softens_edges_and_keeps_the_mean(actor: Actor, wave: Motion) -> None:
    pose, camera = actor.placement.carry(wave, slice(0, 1))[0], module.find_camera_path(LOOK, wave).camera(0, 48, 64)
    rough, fine = (Photographer(actor, replace(LOOK, supersampling=n), np.ones(3, np.float32)).take(pose, camera).astype(float) for n in (1, 4))
    assert abs(rough.mean() - fine.mean()) < 6 and (rough != fine).any()


def test_the_shadow_lies_on_the_floor_darkest_where_the_body_is_lowest(actor: Actor, wave: Motion) -> None:
    photographer = Photographer(actor, LOOK, np.ones(3, np.float32))
    pose = actor.placement.carry(wave, slice(0, 1))[0]
    shadow = photographer.shadow(actor.avatar.attributes(), pose)
    body = actor.avatar.gaussians(actor.avatar.attributes(), actor.avatar.joint_transforms(pose))
    up = actor.placement.up
    assert ((shadow.means - actor.placement.shift) @ up).abs().max() < 1e-5
    height = (body.means - actor.placement.shift) @ up
    low, high = height < height.quantile(0.05), height > height.quantile(0.95)
    assert shadow.opacities[low].mean() > 20 * shadow.opacities[high].mean()
    assert shadow.scales[low].mean() < shadow.scales[high].mean() and not shadow.colors.any()


# -------------------------------------------------------------------------------------------------------- resuming


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt rendering after some pictures; the list says how many were taken."""
    taken, take = [], Photographer.take

    def counted(self: Photographer, pose: object, camera: object) -> object:
        if len(taken) == count:
            raise KeyboardInterrupt
        taken.append(1)
        return take(self, pose, camera)

    monkeypatch.setattr(Photographer, "take", counted)
    return taken


@pytest.fixture
def interrupted(actor: Actor, wave: Motion, tmp_path: Path) -> Iterator[Path]:
    """A film that was broken off after four of its ten frames."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(4, patch)
        with pytest.raises(KeyboardInterrupt):
            render_avatar(actor, wave, LOOK, tmp_path / "wave")
    yield tmp_path / "wave"


def test_an_interrupted_film_goes_on_from_its_frames(actor: Actor, wave: Motion, interrupted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not interrupted.exists() and len(leftovers(interrupted.parent)) == 1
    taken = stop_after(99, monkeypatch)
    render_avatar(actor, wave, LOOK, interrupted)
    assert len(taken) == wave.num_frames - 4 and leftovers(interrupted.parent) == []
    monkeypatch.undo()
    render_avatar(actor, wave, LOOK, tmp_path / "whole")
    for row in range(wave.num_frames):
        assert (interrupted / f"{row:06d}.png").read_bytes() == (tmp_path / "whole" / f"{row:06d}.png").read_bytes()


@pytest.mark.parametrize("change", [{"camera": "left"}, {"background": "black"}, {"supersampling": 2}])
def test_frames_of_another_look_are_not_taken(actor: Actor, wave: Motion, interrupted: Path, monkeypatch: pytest.MonkeyPatch, change: dict) -> None:
    taken = stop_after(99, monkeypatch)
    render_avatar(actor, wave, replace(LOOK, **change), interrupted)
    assert len(taken) == wave.num_frames


def test_frames_of_another_motion_are_not_taken(actor: Actor, wave: Motion, interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = stop_after(99, monkeypatch)
    render_avatar(actor, fit_motion(find_motion("wave", actor), actor, MotionChoice(fps=2.0, speed=1.3)), LOOK, interrupted)
    assert len(taken) > 4


def test_a_frame_is_whole_or_not_there(interrupted: Path) -> None:
    folder = leftovers(interrupted.parent)[0]
    assert len(list(folder.iterdir())) == 4
    assert all(read_image(path).shape == (64, 48, 3) for path in folder.iterdir())


# ------------------------------------------------------------------------------------------------------- both stages


def test_stage_2_draws_the_pose_networks_surface_in_each_pose(small_avatar: Avatar, wave: Motion) -> None:
    torch.manual_seed(1)
    grown = with_pose_encoder(small_avatar, PoseEncoderOptions(base_width=4, depth=2, reach=None)).requires_grad_(False).eval()
    acting = Actor("me", grown, skeleton_of_avatar(grown), girth_of_avatar(grown), camera_axes(), None)
    seen = []
    decode = grown.attributes
    grown.attributes = lambda pose=None: (seen.append(pose), decode(pose))[1]  # noqa: E731
    photographer = Photographer(acting, LOOK, np.ones(3, np.float32))
    path = module.find_camera_path(LOOK, wave)
    for row in (0, 4):
        photographer.take(camera_axes().carry(wave, slice(row, row + 1))[0], path.camera(row, 48, 64))
    in_pose = [pose for pose in seen if pose is not None]
    assert len(in_pose) == 2 and not torch.equal(in_pose[0].body_pose, in_pose[1].body_pose)


def test_stage_2_draws_the_folds_of_each_pose_and_decodes_once(small_avatar: Avatar, wave: Motion) -> None:
    small_avatar.known_poses = wave.body_pose[:2]
    grown = with_pose_shapes(small_avatar, PoseShapeOptions(keys=2, reach=0.1, fade=0.01)).requires_grad_(False).eval()
    grown.pose_shapes.shapes.data = torch.randn(grown.pose_shapes.shapes.shape, generator=torch.Generator().manual_seed(1))
    acting = Actor("me", grown, skeleton_of_avatar(grown), girth_of_avatar(grown), camera_axes(), None)
    pose, camera = camera_axes().carry(wave, slice(0, 1))[0], module.find_camera_path(LOOK, wave).camera(0, 48, 64)
    photographer = Photographer(acting, replace(LOOK, shadow=False), np.ones(3, np.float32))
    grown.attributes = None  # decoded above; a second time would fail
    ours = photographer.take(pose, camera) / 255
    there = replace(camera, w2c=camera_axes().carry_camera(camera.w2c))
    decoded, white = photographer.drawer.decoded, torch.ones(3)
    folded, plain = (
        grown.render(pose, there, white, backend="cpu", attributes=look).image.numpy()
        for look in (grown.fold(decoded, grown.pose_shapes(pose.body_pose)), decoded)
    )
    assert np.abs(ours - folded).max() < 1.5 / 255 < 0.1 < np.abs(ours - plain).max()


def test_the_picture_is_that_of_the_avatar_itself(actor: Actor, wave: Motion) -> None:
    pose, camera = actor.placement.carry(wave, slice(2, 3))[0], module.find_camera_path(LOOK, wave).camera(2, 48, 64)
    ours = Photographer(actor, replace(LOOK, shadow=False), np.ones(3, np.float32)).take(pose, camera)
    there = replace(camera, w2c=actor.placement.carry_camera(camera.w2c))
    drawn = actor.avatar.render(pose, there, torch.ones(3), backend="cpu").image.numpy()
    assert np.abs(ours / 255 - drawn).max() < 1.5 / 255


# --------------------------------------------------------------------------------------------------- finding a motion


def test_a_subjects_last_stage_is_taken_and_its_clip_is_a_motion(small_avatar: Avatar, actor: Actor, wave: Motion, tmp_path: Path) -> None:
    paths = SubjectPaths(tmp_path / "work", tmp_path / "results")
    paths.stage1.mkdir(parents=True)
    save_avatar(paths.stage1 / "avatar.safetensors", small_avatar)
    pose = carried(wave.pose, actor.skeleton, camera_axes().turn, torch.tensor([0.0, 0.2, 3.0]))
    frames = wave.num_frames
    track = BodyTrack(small_avatar.betas, pose.global_orient, pose.body_pose, pose.transl, torch.eye(3), torch.eye(4), 64, 64, torch.arange(frames), torch.ones(frames), 2.0, "open")
    write_track(paths.stage1 / "track.npz", track)
    loaded = load_actor(paths, None, name="me")
    clip = find_motion("clip", loaded)
    assert clip.num_frames == frames and clip.sole_points[..., 1].amin(dim=(1, 2)).abs().max() < 0.02
    hands = lambda m: (m.joints[:, 20] - m.joints[:, 21]).norm(dim=-1)  # noqa: E731
    assert torch.allclose(hands(clip), hands(wave), atol=1e-4)


def test_a_motion_file_is_fitted_at_the_wanted_rate(actor: Actor, tmp_path: Path) -> None:
    save_motion(tmp_path / "m.npz", library_motion("squat", actor.skeleton, 10.0))
    motion = fit_motion(find_motion(str(tmp_path / "m.npz"), actor), actor, MotionChoice(fps=20.0, speed=2.0))
    assert motion.fps == 20.0 and motion.seconds == pytest.approx(1.8)
    part = fit_motion(find_motion(str(tmp_path / "m.npz"), actor), actor, MotionChoice(start=0.5, end=1.5, fps=10.0))
    assert part.num_frames == 10 and not part.loops


def test_a_file_that_is_called_like_a_library_motion_is_still_a_file(actor: Actor, tmp_path: Path) -> None:
    squat = library_motion("squat", actor.skeleton, 10.0)
    aside = replace(squat, loops=False, transl=squat.transl + torch.tensor([2.0, 0.0, 1.0]))
    save_motion(tmp_path / "walk.npz", aside)
    motion = fit_motion(find_motion(str(tmp_path / "walk.npz"), actor), actor, MotionChoice(fps=10.0))
    assert motion.joints[0, 0, [0, 2]].abs().max() < 0.02
    kept = fit_motion(find_motion(str(tmp_path / "walk.npz"), actor), actor, MotionChoice(fps=10.0, centre=False))
    assert kept.joints[0, 0, 0] == pytest.approx(2.0, abs=0.05)


def test_a_loop_can_be_played_over(wave: Motion) -> None:
    assert repeated(wave, 3).num_frames == 3 * wave.num_frames
    once = replace(wave, loops=False)
    assert repeated(once, 3) is once


def test_videos_are_told_by_their_ending() -> None:
    assert is_video(Path("A.MP4")) and is_video(Path("b.mov")) and not is_video(Path("walk.npz")) and not is_video(Path("a.bvh"))


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "out", "message"),
    [
        ({}, "film.mpeg4", "ends in .mp4"),
        ({"background": "transparent"}, "film.mp4", "keeps no transparency"),
        ({"background": "puce"}, "film.mp4", "#rrggbb, came 'puce'"),
        ({"width": 4}, "film.mp4", "within 16 and 8192"),
        ({"supersampling": 9}, "film.mp4", "supersampling of 1 to 4"),
        ({"turns": float("nan")}, "film.mp4", "number of turns, came nan"),
        ({"camera": "spiral"}, "film.mp4", "turntable"),
        ({"camera": "none.json"}, "film.mp4", "expected a list of keys"),
    ],
)
def test_a_look_that_is_none_is_refused_before_anything_is_written(actor: Actor, wave: Motion, tmp_path: Path, change: dict, out: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        render_avatar(actor, wave, replace(LOOK, **change), tmp_path / out)
    assert list(tmp_path.iterdir()) == []


def test_colours_are_named_or_written() -> None:
    assert background_color("white").tolist() == [1, 1, 1]
    assert np.allclose(background_color("#ff8000"), [1, 128 / 255, 0])
    assert background_color("transparent") is None


@pytest.mark.parametrize("what", ["fly", "none.npz", "clip", "film.mp4"])
def test_a_motion_that_is_not_there_is_refused(actor: Actor, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("film.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match="expected a motion|needs work/|is a video"):
        find_motion(what, actor)


def test_an_avatar_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing"):
        actor_from_file(tmp_path / "no.safetensors", None, name="no")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="does not open"):
        actor_from_file(tmp_path / "bad.safetensors", None, name="bad")
    with pytest.raises(InputError, match="dvc repro train_stage1"):
        load_actor(SubjectPaths(tmp_path, tmp_path), None, name="none")
    with pytest.raises(InputError, match="stage1 or stage2"):
        load_actor(SubjectPaths(tmp_path, tmp_path), "stage3", name="none")
