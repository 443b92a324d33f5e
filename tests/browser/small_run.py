"""A small finished run on the project's own body, without training: what the page's stage reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML

from model.avatar import Avatar, AvatarOptions, PoseEncoderOptions
from model.avatar_file import save_avatar, with_pose_encoder, with_pose_shapes
from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.camera import Camera, camera_from_focal
from model.networks import NetworkOptions
from model.pose import BodyPose
from model.pose_shapes import PoseShapeOptions
from model.uv.atlas import bake_atlas, body_surface
from tasks.artifacts import ClipInfo, frame_name, subject_paths, write_image, write_json, write_track

PROJECT = Path(__file__).parents[2]
SIZE, NUM_FRAMES, SUBJECT = 160, 5, "small"
NETWORK = NetworkOptions(
    features=8, feature_std=1.0, smoother_kernel=0, width=16, layers=2, skip_layer=0, branch_layers=0, activation="relu",
    head_std=0.05, offset_scale=0.02, color_gain=4.0, texel_residual=True, scale_start=0.9, scale_floor=0.5, scale_ceiling=1.5, decode_at="texels",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What the stages left, and the page.

    Attributes:
        folder: the project's root.
        page: results/<subject>/avatar.html.
        said: what the stage printed.
        avatar: of stage 2.
    """

    folder: Path
    page: Path
    said: str
    avatar: Avatar
    body: BodyModel
    track: BodyTrack


def make_avatar(body: BodyModel, betas: torch.Tensor) -> Avatar:
    """An untrained avatar: noise for colours, under a light that is strong and coloured."""
    torch.manual_seed(0)
    atlas = bake_atlas(body_surface(body, betas), resolution=72, map_resolution=32, density=None)
    avatar = Avatar(atlas, AvatarOptions(NETWORK, light="lamp", pose_encoder=None, cull_margin=0.2), body="open", betas=betas)
    with torch.no_grad():
        avatar.light.copy_(0.12 * torch.randn(5, 3) + torch.tensor([0.0, 0.0, 0.0, 0.4, 0.0])[:, None])
        avatar.lamp.copy_(torch.nn.functional.normalize(torch.tensor([0.4, -0.7, -0.5]), dim=0))  # from above, before the person
    return avatar.requires_grad_(False).eval()


def with_folds(avatar: Avatar, track: BodyTrack) -> Avatar:
    """The same with strong noise for folds: every texel moves by a centimetre and changes its colour, otherwise in each key pose."""
    avatar.known_poses = track.body_pose
    second = with_pose_shapes(avatar, PoseShapeOptions(keys=4, reach=0.15, fade=0.01))
    with torch.no_grad():
        second.pose_shapes.shapes.copy_(0.5 * torch.randn(second.pose_shapes.shapes.shape, generator=torch.Generator().manual_seed(1)))
    return second.requires_grad_(False).eval()


def make_track(body: BodyModel, betas: torch.Tensor) -> BodyTrack:
    """Someone who turns while squatting, 4 m before a camera (y down)."""
    share = torch.linspace(0, 1, NUM_FRAMES)
    pose = torch.zeros(NUM_FRAMES, body.num_joints - 1, 3)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[:, body.joint_names.index(f"{side}_shoulder") - 1, 2] = -sign * 0.9
        pose[:, body.joint_names.index(f"{side}_hip") - 1, 0] = -1.3 * share
        pose[:, body.joint_names.index(f"{side}_knee") - 1, 0] = 1.5 * share
    orient = torch.stack([torch.full((NUM_FRAMES,), torch.pi), torch.zeros(NUM_FRAMES), 0.9 * share], dim=1)
    orient = orient / orient.norm(dim=1, keepdim=True) * torch.pi  # upright, turned a little
    place = torch.stack([torch.full((NUM_FRAMES,), 0.1), -0.1 + 0.3 * share, torch.full((NUM_FRAMES,), 4.0)], dim=1)
    camera = camera_from_focal(300.0, SIZE, SIZE)
    ids = torch.arange(NUM_FRAMES)
    return BodyTrack(betas, orient, pose, place, camera.K, camera.w2c, SIZE, SIZE, ids, torch.ones(NUM_FRAMES), 5.0, "open")


def write_run(track: BodyTrack, avatar: Avatar, second: Avatar) -> None:
    """The files that the page's stage reads, under the working folder: avatars of both stages among them."""
    yaml = YAML()
    params = yaml.load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["subject"] = {"name": SUBJECT, "video": "clip.mp4", "truth": "none"}
    params["split"]["heldout_every"] = 4
    yaml.dump(params, Path("params.yaml"))
    paths, ids, generator = subject_paths(SUBJECT), track.frame_ids.tolist(), np.random.default_rng(0)
    clip = ClipInfo("clip.mp4", SIZE, SIZE, 5.0, ids, [3 + i / 5 for i in ids], ids, 5.0, SIZE, [0, 0, SIZE], 300.0, True, SIZE / 2, SIZE / 2, [[0, 0, SIZE, SIZE]] * len(ids), {}, [])
    write_json(paths.frames / "clip.json", vars(clip))
    for frame_id in ids:
        write_image(paths.frames / frame_name(frame_id), generator.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))
    write_json(paths.masks / "segmentation.json", {"method": "landmarks", "model": "none", "flagged": {}})
    write_json(paths.results / "metrics.json", {stage: {"heldout_frames_refitted": {"psnr": psnr}} for stage, psnr in (("stage1", 27.25), ("stage2", 29.75))})
    for stage, one in (("stage1", avatar), ("stage2", second)):
        getattr(paths, stage).mkdir(parents=True)
        save_avatar(getattr(paths, stage) / "avatar.safetensors", one)
    write_track(paths.stage1 / "track.npz", track)


def with_encoder(avatar: Avatar) -> Avatar:
    """The same with the published design of stage 2, untrained."""
    return with_pose_encoder(avatar, PoseEncoderOptions(base_width=4, depth=2, reach=0.35)).requires_grad_(False).eval()


def render(run: Run, pose: BodyPose, camera: Camera, *, folds: bool = True) -> np.ndarray:
    """The project's own picture on white, 0..1."""
    with torch.no_grad():
        attributes = run.avatar.attributes(pose if folds else None)
        return run.avatar.render(pose, camera, torch.ones(3), backend="cpu", attributes=attributes).image.clamp(0, 1).numpy()
