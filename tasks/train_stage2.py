"""Stage: from an avatar of one look to an avatar whose look follows the pose.

Reads frames/, masks/, stage1/ and pose_maps/; writes stage2/avatar.safetensors and stage2/history.json. The poses are those
of stage 1. Unfinished work waits in checkpoints/stage2.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from model.avatar import Avatar, PoseEncoderOptions
from model.avatar_file import load_avatar, save_avatar, with_pose_encoder, with_pose_shapes
from model.body.track import BodyTrack
from model.checkpoint import clear_checkpoints
from model.pose_refinement import PoseCorrection
from model.pose_shapes import PoseShapeOptions
from model.training import Training, TrainingOptions
from model.training_frames import TrainingFrames
from tasks.artifacts import (
    SubjectPaths,
    read_clip,
    read_npz,
    read_segmentation,
    read_track,
    require,
    split_frames,
    subject_paths,
    timed,
    write_json,
)
from tasks.errors import InputError, run_stage
from tasks.options import options_from
from tasks.settings import Settings, TrainStage2Settings, load_settings
from tasks.training_run import find_device, find_lpips, fingerprint, load_training_frames, train_to_the_end
from tasks.whole_files import replaced_folder


@dataclass(frozen=True)
class Trained:
    """What this stage makes."""

    avatar: Avatar
    history: list[dict[str, float]]


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "train_stage2"):
        avatar, track, frames = read_inputs(paths, settings)
        trained = train(paths, avatar, track, frames, settings)
        with replaced_folder(paths.stage2) as folder:
            save_avatar(folder / "avatar.safetensors", trained.avatar)
            write_json(folder / "history.json", trained.history)
    clear_checkpoints(paths.checkpoints / "stage2")


def read_inputs(paths: SubjectPaths, settings: Settings) -> tuple[Avatar, BodyTrack, TrainingFrames]:
    """The avatar of stage 1, its motion, and the pictures that train, with their position maps where an encoder reads them."""
    avatar = load_avatar(require(paths.stage1 / "avatar.safetensors", made_by="train_stage1"))
    track = read_track(paths.stage1 / "track.npz", made_by="train_stage1")
    split = split_frames(read_clip(paths), read_segmentation(paths), heldout_every=settings.split.heldout_every)
    frames = load_training_frames(paths, track, split.train)
    if settings.chosen.train_stage2.pose_encoder is None:
        return avatar, track, frames
    maps = torch.from_numpy(read_npz(paths.pose_maps / "pose_maps.npz", made_by="bake_pose_maps")["maps"]).float()
    if len(maps) != track.num_frames:
        raise InputError(f"pose_maps/ has {len(maps)} maps but the track {track.num_frames} frames; run: dvc repro bake_pose_maps")
    return avatar, track, dataclasses.replace(frames, position_maps=maps[frames.rows])


def train(paths: SubjectPaths, avatar: Avatar, track: BodyTrack, frames: TrainingFrames, settings: Settings) -> Trained:
    """What follows the pose, and as much of the rest as the settings free."""
    section, backend = settings.chosen.train_stage2, settings.render.backend
    device = find_device(backend)
    options = options_from(section.training, TrainingOptions)
    torch.manual_seed(settings.seed)
    dynamic = grow(avatar, section).to(device)
    training = Training(
        dynamic,
        PoseCorrection(track),
        frames,
        options,
        lpips=find_lpips(options.losses.lpips),
        backend=backend,
        seed=settings.seed,
    )
    key = fingerprint(section, frames, track, str(settings.seed), avatar=avatar)
    train_to_the_end(training, paths.checkpoints / "stage2", key, name="stage 2", every=options.checkpoint_every)
    return Trained(dynamic.eval(), training.history)


def grow(avatar: Avatar, section: TrainStage2Settings) -> Avatar:
    """The avatar of stage 1 with what the settings want beside it, untrained."""
    if (section.pose_encoder is None) == (section.pose_shapes is None):
        raise InputError("train_stage2: expected either pose_encoder or pose_shapes and the other null, came both or neither; see the committed params.yaml")
    if section.pose_shapes is not None:
        return with_pose_shapes(avatar, options_from(section.pose_shapes, PoseShapeOptions))
    return with_pose_encoder(avatar, options_from(section.pose_encoder, PoseEncoderOptions))


if __name__ == "__main__":
    run_stage(main)
