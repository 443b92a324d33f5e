"""What the page carries: an avatar's table in few bytes, motions that stand on the floor, a video that fits, no markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from model.avatar import Avatar, AvatarOptions, PoseEncoderOptions
from model.avatar_file import save_avatar, with_pose_encoder, with_pose_shapes
from model.body.body_model import load_body_model
from model.body.skinning import skin_points
from model.body.track import BodyTrack
from model.motion.placement import camera_axes
from model.networks import NetworkOptions
from model.pose import posed_joints, rest_to_posed, track_pose
from model.pose_shapes import AROUND, COLOR_UNIT, PoseShapeOptions
from model.uv.atlas import bake_atlas, body_surface
from tasks.animate import Actor, actor_from_file
from tasks.build_page import notes_of, shown_stage
from tasks.errors import InputError
from tasks.page_content import TEMPLATE, PageContent, PageVideo, build_page, encode_frames, plain_content
from tasks.page_folds import PackedFolds, pack_folds
from tasks.page_motions import PageMotion, clip_motion, page_motions
from tasks.page_splats import FULL_8, FULL_16, pack_splats, round_weights
from tasks.settings import load_settings

PROJECT = Path(__file__).parents[2]
SPLATS_OF_QUICK = 41_000  # its layout has 40,066 points
BYTES_A_SPLAT = 6 + 8 + 3 + 4 + 4 + 4  # with its place in the map of folds
TEXELS_OF_QUICK, KEYS_OF_QUICK = 10_500, 24  # its layout has 9,978 texels inside charts
BYTES_A_TEXEL = 6 * KEYS_OF_QUICK + 4 + 8 + 2
LIMIT = 15e6  # bytes of a page of the quick preset


@pytest.fixture(scope="module")
def actor(tmp_path_factory: pytest.TempPathFactory) -> Actor:
    """A coarse, untrained avatar of the project's own body."""
    body = load_body_model("open")
    betas = torch.zeros(body.num_betas)
    atlas = bake_atlas(body_surface(body, betas), resolution=48, map_resolution=32, density=None)
    network = NetworkOptions(
        features=4, feature_std=1.0, smoother_kernel=0, width=8, layers=2, skip_layer=0, branch_layers=0, activation="relu",
        head_std=0.05, offset_scale=0.02, color_gain=4.0, texel_residual=True, scale_start=0.6, scale_floor=0.5, scale_ceiling=1.5, decode_at="texels",
    )  # fmt: skip
    options = AvatarOptions(network, light="none", pose_encoder=None, cull_margin=None)
    path = tmp_path_factory.mktemp("actor") / "avatar.safetensors"
    save_avatar(path, Avatar(atlas, options, body="open", betas=betas))
    return actor_from_file(path, None, name="nobody")


@pytest.fixture
def content(avatar: Avatar, track: BodyTrack) -> PageContent:
    video = PageVideo("image/webp", track.frame_ids.tolist(), [3], [b"frame"] * track.num_frames)
    motion = clip_motion(track, 2.0 + np.arange(track.num_frames) / track.fps)
    return PageContent("tube", "Notes.", avatar.bake(), 0.2, ("root", "middle", "top"), track, camera_axes(), 1.2, [motion], video)


def test_rounded_weights_sum_to_255_and_are_off_by_less_than_one() -> None:
    weights = torch.distributions.Dirichlet(torch.tensor([2.0, 1.0, 0.3, 0.05])).sample((5000,)).numpy().astype(np.float64)
    rounded = round_weights(weights)
    assert (rounded.astype(int).sum(1) == FULL_8).all()
    assert np.abs(rounded - FULL_8 * weights).max() < 1
    assert (round_weights(np.array([[1.0, 0.0]])) == [255, 0, 0, 0]).all(), "fewer joints leave the rest at zero"


def test_packing_keeps_a_posed_avatar_within_a_millimetre_and_colours_within_half_a_step(avatar: Avatar, track: BodyTrack) -> None:
    baked = avatar.bake()
    packed = pack_splats(baked)
    places = packed.bounds[0] + (packed.bounds[1] - packed.bounds[0]) * (packed.places / FULL_16)
    assert np.abs(places - baked.means_rest.numpy()).max() < 2e-5
    assert np.abs(packed.albedo / FULL_8 - baked.albedo.numpy()).max() <= 0.5 / FULL_8 + 1e-6
    normals = packed.surface[:, :3] / FULL_16 * 2 - 1
    assert np.abs(normals - baked.normals_rest.numpy()).max() < 5e-5
    scales = np.exp(packed.log_scales[0] + np.ptp(packed.log_scales) * packed.surface[:, 3] / FULL_16)
    assert np.abs(scales / baked.scales.numpy() - 1).max() < 1e-4

    def dense(joints: np.ndarray, weights: np.ndarray) -> torch.Tensor:
        full = np.zeros((len(joints), len(baked.parents)))
        np.add.at(full, (np.arange(len(joints))[:, None], joints), weights)
        return torch.from_numpy(full).float()

    transforms = rest_to_posed(baked.joints_rest, baked.parents, track_pose(track, 2))
    exact = skin_points(baked.means_rest, dense(baked.skin_joints.numpy(), baked.skin_weights.numpy()), transforms)
    shown = skin_points(torch.from_numpy(places).float(), dense(packed.joints, packed.weights / FULL_8), transforms)
    assert float((exact - shown).norm(dim=-1).max()) < 1e-3, "a 255th of the decimetres by which joints disagree"


def test_the_page_holds_what_was_put_in_and_reads_no_text_as_markup(content: PageContent) -> None:
    nasty = 'a</script><b onload="x">&amp;'
    text = build_page(PageContent(**{**vars(content), "subject": nasty, "notes": nasty}))
    held = json.loads(re.search(r'<script id="content" type="application/json">(.*?)</script>', text, flags=re.DOTALL).group(1))
    assert held["subject"] == held["notes"] == nasty
    assert nasty not in text and "<title>a&lt;/script&gt;" in text
    assert held["motions"][0]["times"][0] == 0 and len(held["video"]["frames"]) == content.track.num_frames
    turns = np.frombuffer(base64.b64decode(held["motions"][0]["turns"]), "<f4").reshape(content.track.num_frames, 3, 3)
    assert (turns[:, 0] == content.track.global_orient.numpy()).all() and (turns[:, 1:] == content.track.body_pose.numpy()).all()


def test_an_avatar_without_light_or_culling_makes_a_page_too(content: PageContent) -> None:
    plain = plain_content(PageContent(**{**vars(content), "cull_margin": None}))
    assert plain["cull_margin"] is None
    json.dumps(plain, allow_nan=False)


def test_the_template_was_built_from_the_present_sources() -> None:
    viewer = PROJECT / "viewer"
    names = sorted(["index.html", "package.json", "ship.js", "vite.config.js", *(f"src/{path.name}" for path in (viewer / "src").iterdir())])
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (viewer / name).read_bytes() + b"\0")
    mark = re.search(r'name="built-from" content="([0-9a-f]+)"', TEMPLATE.read_text(encoding="utf-8")).group(1)
    assert mark == digest.hexdigest(), "sources have changed; run: cd viewer && npm install && npm run build"


def test_the_template_names_no_other_address() -> None:
    addresses = set(re.findall(r"https?://[\w./-]+", TEMPLATE.read_text(encoding="utf-8")))
    assert addresses == {"http://www.w3.org/1999/xhtml"}, "a namespace, which nobody opens"


def test_a_page_of_the_quick_preset_stays_below_15_megabytes() -> None:
    video = load_settings(PROJECT / "params.yaml").build_page.video_megabytes * 1e6
    motions = 6 * 300 * (24 + 1) * 3 * 4 + 20_000
    assert TEMPLATE.stat().st_size + video + (SPLATS_OF_QUICK * BYTES_A_SPLAT + TEXELS_OF_QUICK * BYTES_A_TEXEL + motions) * 4 / 3 < LIMIT


def test_video_frames_are_made_smaller_until_they_fit() -> None:
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 255, (320, 320, 3), dtype=np.uint8) for _ in range(3)]
    whole = encode_frames(frames, side=320, quality=80, max_bytes=10**9)
    room = sum(map(len, whole)) // 2
    assert sum(map(len, encode_frames(frames, side=320, quality=80, max_bytes=room))) <= room
    assert all(frame[:4] == b"RIFF" and frame[8:12] == b"WEBP" for frame in whole)


@pytest.mark.parametrize("name", ["walk", "turn", "wave", "squat", "dance"])
def test_motions_close_and_keep_their_feet_on_the_floor(name: str, actor: Actor) -> None:
    skeleton, placement = actor.skeleton, actor.placement
    motion, still = page_motions([name], actor)
    assert motion.times[0] == 0 and (np.diff(motion.times) > 0).all()
    assert torch.equal(motion.pose.body_pose[0], motion.pose.body_pose[-1]), "the last row is the first again"
    joints = posed_joints(skeleton.joints_rest, skeleton.transforms(motion.pose))
    height = (joints - placement.shift) @ placement.up
    assert 0 < float(height.amin()) < 0.15 and float(height[..., 15].max()) > 1, "feet above the floor, heads above feet"
    assert still.pose.transl.shape == (1, 3) and len(still.times) == 1


def test_a_motion_that_is_neither_in_the_library_nor_a_file_is_named(actor: Actor) -> None:
    with pytest.raises(InputError, match="walk.*found nothing at moonwalk"):
        page_motions(["walk", "moonwalk"], actor)


def test_a_motion_file_plays_beside_the_library(actor: Actor, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    poses = np.cumsum(0.01 * generator.standard_normal((40, 72)), axis=0)
    np.savez(tmp_path / "sway.npz", poses=poses, trans=np.zeros((40, 3)))
    motion, _ = page_motions([str(tmp_path / "sway.npz")], actor)
    assert motion.name == "sway" and "From the file sway.npz." in motion.about
    assert motion.pose.body_pose.shape == (len(motion.times), actor.skeleton.num_joints - 1, 3)


def test_times_of_the_clip_start_at_zero(track: BodyTrack) -> None:
    motion: PageMotion = clip_motion(track, np.array([3.0, 3.5, 4.0, 5.0, 5.5, 6.0, 6.5, 7.0]))
    assert motion.times.tolist() == [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 3.5, 4.0] and motion.filmed


@pytest.mark.parametrize("shown", ["stage1", "stage2"])
@pytest.mark.parametrize(("psnr", "words"), [(55.0, ("nearly the same", "hardly change")), (25.0, ("different", "they change"))])
def test_the_notes_say_which_stage_is_shown_and_how_far_the_other_is(shown: str, psnr: float, words: tuple[str, str]) -> None:
    metrics = {"stage1": {"heldout_frames_refitted": {"psnr": 28.1}}, "stage2": {"heldout_frames_refitted": {"psnr": None}}}
    notes = notes_of(metrics, psnr, shown=shown)
    assert f"Shown is {shown.replace('stage', 'stage ')}" in notes and words[shown == "stage2"] in notes and f"{psnr:.0f} dB inside" in notes
    assert ("28.1 dB" in notes) == (shown == "stage1"), "nothing is claimed of what was not measured"


# ------------------------------------------------------------------------------------------------------------- folds


@pytest.fixture
def folding(avatar: Avatar, track: BodyTrack) -> Avatar:
    """The tube of stage 2: strong noise for folds in three key poses."""
    avatar.known_poses = track.body_pose
    second = with_pose_shapes(avatar, PoseShapeOptions(keys=3, reach=0.2, fade=0.01))
    second.pose_shapes.shapes.data = torch.randn(second.pose_shapes.shapes.shape, generator=torch.Generator().manual_seed(1))
    return second.requires_grad_(False).eval()


def unpacked_folds(folds: PackedFolds, parents: list[int], pose: torch.Tensor) -> np.ndarray:
    """What the page makes of the packed tables in one pose, in plain loops over its formula: N, 6."""
    angles = np.zeros((len(parents), len(folds.keys)))
    angles[1:] = [[(Rotation.from_rotvec(a).inv() * Rotation.from_rotvec(b)).magnitude() for b in key] for a, key in zip(pose.numpy(), folds.keys.swapaxes(0, 1), strict=True)]
    spread = np.eye(len(parents))
    for joint, parent in enumerate(parents[1:], start=1):
        spread[joint, parent] = spread[parent, joint] = folds.around
    table = spread[:, 1:] @ np.square(angles[1:])
    far = (folds.most * folds.weights[..., None] / FULL_16 * table[folds.joints]).sum(1)
    near = np.exp(-far / (2 * folds.reach**2))
    weights = near / (folds.fade + near.sum(1, keepdims=True))
    blended = (weights[..., None] * folds.units * folds.shapes).sum(1)[folds.source].reshape(folds.side, folds.side, 6)
    place = folds.places / FULL_16 * (folds.side - 1)
    low = np.minimum(place.astype(int), folds.side - 2)
    x, y = (place - low).T[..., None]
    at = lambda i, j: blended[low[:, 1] + i, low[:, 0] + j]  # noqa: E731
    return (1 - y) * ((1 - x) * at(0, 0) + x * at(0, 1)) + y * ((1 - x) * at(1, 0) + x * at(1, 1))


@pytest.mark.parametrize("row", [0, 2, 5])
def test_packed_folds_move_and_tint_the_splats_as_the_avatar_does(folding: Avatar, track: BodyTrack, row: int) -> None:
    pose = track_pose(track, row)
    plain, folded = folding.attributes(), folding.attributes(pose)
    change = unpacked_folds(pack_folds(folding), folding.atlas_parents.tolist(), pose.body_pose)
    step = np.abs(folding.pose_shapes.shapes.numpy()).max() * np.array([folding.options.network.offset_scale, COLOR_UNIT]) / 127
    assert np.abs(change[:, :3] - (folded.offsets - plain.offsets).numpy()).max() < step[0]
    tinted = (plain.albedo.numpy() + change[:, 3:]).clip(0, 1)
    assert np.abs(tinted - folded.albedo.numpy()).max() < step[1]
    assert (folded.offsets - plain.offsets).abs().max() > 20 * step[0]


def test_a_texels_distance_to_a_key_is_the_models_own(folding: Avatar) -> None:
    packed, parents = pack_folds(folding), folding.atlas_parents.tolist()
    spread = np.eye(len(parents))
    for joint, parent in enumerate(parents[1:], start=1):
        spread[joint, parent] = spread[parent, joint] = AROUND
    shares = (packed.most * packed.weights[..., None] / FULL_16 * spread[packed.joints][..., 1:]).sum(1)
    assert np.abs(shares - folding.pose_shapes.near_joints.numpy().T).max() < 1e-4


def test_a_key_without_folds_packs_to_zeros(folding: Avatar) -> None:
    folding.pose_shapes.shapes.data[1] = 0
    packed = pack_folds(folding)
    assert not packed.shapes[:, 1].any() and packed.units[1].max() == 0 and packed.shapes[:, 0].any()


def test_the_page_carries_folds_where_the_avatar_has_them(content: PageContent, folding: Avatar) -> None:
    assert plain_content(content)["folds"] is None
    held = plain_content(PageContent(**{**vars(content), "folds": pack_folds(folding)}))["folds"]
    shapes = np.frombuffer(base64.b64decode(held["shapes"]), np.int8)
    assert len(shapes) == 6 * 3 * len(folding.atlas.map_texel) and held["reach"] == 0.2
    json.dumps(held, allow_nan=False)


def test_pose_shapes_are_shown_and_a_pose_encoder_is_not(avatar: Avatar, folding: Avatar) -> None:
    assert shown_stage(folding) == "stage2"
    assert shown_stage(with_pose_encoder(avatar, PoseEncoderOptions(base_width=4, depth=2, reach=None))) == "stage1"
