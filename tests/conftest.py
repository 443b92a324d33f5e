"""A person small enough for tests: a striped tube of three joints, its surface, an avatar on it and a clip of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from model.avatar import Attributes, Avatar, AvatarOptions, PoseEncoderOptions
from model.avatar_file import with_pose_shapes
from model.body.track import BodyTrack
from model.camera import camera_from_focal
from model.losses import LossWeights
from model.networks import NetworkOptions
from model.pose import track_pose
from model.pose_refinement import PoseCorrection, PoseRates
from model.pose_shapes import PoseShapeOptions
from model.training import Rates, Training, TrainingOptions, run_training, settle_statistics
from model.training_frames import TrainingFrames
from model.uv.atlas import BodySurface, UvAtlas, bake_atlas

ENCODER = PoseEncoderOptions(base_width=4, depth=2, reach=0.3)
SHAPES = PoseShapeOptions(keys=3, reach=0.2, fade=0.01)
SIDES, RINGS, SIZE, NUM_FRAMES = 16, 13, 64, 8

NETWORK = NetworkOptions(
    features=4, feature_std=1.0, smoother_kernel=0, width=16, layers=2, skip_layer=0, branch_layers=0, activation="relu",
    head_std=0.05, offset_scale=0.02, color_gain=4.0, texel_residual=True, scale_start=0.6, scale_floor=0.5, scale_ceiling=1.5, decode_at="texels",
)  # fmt: skip
LOSSES = LossWeights(
    l1=0.8, ssim=0.2, lpips=0.0, lpips_after=0.0, alpha=0.2, offset=10.0, offset_decay=1.0, offset_smooth=100.0, color_smooth=1e-4,
    feature=0.0, scale=0.0, light=1e-3, pose_feature=0.01, pose_prior=0.01, pose_smooth=0.01, foot_slide=20.0,
)  # fmt: skip
RATES = Rates(networks=5e-3, features=1e-2, texel_colors=1e-2, light=5e-3, pose_encoder=0.0, poses=PoseRates(4e-3, 2e-3, 1e-3, 5e-4, [8]))
TRAINING = TrainingOptions(
    steps=30, max_minutes=None, frames_per_step=2, crop=True, background="random", schedule="cosine", pose_start=0.2,
    scale_warmup_steps=0, checkpoint_every=10, lamp_at=[], rates=RATES, losses=LOSSES,
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A tiny clip whose truth is known."""

    track: BodyTrack
    frames: TrainingFrames


@pytest.fixture(scope="session")
def tube() -> BodySurface:
    """An open tube, 1.2 m high, unrolled into one chart whose left and right border are the same seam."""
    angles, heights = np.linspace(0, 2 * np.pi, SIDES + 1), np.linspace(-0.6, 0.6, RINGS)
    ring = np.arange(SIDES)
    vertices = np.stack([[0.15 * np.cos(angles[k]), y, -0.15 * np.sin(angles[k])] for y in heights for k in ring])
    uv = np.stack([[0.1 + 0.8 * k / SIDES, 0.1 + 0.8 * i / (RINGS - 1)] for i in range(RINGS) for k in range(SIDES + 1)])
    faces, uv_faces = [], []
    for i in range(RINGS - 1):
        for k in ring:
            corners = [(i, k), (i, k + 1), (i + 1, k + 1), (i + 1, k)]
            v = [a * SIDES + b % SIDES for a, b in corners]
            t = [a * (SIDES + 1) + b for a, b in corners]
            faces += [[v[0], v[1], v[2]], [v[0], v[2], v[3]]]
            uv_faces += [[t[0], t[1], t[2]], [t[0], t[2], t[3]]]
    joints = np.array([[0.0, -0.6, 0.0], [0.0, -0.2, 0.0], [0.0, 0.2, 0.0]])
    nearness = np.clip(1 - np.abs(vertices[:, 1:2] - (joints[:, 1] + 0.2)) / 0.4, 0, 1) + 1e-3
    weights = nearness / nearness.sum(1, keepdims=True)
    return BodySurface(vertices, vertices, np.array(faces), uv, np.array(uv_faces), weights, joints, np.array([-1, 0, 1]))


@pytest.fixture(scope="session")
def atlas(tube: BodySurface) -> UvAtlas:
    return bake_atlas(tube, resolution=40, map_resolution=16, density=None)


def make_avatar(atlas: UvAtlas, seed: int = 0, **changes) -> Avatar:
    torch.manual_seed(seed)
    options = AvatarOptions(**{"network": NETWORK, "light": "lamp", "pose_encoder": None, "cull_margin": 0.2} | changes)
    return Avatar(atlas, options, body="tube", betas=torch.zeros(2))


def with_shapes(avatar: Avatar, clip: Clip) -> Avatar:
    known = copy.deepcopy(avatar)
    known.known_poses = clip.track.body_pose.clone()
    return with_pose_shapes(known, SHAPES).eval()


@pytest.fixture
def avatar(atlas: UvAtlas) -> Avatar:
    return make_avatar(atlas)


@pytest.fixture(scope="session")
def track() -> BodyTrack:
    """The tube turns once, nodding, in front of a camera 3 m away; y points up in its rest pose and the camera looks level."""
    turn = torch.linspace(0, 5.5, NUM_FRAMES)
    orient = torch.stack([torch.zeros(NUM_FRAMES), turn, torch.zeros(NUM_FRAMES)], dim=1)
    pose = torch.zeros(NUM_FRAMES, 2, 3)
    pose[:, 0, 2] = 0.4 * torch.sin(turn)
    place = torch.tensor([0.0, 0.0, 3.0]).expand(NUM_FRAMES, 3).clone()
    camera = camera_from_focal(100.0, SIZE, SIZE)
    return BodyTrack(
        torch.zeros(2), orient, pose, place, camera.K, camera.w2c, SIZE, SIZE, torch.arange(NUM_FRAMES), torch.ones(NUM_FRAMES), 10.0, "tube"
    )


@pytest.fixture(scope="session")
def clip(atlas: UvAtlas, track: BodyTrack) -> Clip:
    """Pictures of a striped tube in those poses."""
    painter = make_avatar(atlas, light="none")
    stripes = (torch.sin(30 * atlas.points_rest[:, 1]) > 0).float()[:, None]
    paint = stripes * torch.tensor([0.8, 0.2, 0.1]) + (1 - stripes) * torch.tensor([0.1, 0.2, 0.7])
    look = Attributes(torch.zeros_like(atlas.points_rest), paint, 0.6 * atlas.spacing)
    images, masks = [], []
    for row in range(NUM_FRAMES):
        with torch.no_grad():
            seen = painter.render(track_pose(track, row), track.camera, torch.zeros(3), backend="cpu", attributes=look)
        images.append((seen.image.clamp(0, 1) * 255).byte().numpy())
        masks.append((seen.alpha * 255).byte().numpy())
    return Clip(track, TrainingFrames(torch.arange(NUM_FRAMES), np.stack(images), np.stack(masks)))


@pytest.fixture(scope="session")
def options() -> TrainingOptions:
    return TRAINING


@pytest.fixture(scope="session")
def trained(atlas: UvAtlas, clip: Clip) -> Avatar:
    """An avatar of the tiny clip, trained on its exact poses; do not change it."""
    avatar = make_avatar(atlas)
    still = replace(TRAINING, steps=80, rates=replace(RATES, poses=None))
    training = Training(avatar, PoseCorrection(clip.track), clip.frames, still, lpips=None, backend="cpu", seed=0)
    run_training(training, on_step=lambda _: None, stop_asked=lambda: False)
    settle_statistics(avatar)
    return avatar.requires_grad_(False)
