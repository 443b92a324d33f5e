"""Claims about the export command: what it writes, and what it says to those who ask for what there is not."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from model.avatar import Avatar, AvatarOptions
from model.avatar_file import save_avatar
from model.body.body_model import BodyModel, load_body_model
from model.body.track import BodyTrack
from model.camera import camera_from_focal
from model.export.appearance import posed_splats
from model.motion.placement import placement_of_track, skeleton_of_avatar
from model.networks import NetworkOptions
from model.pose import track_pose
from model.uv.atlas import bake_atlas, body_surface
from tasks import export_avatar
from tasks.artifacts import subject_paths, write_track
from tasks.errors import InputError
from tasks.export_avatar import FORMATS, export, main

plyfile = pytest.importorskip("plyfile")

PROJECT = Path(__file__).parents[2]
NETWORK = NetworkOptions(
    features=4, feature_std=1.0, smoother_kernel=0, width=8, layers=2, skip_layer=0, branch_layers=0, activation="relu",
    head_std=0.05, offset_scale=0.02, color_gain=4.0, texel_residual=True, scale_start=0.6, scale_floor=0.5, scale_ceiling=1.5,
)  # fmt: skip
FRAMES = 4
FIRST_FRAME = 10


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open", dtype=torch.float32)


@pytest.fixture(scope="module")
def person(body: BodyModel) -> tuple[Avatar, BodyTrack]:
    """An untrained avatar of the open body under a light, and a clip of it in the camera's axes (y down)."""
    torch.manual_seed(0)
    betas = 0.3 * torch.randn(body.num_betas)
    atlas = bake_atlas(body_surface(body, betas), resolution=24, map_resolution=32, density=None)
    avatar = Avatar(atlas, AvatarOptions(network=NETWORK, light_degree=2, pose_encoder=None, cull_margin=None), body="open", betas=betas)
    avatar.light.data = 0.1 * torch.randn(8, 3)
    orient = torch.tensor([[np.pi, 0.0, 0.0]]).repeat(FRAMES, 1)  # upright where y points down, facing the camera
    pose, place = 0.3 * torch.randn(FRAMES, body.num_joints - 1, 3), torch.tensor([[0.1, 0.2, 3.0]]) + 0.02 * torch.randn(FRAMES, 3)
    camera = camera_from_focal(500.0, 512, 512)
    ids = torch.arange(FRAMES) + FIRST_FRAME
    track = BodyTrack(betas, orient, pose, place, camera.K, camera.w2c, 512, 512, ids, torch.ones(FRAMES), 12.0, "open")
    return avatar.requires_grad_(False).eval(), track


@pytest.fixture
def subject(person: tuple[Avatar, BodyTrack], body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """That person as the pipeline leaves it, in an empty folder with the committed settings; the body is loaded once."""
    monkeypatch.setattr(export_avatar, "load_body_model", lambda *_, **__: body)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    paths = subject_paths("demo")
    paths.stage1.mkdir(parents=True)
    save_avatar(paths.stage1 / "avatar.safetensors", person[0])
    write_track(paths.stage1 / "track.npz", person[1])
    return "demo"


def test_every_format_is_written_once_and_whole(subject: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(export_avatar, "TEXELS", 64)
    main(["--format", "all"])
    files = sorted(path.name for path in Path("exports/demo").iterdir())
    assert files == sorted(subject + form.ending for form in FORMATS.values())
    said = capsys.readouterr().out
    assert all(f"exports/demo/{name} (" in said for name in files)
    assert Path("exports/demo/demo-mesh.glb").read_bytes()[:4] == b"glTF"


def test_the_same_avatar_gives_the_same_bytes(subject: str) -> None:
    (first,) = export(subject, ["bundle"], out=Path("a"))
    (second,) = export(subject, ["bundle"], out=Path("b"))
    assert first.read_bytes() == second.read_bytes()


def test_at_rest_the_person_stands_on_the_floor_head_up(subject: str) -> None:
    (path,) = export(subject, ["ply"], out=Path("rest.ply"))
    vertex = plyfile.PlyData.read(path)["vertex"]
    height = -vertex["y"]  # this file's y points down
    assert -0.03 < height.min() < 0.01 and 1.2 < height.max() < 2.4
    assert vertex["x"].max() - vertex["x"].min() > vertex["z"].max() - vertex["z"].min()  # arms to the sides


def test_a_frame_is_the_renderers_own_gaussians_carried_to_the_stage(subject: str, person: tuple[Avatar, BodyTrack]) -> None:
    avatar, track = person
    (path,) = export(subject, ["ply"], pose=FIRST_FRAME + 2, out=Path("frame.ply"))
    vertex = plyfile.PlyData.read(path)["vertex"]
    means = np.stack([vertex[axis] for axis in "xyz"], axis=1) * [1, -1, -1]
    pose = track_pose(track, 2)
    gaussians = avatar.gaussians(avatar.attributes(pose), avatar.joint_transforms(pose))
    placement = placement_of_track(track, skeleton_of_avatar(avatar))
    back = placement.carry_points(torch.from_numpy(means).float())
    assert (back - gaussians.means).abs().max() < 1e-4
    shown = 0.5 + 0.28209479 * np.stack([vertex[f"f_dc_{c}"] for c in range(3)], axis=1)
    assert np.abs(shown - gaussians.colors.numpy()).max() < 1 / 255
    assert np.abs(means[:, [0, 2]].mean(0)).max() < 0.3 and -0.2 < means[:, 1].min() < 0.1


def test_albedo_leaves_the_light_out(subject: str, person: tuple[Avatar, BodyTrack]) -> None:
    avatar, _ = person
    colors = {}
    for name in ("lit", "albedo"):
        (path,) = export(subject, ["ply"], colors=name, out=Path(f"{name}.ply"))
        vertex = plyfile.PlyData.read(path)["vertex"]
        colors[name] = 0.5 + 0.28209479 * np.stack([vertex[f"f_dc_{c}"] for c in range(3)], axis=1)
    assert np.abs(colors["albedo"] - avatar.attributes().albedo.numpy()).max() < 1 / 255
    assert np.abs(colors["lit"] - colors["albedo"]).mean() > 0.02


def test_the_loader_in_the_docs_poses_and_lights_a_bundle_as_the_avatar_does(subject: str, person: tuple[Avatar, BodyTrack]) -> None:
    avatar, track = person
    (path,) = export(subject, ["bundle"])
    text = (PROJECT / "docs" / "bundle.md").read_text(encoding="utf-8")
    loader: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1), loader)  # noqa: S102  (our own documentation)
    bundle = loader["load"](path)
    motion = bundle["motions"][0]
    assert (motion["name"], motion["frames"], motion["fps"]) == ("clip", FRAMES, 12.0)
    placement = placement_of_track(track, skeleton_of_avatar(avatar))
    for row in range(FRAMES):
        wanted = posed_splats(avatar, track_pose(track, row), placement, colors="lit")
        means, normals = loader["pose"](bundle, motion, row)
        assert np.abs(means - wanted.means).max() < 1e-4
        assert np.abs(loader["light"](bundle, normals) - wanted.colors).max() < 1 / 255
    assert np.abs(bundle["splats"]["scales"] - avatar.attributes().scales.numpy()).max() < 1e-7


def test_a_bundle_is_an_ordinary_archive_of_two_files(subject: str) -> None:
    (path,) = export(subject, ["bundle"])
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        assert archive.testzip() is None and archive.namelist() == ["bundle.json", "arrays.bin"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"formats": ["obj"]}, "unknown format 'obj'; expected one of: ply"),
        ({"formats": []}, "at least one format"),
        ({"formats": ["ply"], "colors": "sepia"}, "unknown colours 'sepia'; expected one of: lit, albedo"),
        ({"formats": ["ply"], "stage": "stage3"}, "unknown stage 'stage3'"),
        ({"formats": ["ply"], "stage": "stage2"}, "run: dvc repro train_stage2"),
        ({"formats": ["ply"], "pose": 99}, "expected a frame of the clip, 10 to 13, came 99"),
        ({"formats": ["ply"], "pose": "sitting"}, "'rest' or the number of a frame"),
        ({"formats": ["ply", "spz"], "out": Path("one.ply")}, "give a folder"),
        ({"formats": ["spz"], "out": Path("one.ply")}, "ends in .spz"),
        ({"formats": ["ply"], "out": Path("params")}, "expected a folder at params, found a file"),
        ({"formats": ["ply"], "out": Path("params/below")}, "could not write params/below/demo.ply"),
    ],
)
def test_what_cannot_be_written_is_refused_in_words(subject: str, arguments: dict, said: str) -> None:
    Path("params").write_text("")
    with pytest.raises(InputError, match=re.escape(said)):
        export(subject, **arguments)
    assert not Path("exports").exists()


def test_an_avatar_that_is_not_there_is_missed_by_name(subject: str) -> None:
    with pytest.raises(InputError, match="expected an avatar called 'nobody' under work/, found: demo"):
        export("nobody", ["ply"])


def test_a_damaged_avatar_is_refused(subject: str) -> None:
    (subject_paths(subject).stage1 / "avatar.safetensors").write_bytes(b"not an avatar")
    with pytest.raises(InputError, match="does not open as safetensors"):
        export(subject, ["ply"])


def test_a_mesh_of_another_body_is_refused(subject: str, person: tuple[Avatar, BodyTrack]) -> None:
    avatar, _ = person
    other = Avatar(avatar.atlas, avatar.options, body="SMPL_NEUTRAL", betas=avatar.betas)
    save_avatar(subject_paths(subject).stage1 / "avatar.safetensors", other)
    with pytest.raises(InputError, match="trained on .SMPL_NEUTRAL"):
        export(subject, ["mesh-glb"])
