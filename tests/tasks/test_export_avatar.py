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
from model.avatar_file import save_avatar, with_pose_shapes
from model.body.body_model import BodyModel, load_body_model
from model.body.track import BodyTrack
from model.camera import camera_from_focal
from model.export.appearance import posed_splats
from model.motion.placement import placement_of_track, skeleton_of_avatar
from model.networks import NetworkOptions
from model.pose import BodyPose, track_pose
from model.pose_shapes import PoseShapeOptions
from model.uv.atlas import bake_atlas, body_surface
from tasks import export_formats
from tasks.animate import MotionChoice, find_motion, fit_motion, load_actor
from tasks.artifacts import subject_paths, write_track
from tasks.errors import InputError
from tasks.export_avatar import FORMATS, export, main

plyfile = pytest.importorskip("plyfile")

PROJECT = Path(__file__).parents[2]
NETWORK = NetworkOptions(
    features=4, feature_std=1.0, smoother_kernel=0, width=8, layers=2, skip_layer=0, branch_layers=0, activation="relu",
    head_std=0.05, offset_scale=0.02, color_gain=4.0, texel_residual=True, scale_start=0.6, scale_floor=0.5, scale_ceiling=1.5, decode_at="texels",
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
    avatar = Avatar(atlas, AvatarOptions(network=NETWORK, light="lamp", pose_encoder=None, cull_margin=None), body="open", betas=betas)
    avatar.light.data = 0.1 * torch.randn(5, 3) + torch.tensor([0.0, 0.0, 0.0, 0.4, 0.0])[:, None]
    avatar.lamp = torch.nn.functional.normalize(torch.tensor([0.4, -0.7, -0.5]), dim=0)  # from above, before the person
    orient = torch.tensor([[np.pi, 0.0, 0.0]]).repeat(FRAMES, 1)  # upright where y points down, facing the camera
    pose, place = 0.3 * torch.randn(FRAMES, body.num_joints - 1, 3), torch.tensor([[0.1, 0.2, 3.0]]) + 0.02 * torch.randn(FRAMES, 3)
    camera = camera_from_focal(500.0, 512, 512)
    ids = torch.arange(FRAMES) + FIRST_FRAME
    track = BodyTrack(betas, orient, pose, place, camera.K, camera.w2c, 512, 512, ids, torch.ones(FRAMES), 12.0, "open")
    return avatar.requires_grad_(False).eval(), track


@pytest.fixture
def subject(person: tuple[Avatar, BodyTrack], body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """That person as the pipeline leaves it, in an empty folder with the committed settings; the body is loaded once."""
    monkeypatch.setattr("tasks.body.load_body_model", lambda *_, **__: body)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    paths = subject_paths("demo")
    paths.stage1.mkdir(parents=True)
    save_avatar(paths.stage1 / "avatar.safetensors", person[0])
    write_track(paths.stage1 / "track.npz", person[1])
    return "demo"


def test_every_format_is_written_once_and_whole(subject: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(export_formats, "TEXELS", 64)
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
    back = torch.from_numpy(means).float() @ placement.turn.T + placement.shift
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


def documented_loader() -> dict:
    """The functions of docs/bundle.md, as they stand there."""
    text = (PROJECT / "docs" / "bundle.md").read_text(encoding="utf-8")
    loader: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1), loader)  # noqa: S102  (our own documentation)
    return loader


def test_the_loader_in_the_docs_poses_and_lights_a_bundle_as_the_avatar_does(subject: str, person: tuple[Avatar, BodyTrack]) -> None:
    avatar, track = person
    (path,) = export(subject, ["bundle"])
    loader = documented_loader()
    bundle = loader["load"](path)
    assert bundle["folds"] is None
    motion = bundle["motions"][0]
    assert (motion["name"], motion["frames"], motion["fps"]) == ("clip", FRAMES, 12.0)
    placement = placement_of_track(track, skeleton_of_avatar(avatar))
    for row in range(FRAMES):
        wanted = posed_splats(avatar, track_pose(track, row), placement, colors="lit")
        means, normals = loader["pose"](bundle, motion, row)
        assert np.abs(means - wanted.means).max() < 1e-4
        assert np.abs(loader["light"](bundle, normals, loader["shares"](bundle, means, normals)) - wanted.colors).max() < 1 / 255
    assert np.abs(bundle["splats"]["scales"] - avatar.attributes().scales.numpy()).max() < 1e-7


def test_the_loader_in_the_docs_shows_the_sheen_that_a_viewer_sees(subject: str, person: tuple[Avatar, BodyTrack]) -> None:
    avatar, track = person
    (path,) = export(subject, ["bundle"])
    loader = documented_loader()
    bundle = loader["load"](path)
    placement, eye = placement_of_track(track, skeleton_of_avatar(avatar)), torch.tensor([0.5, -0.3, 0.0])
    pose = track_pose(track, 0)
    wanted = avatar.gaussians(avatar.attributes(pose), avatar.joint_transforms(pose), seen_from=eye)
    means, normals = loader["pose"](bundle, bundle["motions"][0], 0)
    ray = ((eye - placement.shift) @ placement.turn).numpy() - means
    facing = (normals * ray).sum(1) / np.linalg.norm(ray, axis=1)
    share = loader["shares"](bundle, means, normals)
    assert np.abs(loader["light"](bundle, normals, share, facing=facing) - wanted.colors.numpy()).max() < 1 / 255
    assert np.abs(loader["light"](bundle, normals, share) - wanted.colors.numpy()).max() > 0.02, "sheen is to be seen"
    free = np.maximum(normals @ placement.turn.numpy().T @ avatar.lamp.numpy(), 0) - 0.25
    assert np.abs(loader["light"](bundle, normals, free, facing=facing) - wanted.colors.numpy()).max() > 0.05, "and shadows"


@pytest.fixture(scope="module")
def folding(person: tuple[Avatar, BodyTrack]) -> Avatar:
    """The same person of stage 2: folds of centimetres, other ones in each frame."""
    avatar, track = person
    avatar.known_poses = track.body_pose
    second = with_pose_shapes(avatar, PoseShapeOptions(keys=FRAMES, reach=0.1, fade=0.01))
    second.pose_shapes.shapes.data = 0.5 * torch.randn(second.pose_shapes.shapes.shape, generator=torch.Generator().manual_seed(1))
    return second.requires_grad_(False).eval()


@pytest.fixture
def folded(subject: str, folding: Avatar) -> str:
    paths = subject_paths(subject)
    paths.stage2.mkdir(parents=True)
    save_avatar(paths.stage2 / "avatar.safetensors", folding)
    return subject


def ply_on_stage(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places and colours that plyfile reads."""
    vertex = plyfile.PlyData.read(path)["vertex"]
    means = np.stack([vertex[axis] for axis in "xyz"], axis=1) * [1, -1, -1]
    return means, 0.5 + 0.28209479 * np.stack([vertex[f"f_dc_{c}"] for c in range(3)], axis=1)


def shown_by(avatar: Avatar, track: BodyTrack, pose: BodyPose) -> tuple[np.ndarray, np.ndarray]:
    """The renderer's own Gaussians of a pose, on the stage."""
    gaussians = avatar.gaussians(avatar.attributes(pose), avatar.joint_transforms(pose))
    placement = placement_of_track(track, skeleton_of_avatar(avatar))
    return ((gaussians.means - placement.shift) @ placement.turn).numpy(), gaussians.colors.numpy()


def test_splats_of_a_frame_carry_its_folds_unless_stage_1_is_asked_for(folded: str, folding: Avatar, person: tuple[Avatar, BodyTrack]) -> None:
    first, track = person
    pose = track_pose(track, 1)
    for stage, avatar in ((None, folding), ("stage2", folding), ("stage1", first)):
        (path,) = export(folded, ["ply"], pose=FIRST_FRAME + 1, stage=stage, out=Path(f"{stage}.ply"))
        (means, colors), (wanted_means, wanted_colors) = ply_on_stage(path), shown_by(avatar, track, pose)
        assert np.abs(means - wanted_means).max() < 1e-4 and np.abs(colors - wanted_colors).max() < 1 / 255
    assert np.abs(shown_by(folding, track, pose)[0] - shown_by(first, track, pose)[0]).max() > 5e-3, "folds are to be seen"


def test_splats_at_rest_have_the_folds_of_the_keys_that_are_near_rest(folded: str, person: tuple[Avatar, BodyTrack]) -> None:
    near = with_pose_shapes(person[0], PoseShapeOptions(keys=FRAMES, reach=0.1, fade=0.01))
    near.pose_shapes.keys.zero_()  # all keys at rest
    near.pose_shapes.shapes.data = 0.5 * torch.randn(near.pose_shapes.shapes.shape, generator=torch.Generator().manual_seed(1))
    near = near.requires_grad_(False).eval()
    save_avatar(subject_paths(folded).stage2 / "avatar.safetensors", near)
    (path,) = export(folded, ["ply"], colors="albedo", out=Path("rest.ply"))
    still = BodyPose(torch.zeros(3), torch.zeros(len(near.parents) - 1, 3), torch.zeros(3))
    look = near.attributes(still)
    means, colors = ply_on_stage(path)
    lifted = (near.atlas_points_rest + look.offsets).numpy()
    assert np.abs((means - lifted) - (means - lifted).mean(0)).max() < 1e-4
    assert np.abs(colors - look.albedo.numpy()).max() < 1 / 255
    assert (look.offsets - near.attributes().offsets).abs().max() > 1e-3


def test_every_splat_format_of_a_frame_holds_the_same_folds(folded: str, folding: Avatar, person: tuple[Avatar, BodyTrack], monkeypatch: pytest.MonkeyPatch) -> None:
    gsply = pytest.importorskip("gsply")
    monkeypatch.setattr(gsply.spz, "_decode_spz_kernel", gsply.spz._decode_spz_kernel.py_func)  # compiling it takes 20 s
    ply, full, spz, glb = export(folded, ["ply", "ply62", "spz", "splat-glb"], pose=FIRST_FRAME + 1)
    wanted, colors = shown_by(folding, person[1], track_pose(person[1], 1))
    assert np.abs(ply_on_stage(full)[0] - wanted).max() < 1e-4
    read = gsply.read_spz(spz)
    assert np.abs(read.means - wanted).max() < 1e-4 and np.abs(0.5 + 0.28209479 * read.sh0 - colors).max() < 1 / 255
    data = glb.read_bytes()
    positions = np.frombuffer(data, "<f4", 3 * len(wanted), 20 + int.from_bytes(data[12:16], "little") + 8).reshape(-1, 3)
    assert np.abs(positions - wanted).max() < 1e-4, "POSITION is the first of the binary part"


def test_a_motion_is_written_frame_by_frame_and_one_frame_of_it_alone(folded: str, folding: Avatar, person: tuple[Avatar, BodyTrack]) -> None:
    files = export(folded, ["ply"], pose="squat", fps=2.0)
    actor = load_actor(subject_paths(folded), None, name=folded)
    motion = fit_motion(find_motion("squat", actor), actor, MotionChoice(fps=2.0))
    assert [path.name for path in files] == [f"demo-squat-{row:04d}.ply" for row in range(len(files))]
    assert files[0].parent == Path("exports/demo/squat") and len(files) == motion.num_frames > 3
    (alone,) = export(folded, ["ply"], pose="squat:1", fps=2.0)
    assert alone == Path("exports/demo/demo-squat-0001.ply") and alone.read_bytes() == files[1].read_bytes()
    means, _ = ply_on_stage(alone)
    assert np.abs(means - shown_by(folding, person[1], actor.placement.carry(motion)[1])[0]).max() < 1e-4


def test_formats_that_hold_no_pose_are_written_once_beside_the_frames(folded: str) -> None:
    files = export(folded, ["bvh", "ply"], pose="clip", fps=12.0)
    assert sorted({path.suffix for path in files}) == [".bvh", ".ply"] and sum(path.suffix == ".bvh" for path in files) == 1


def test_a_folder_may_have_a_dot_in_its_name(folded: str) -> None:
    Path("my.wave.bvh").write_bytes(export(folded, ["bvh"])[0].read_bytes())
    files = export(folded, ["ply"], pose="my.wave.bvh", fps=12.0)
    Path("out.d").mkdir()
    assert [path.name for path in export(folded, ["ply"], pose="my.wave.bvh", fps=12.0, out=Path("out.d"))] == [path.name for path in files]
    assert {path.parent for path in files} == {Path("exports/demo/my.wave")}


def test_each_of_several_motions_is_a_bvh_of_its_own(folded: str) -> None:
    actor = load_actor(subject_paths(folded), None, name=folded)
    motions = [fit_motion(find_motion(word, actor), actor, MotionChoice(fps=10.0)) for word in ("squat", "walk")]
    files = export(folded, ["bvh"], motions=motions)
    assert [path.name for path in files] == ["demo-squat.bvh", "demo-walk.bvh"]
    assert [path.read_bytes() for path in files] == [export(folded, ["bvh"], motions=[motion])[0].read_bytes() for motion in motions]


def test_a_frame_of_the_clip_is_not_written_over_the_avatar_at_rest(subject: str) -> None:
    (rest,), (posed,) = export(subject, ["ply"]), export(subject, ["ply"], pose=11)
    assert rest != posed and rest.exists() and posed.name == "demo-0011.ply"


def test_the_loader_in_the_docs_folds_a_bundle_as_the_avatar_does(folded: str, folding: Avatar, person: tuple[Avatar, BodyTrack]) -> None:
    track = person[1]
    (path,) = export(folded, ["bundle"])
    loader = documented_loader()
    bundle = loader["load"](path)
    motion = bundle["motions"][0]
    for row in range(FRAMES):
        change = loader["folds"](bundle, motion, row)
        means, normals = loader["pose"](bundle, motion, row, change)
        wanted_means, wanted_colors = shown_by(folding, track, track_pose(track, row))
        assert np.abs(means - wanted_means).max() < 1e-4
        assert np.abs(loader["light"](bundle, normals, loader["shares"](bundle, means, normals), change) - wanted_colors).max() < 1 / 255
    assert np.abs(change[:, :3]).max() > 5e-3 and np.abs(change[:, 3:]).max() > 0.05


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
        ({"formats": ["ply"], "pose": "walk:9999"}, "expected a frame of walk, 0 to "),
        ({"formats": ["ply"], "pose": "walk", "fps": 2.0, "out": Path("one.ply")}, "is one file, but the motion has"),
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


def test_a_file_where_a_motions_folder_would_be_is_not_written_over(folded: str) -> None:
    Path("exports/demo").mkdir(parents=True)
    Path("exports/demo/walk").write_text("mine")
    with pytest.raises(InputError, match="expected a folder at exports/demo/walk, found a file"):
        export(folded, ["ply"], pose="walk", fps=2.0)
    assert Path("exports/demo/walk").read_text() == "mine"


@pytest.mark.parametrize("pose", ["7²", "walk:²", "--5"])
def test_what_is_no_number_of_a_frame_is_refused_in_words(subject: str, pose: str) -> None:
    with pytest.raises(InputError, match="'rest' or the number of a frame"):
        main(["--subject", subject, "--format", "ply", f"--pose={pose}"])


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
