"""Claims about the textured mesh, read back by readers that are not ours, and by Khronos' validator where node is."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.export.joint_motion import JointMotion
from model.export.mesh import AvatarMesh, bake_mesh, spread_to_vertices, without_folds
from model.export.mesh_glb import write_mesh_glb
from model.export.png import encode_png
from model.export.splat_glb import EXTENSION, write_splat_glb
from model.export.splats import Splats
from model.uv.atlas import BodySurface, UvAtlas

pygltflib = pytest.importorskip("pygltflib")
trimesh = pytest.importorskip("trimesh")

TENTH_MM = 1e-4
NAMES, PARENTS = ("hips", "chest", "head"), [-1, 0, 1]
LIFT = np.array([0.0, 0.6, 0.0])
PROJECT = Path(__file__).parents[2]
VALIDATOR = """
const validator = require('gltf-validator');
validator.validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


@pytest.fixture(scope="module")
def look(atlas: UvAtlas) -> dict[str, np.ndarray]:
    """Splats of the tube: wider towards the top, and coloured by where they are."""
    points = atlas.points_rest.double().numpy()
    outwards = points * [1, 0, 1] / np.linalg.norm(points * [1, 0, 1], axis=1, keepdims=True)
    return {
        "offsets": outwards * (0.03 + 0.02 * points[:, 1:2]),
        "scales": np.full(len(points), 0.01),
        "colors": 0.5 + 0.4 * np.column_stack([points[:, 0] / 0.15, points[:, 1] / 0.6, points[:, 2] / 0.15]),
    }


@pytest.fixture(scope="module")
def mesh(tube: BodySurface, atlas: UvAtlas, look: dict[str, np.ndarray]) -> AvatarMesh:
    return bake_mesh(tube, atlas, **look, texels=128, thickness=0.0)


@pytest.fixture(scope="module")
def motion() -> JointMotion:
    rng = np.random.default_rng(3)
    turns = Rotation.from_rotvec(0.6 * rng.normal(size=(12, 3))).as_quat().reshape(4, 3, 4)
    return JointMotion("wave", turns, rng.normal(size=(4, 3)), 8.0)


@pytest.fixture(scope="module")
def glb(mesh: AvatarMesh, tube: BodySurface, motion: JointMotion) -> bytes:
    return write_mesh_glb(mesh, NAMES, PARENTS, tube.joints_rest, [motion], name="tube", lift=LIFT, unlit=True)


def read_accessor(document, index: int) -> np.ndarray:
    accessor = document.accessors[index]
    view = document.bufferViews[accessor.bufferView]
    kind = {5121: np.uint8, 5125: np.uint32, 5126: np.float32}[accessor.componentType]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor.type]
    return np.frombuffer(document.binary_blob(), kind, accessor.count * width, view.byteOffset).reshape(-1, width)


def test_the_mesh_lies_where_the_splats_are(mesh: AvatarMesh, tube: BodySurface, atlas: UvAtlas, look: dict[str, np.ndarray]) -> None:
    moved = tube.vertices_rest.copy()
    moved[mesh.body_vertex] = mesh.vertices
    corners = moved[tube.faces[atlas.face.numpy()]]
    on_mesh = (corners * atlas.barycentric.numpy()[..., None]).sum(1)
    splats = atlas.points_rest.numpy() + look["offsets"]
    assert np.linalg.norm(on_mesh - splats, axis=1).mean() < 0.002  # facets of 6 cm on a tube of 15 cm: their sagitta is 3 mm
    assert np.linalg.norm(on_mesh - splats, axis=1).max() < 0.01


def test_thickness_moves_the_mesh_outwards_by_as_many_standard_deviations(
    tube: BodySurface, atlas: UvAtlas, look: dict[str, np.ndarray], mesh: AvatarMesh
) -> None:
    thick = bake_mesh(tube, atlas, **look, texels=16, thickness=2.0)
    wider = np.linalg.norm(thick.vertices[:, [0, 2]], axis=1) - np.linalg.norm(mesh.vertices[:, [0, 2]], axis=1)
    assert np.abs(np.median(wider) - 0.02) < 0.002


def test_the_texture_shows_the_splats_colours(mesh: AvatarMesh, atlas: UvAtlas, look: dict[str, np.ndarray]) -> None:
    place = np.floor(atlas.uv.numpy() * 128).astype(int)
    shown = mesh.texture[place[:, 1], place[:, 0]] / 255
    assert np.abs(shown - look["colors"]).mean() < 0.02


def test_a_seam_of_the_layout_shows_no_seam_in_the_texture(mesh: AvatarMesh) -> None:
    texture = mesh.texture.astype(float) / 255
    twins = {}
    for vertex, uv in zip(mesh.body_vertex, mesh.uv, strict=True):
        twins.setdefault(int(vertex), []).append(texture[min(int(uv[1] * 128), 127), min(int(uv[0] * 128), 127)])
    pairs = [colours for colours in twins.values() if len(colours) == 2]
    assert len(pairs) >= 10
    chart = texture[:, 16:112]  # of the layout's 0.1 to 0.9, less the margins
    two_texels_apart = np.abs(chart[16:112, 2:] - chart[16:112, :-2]).max()  # as far as the two nearest texels of a seam
    assert max(np.abs(a - b).max() for a, b in pairs) <= two_texels_apart + 1 / 255


def test_offsets_are_spread_exactly_where_they_are_linear_and_smoothly_elsewhere(tube: BodySurface, atlas: UvAtlas) -> None:
    slope = np.array([[0.01, 0.02, -0.03]])
    spread = spread_to_vertices(slope.repeat(atlas.num_points, 0), atlas, tube.faces, len(tube.vertices_rest))
    assert np.abs(spread - slope).max() < 1e-6


def test_a_fold_is_smoothed_and_the_rest_stays(tube: BodySurface) -> None:
    bent = tube.vertices_rest.copy()
    middle = 6 * 16 + 3
    bent[middle, 1] += 0.25  # beyond its upper neighbours
    mended = without_folds(tube.vertices_rest, bent, tube.faces)
    assert abs(mended[middle, 1] - tube.vertices_rest[middle, 1]) < 0.06
    near = np.linalg.norm(tube.vertices_rest - bent[middle], axis=1) < 0.4
    assert np.array_equal(mended[~near], bent[~near])
    assert np.array_equal(without_folds(tube.vertices_rest, tube.vertices_rest, tube.faces), tube.vertices_rest)


def test_a_gltf_reader_finds_geometry_weights_and_texture(glb: bytes, mesh: AvatarMesh) -> None:
    document = pygltflib.GLTF2.load_from_bytes(glb)
    attributes = document.meshes[0].primitives[0].attributes
    assert np.abs(read_accessor(document, attributes.POSITION) - LIFT - mesh.vertices).max() < TENTH_MM
    assert np.abs(read_accessor(document, attributes.TEXCOORD_0) - mesh.uv).max() < 1e-6
    weights = read_accessor(document, attributes.WEIGHTS_0)
    assert np.abs(weights.sum(1) - 1).max() < 1e-6
    dense = np.zeros((len(weights), 4))
    np.add.at(dense, (np.arange(len(weights))[:, None], read_accessor(document, attributes.JOINTS_0)), weights)
    wanted = np.zeros_like(dense)
    np.add.at(wanted, (np.arange(len(weights))[:, None], mesh.skin_joints), mesh.skin_weights)
    assert np.abs(dense - wanted).max() < 1e-6
    view = document.bufferViews[document.images[0].bufferView]
    picture = np.frombuffer(document.binary_blob(), np.uint8)[view.byteOffset : view.byteOffset + view.byteLength]
    assert np.array_equal(cv2.imdecode(picture, cv2.IMREAD_UNCHANGED)[..., ::-1], mesh.texture)


def test_another_gltf_reader_loads_the_same_triangles(glb: bytes, mesh: AvatarMesh) -> None:
    (loaded,) = trimesh.load(io.BytesIO(glb), file_type="glb", process=False).geometry.values()
    assert np.abs(loaded.vertices - LIFT - mesh.vertices).max() < TENTH_MM
    assert np.array_equal(loaded.faces, mesh.faces)
    assert np.asarray(loaded.visual.material.baseColorTexture).shape == (128, 128, 3)


def test_played_by_gltfs_rules_the_animation_skins_as_the_avatar_is_skinned(
    glb: bytes, mesh: AvatarMesh, tube: BodySurface, motion: JointMotion
) -> None:
    document = pygltflib.GLTF2.load_from_bytes(glb)
    binds = read_accessor(document, document.skins[0].inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    for frame in range(motion.num_frames):
        locals_ = [np.eye(4) for _ in NAMES]
        for joint, node in enumerate(document.nodes[:3]):
            locals_[joint][:3, 3] = node.translation
        for channel in document.animations[0].channels:
            value = read_accessor(document, document.animations[0].samplers[channel.sampler].output)[frame]
            if channel.target.path == "rotation":
                locals_[channel.target.node][:3, :3] = Rotation.from_quat(value).as_matrix()
            else:
                locals_[channel.target.node][:3, 3] = value
        worlds = [locals_[0], locals_[0] @ locals_[1], locals_[0] @ locals_[1] @ locals_[2]]
        skin = np.stack(worlds) @ binds
        points = np.column_stack([mesh.vertices + LIFT, np.ones(len(mesh.vertices))])
        played = np.einsum("pk,pkij,pj->pi", mesh.skin_weights, skin[mesh.skin_joints], points)[:, :3]

        turns = Rotation.from_quat(motion.quaternions[frame]).as_matrix()
        place, turn, wanted = motion.root_places[frame], turns[0], np.zeros_like(mesh.vertices)
        for joint in range(3):  # SMPL: x -> R_k (x - j_k) + x_k, a child's joint carried by its parent
            if joint:
                place = place + turn @ (tube.joints_rest[joint] - tube.joints_rest[joint - 1])
                turn = turn @ turns[joint]
            share = (mesh.skin_weights * (mesh.skin_joints == joint)).sum(1, keepdims=True)
            wanted += share * ((mesh.vertices - tube.joints_rest[joint]) @ turn.T + place)
        assert np.abs(played - wanted).max() < TENTH_MM
    times = read_accessor(document, document.animations[0].samplers[0].input)[:, 0]
    assert np.allclose(times, np.arange(4) / 8.0)


def test_a_png_reader_finds_the_same_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    assert np.array_equal(cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1], picture)


# -------------------------------------------------------------------------------------------------- Khronos' validator


@pytest.fixture(scope="module")
def validate(tmp_path_factory: pytest.TempPathFactory):
    """Runs the validator on a file's bytes and returns what it says; skips where it is not installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    find = [node, "-e", "require.resolve('gltf-validator')"]
    folders = [f for f in (PROJECT, PROJECT / "viewer") if f.is_dir() and subprocess.run(find, cwd=f, capture_output=True).returncode == 0]
    if not folders:
        pytest.skip("gltf-validator is not installed; run: npm install --no-save gltf-validator@2.0.0-dev.3.10 (in viewer/, or set NODE_PATH)")

    def run(data: bytes) -> list[dict]:
        path = tmp_path_factory.mktemp("glb") / "a.glb"
        path.write_bytes(data)
        done = subprocess.run([node, "-e", VALIDATOR, str(path)], cwd=folders[0], capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)["messages"]

    return run


def test_the_validator_finds_nothing_to_say_of_the_mesh(glb: bytes, validate) -> None:
    assert validate(glb) == []


def test_of_the_splats_the_validator_only_says_that_it_does_not_know_the_extension(validate) -> None:
    count = np.ones(5, np.float32)
    data = write_splat_glb(Splats(np.eye(5, 3), np.eye(5, 3), 0.01 * count, 0.5 * np.ones((5, 3), np.float32), count), name="five")
    said = [(message["code"], message["pointer"].rsplit("/", 1)[-1]) for message in validate(data)]
    own = ("SCALE", "ROTATION", "OPACITY", "SH_DEGREE_0_COEF_0")
    unknown = {("MESH_PRIMITIVE_INVALID_ATTRIBUTE", f"{EXTENSION}:{name}") for name in own}
    assert set(said) <= unknown | {("UNSUPPORTED_EXTENSION", "0")}
