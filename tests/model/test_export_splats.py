"""Claims about the splat files, each read back by a reader that is not ours."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.avatar import Avatar
from model.body.track import BodyTrack
from model.export.appearance import lit_colors, mean_lit_colors
from model.export.ply import FROM_STAGE, ply_properties, write_ply
from model.export.splat_glb import EXTENSION, write_splat_glb
from model.export.splats import SH_C0, Splats
from model.export.spz import write_spz
from model.pose import track_pose

gsply = pytest.importorskip("gsply")
plyfile = pytest.importorskip("plyfile")
pygltflib = pytest.importorskip("pygltflib")

TENTH_MM = 1e-4
ONE_STEP = 1 / 255


@pytest.fixture
def splats() -> Splats:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(300, 3))
    arrays = (
        rng.uniform(-2, 2, (300, 3)),
        normals / np.linalg.norm(normals, axis=1, keepdims=True),
        rng.uniform(0.002, 0.03, 300),
        rng.uniform(0, 1, (300, 3)),
        np.where(np.arange(300) % 2, 1.0, rng.uniform(0.1, 1, 300)),
    )
    return Splats(*(a.astype(np.float32) for a in arrays))


@pytest.fixture
def lamp_lit(avatar: Avatar) -> Avatar:
    """The tube, untrained, under a light from the camera's side (the world's -z) and a little from above."""
    avatar.light.data = torch.tensor([[0.0, 0, 0], [-0.1, -0.1, -0.1], [-0.3, -0.25, -0.2]])
    return avatar.requires_grad_(False).eval()


@pytest.mark.parametrize("full", [False, True])
def test_plyfile_reads_places_colours_sizes_and_opacities_of_a_ply(splats: Splats, full: bool) -> None:
    data = write_ply(splats, full=full)
    vertex = plyfile.PlyData.read(io.BytesIO(data))["vertex"]
    columns = lambda *names: np.stack([vertex[n] for n in names], axis=1).astype(np.float64)  # noqa: E731
    assert np.abs(columns("x", "y", "z") * [1, -1, -1] - splats.means).max() < TENTH_MM
    assert np.abs(columns("nx", "ny", "nz") * [1, -1, -1] - splats.normals).max() < 1e-6
    assert np.abs(0.5 + 0.28209479 * columns("f_dc_0", "f_dc_1", "f_dc_2") - splats.colors).max() < ONE_STEP
    assert np.abs(np.exp(columns("scale_0", "scale_1", "scale_2")) / splats.scales[:, None] - 1).max() < 1e-5
    assert np.isfinite(vertex["opacity"]).all()
    assert np.abs(1 / (1 + np.exp(-vertex["opacity"].astype(np.float64))) - splats.opacities).max() < ONE_STEP
    assert (columns("rot_0", "rot_1", "rot_2", "rot_3") == [1, 0, 0, 0]).all()


def test_the_full_ply_has_the_62_properties_of_a_degree_3_model_in_248_bytes(splats: Splats) -> None:
    vertex = plyfile.PlyData.read(io.BytesIO(write_ply(splats, full=True)))["vertex"]
    names = [p.name for p in vertex.properties]
    assert len(names) == 62 and vertex.data.dtype.itemsize == 248
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:54] == [f"f_rest_{i}" for i in range(45)] and names[54:] == ply_properties(full=False)[9:]
    assert all(not vertex[f"f_rest_{i}"].any() for i in range(45))


@pytest.mark.parametrize(("full", "degree"), [(False, 0), (True, 3)])
def test_a_splat_reader_takes_the_ply_for_a_model_of_the_right_degree(splats: Splats, full: bool, degree: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(write_ply(splats, full=full))
    read = gsply.plyread(path)
    assert read.get_sh_degree() == degree
    assert np.abs(read.means * FROM_STAGE - splats.means).max() < TENTH_MM
    assert np.abs(0.5 + SH_C0 * read.sh0 - splats.colors).max() < ONE_STEP


def test_a_splat_reader_finds_the_same_splats_in_an_spz(splats: Splats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gsply.spz, "_decode_spz_kernel", gsply.spz._decode_spz_kernel.py_func)  # compiling it takes 20 s
    path = tmp_path / "a.spz"
    path.write_bytes(write_spz(splats))
    read = gsply.read_spz(path)
    assert np.abs(read.means - splats.means).max() < TENTH_MM
    assert np.abs(0.5 + SH_C0 * read.sh0 - splats.colors).max() < ONE_STEP
    assert np.abs(1 / (1 + np.exp(-read.opacities.astype(np.float64).ravel())) - splats.opacities).max() < ONE_STEP
    assert np.abs(read.scales - splats.log_scales[:, None]).max() <= 1 / 32 + 1e-6  # the format's step is 1/16
    assert np.abs(np.abs(read.quats) - [1, 0, 0, 0]).max() < 1e-6


def test_an_spz_refuses_what_its_fixed_point_cannot_hold(splats: Splats) -> None:
    far = Splats(splats.means + np.float32(200), splats.normals, splats.scales, splats.colors, splats.opacities)
    with pytest.raises(ValueError, match="within 128 m"):
        write_spz(far)


def test_a_gltf_reader_finds_the_same_splats_under_the_khronos_extension(splats: Splats) -> None:
    data = write_splat_glb(splats, name="somebody")
    document = pygltflib.GLTF2.load_from_bytes(data)
    (primitive,) = document.meshes[0].primitives
    assert document.extensionsUsed == [EXTENSION] and primitive.mode == 0
    assert primitive.extensions[EXTENSION]["kernel"] == "ellipse"
    assert primitive.extensions[EXTENSION]["colorSpace"] == "srgb_rec709_display"
    attributes = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])["meshes"][0]["primitives"][0]["attributes"]

    def read(name: str) -> np.ndarray:
        accessor = document.accessors[attributes[name]]
        view = document.bufferViews[accessor.bufferView]
        kind = {5121: np.uint8, 5126: np.float32}[accessor.componentType]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor.type]
        return np.frombuffer(document.binary_blob(), kind, accessor.count * width, view.byteOffset).reshape(-1, width)

    assert np.abs(read("POSITION") - splats.means).max() < TENTH_MM
    assert np.abs(read(f"{EXTENSION}:SCALE") - splats.scales[:, None]).max() < 1e-8
    assert np.abs(read(f"{EXTENSION}:OPACITY")[:, 0] - splats.opacities).max() < ONE_STEP
    assert (read(f"{EXTENSION}:ROTATION") == [0, 0, 0, 1]).all()
    assert np.abs(0.5 + SH_C0 * read(f"{EXTENSION}:SH_DEGREE_0_COEF_0") - splats.colors).max() < ONE_STEP
    linear = read("COLOR_0")[:, :3] / 255.0  # what a viewer without the extension shows, after its own sRGB encoding
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    bright = splats.colors > 0.3  # below, a step of linear light is more than a step of display
    assert np.abs(shown - splats.colors)[bright].max() < 1.5 * ONE_STEP


def test_lit_colours_at_rest_are_the_light_of_the_frames_that_faced_the_camera(lamp_lit: Avatar, track: BodyTrack) -> None:
    attributes = lamp_lit.attributes()
    lit = mean_lit_colors(lamp_lit, attributes, track)
    frames, facing = [], []
    for row in range(track.num_frames):
        means, normals = lamp_lit.posed_surface(attributes, track_pose(track, row))
        frames.append(lit_colors(lamp_lit, attributes.albedo, means, normals))
        facing.append(-(normals * torch.nn.functional.normalize(means, dim=-1)).sum(-1))  # the camera is at the origin
    frames, facing = torch.stack(frames), torch.stack(facing)
    assert (lit >= frames.amin(0) - 1e-6).all() and (lit <= frames.amax(0) + 1e-6).all()
    best = facing.argmax(0)
    towards = frames[best, torch.arange(len(best))]
    away = frames[facing.argmin(0), torch.arange(len(best))]
    assert (lit - towards).abs().mean() < (lit - away).abs().mean()


def test_without_light_lit_colours_are_the_albedo(track: BodyTrack, lamp_lit: Avatar) -> None:
    lamp_lit.light.data = torch.zeros_like(lamp_lit.light)
    attributes = lamp_lit.attributes()
    assert torch.allclose(mean_lit_colors(lamp_lit, attributes, track), attributes.albedo, atol=1e-6)


def test_posed_points_are_where_the_renderer_puts_its_gaussians(lamp_lit: Avatar, track: BodyTrack) -> None:
    pose, attributes = track_pose(track, 3), lamp_lit.attributes()
    means, _ = lamp_lit.posed_surface(attributes, pose)
    assert torch.allclose(means, lamp_lit.gaussians(attributes, lamp_lit.joint_transforms(pose)).means, atol=1e-5)
