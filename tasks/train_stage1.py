"""Stage: from frames, masks and a fitted motion to an avatar, and a better motion.

Reads frames/, masks/, fit_refined/track.npz and uv/atlas.npz; writes stage1/avatar.safetensors, stage1/track.npz (all frames, those
not trained on corrected as their neighbours suggest) and stage1/history.json. Unfinished work waits in checkpoints/stage1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from model.avatar import Avatar
from model.avatar_file import save_avatar
from model.body.track import BodyTrack
from model.checkpoint import clear_checkpoints
from model.pose_refinement import PoseCorrection
from model.refitting import keep_what_helps
from model.training import Training, TrainingOptions, settle_statistics
from model.training_frames import TrainingFrames
from model.unseen import fill_unseen, point_visibility
from model.uv.atlas import UvAtlas
from tasks.artifacts import (
    SubjectPaths,
    read_clip,
    read_npz,
    read_segmentation,
    read_track,
    split_frames,
    subject_paths,
    timed,
    write_json,
    write_track,
)
from tasks.errors import run_stage
from tasks.options import options_from
from tasks.settings import Settings, load_settings
from tasks.training_run import find_device, find_lpips, fingerprint, load_training_frames, look_of, train_to_the_end
from tasks.whole_files import replaced_folder


@dataclass(frozen=True)
class Trained:
    """What this stage makes."""

    avatar: Avatar
    track: BodyTrack
    history: list[dict[str, float]]


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "train_stage1"):
        track, atlas, frames = read_inputs(paths, settings)
        trained = train(paths, track, atlas, frames, settings)
        with replaced_folder(paths.stage1) as folder:
            save_avatar(folder / "avatar.safetensors", trained.avatar)
            write_track(folder / "track.npz", trained.track)
            write_json(folder / "history.json", trained.history)
    clear_checkpoints(paths.checkpoints / "stage1")


def read_inputs(paths: SubjectPaths, settings: Settings) -> tuple[BodyTrack, UvAtlas, TrainingFrames]:
    """The motion, the surface, and the pictures that train."""
    track = read_track(paths.fit_refined / "track.npz", made_by="refine_fit")
    atlas = UvAtlas.from_arrays(read_npz(paths.uv / "atlas.npz", made_by="bake_uv_maps"))
    split = split_frames(read_clip(paths), read_segmentation(paths), heldout_every=settings.split.heldout_every)
    return track, atlas, load_training_frames(paths, track, split.train)


def train(paths: SubjectPaths, track: BodyTrack, atlas: UvAtlas, frames: TrainingFrames, settings: Settings) -> Trained:
    """Avatar and motion together; then the poses that gained nothing go back, and unseen parts are filled."""
    section, backend = settings.chosen.train_stage1, settings.render.backend
    device = find_device(backend)
    options = options_from(section.training, TrainingOptions)
    torch.manual_seed(settings.seed)
    look = look_of(section)
    avatar = Avatar(atlas, look, body=track.body, betas=track.betas).to(device)
    correction = PoseCorrection(track, avatar.parents, avatar.skeleton[0])
    training = Training(
        avatar, correction, frames, options, lpips=find_lpips(options.losses.lpips), backend=backend, seed=settings.seed
    )
    key = fingerprint(section, frames, track, str(settings.seed), avatar=avatar)
    train_to_the_end(training, paths.checkpoints / "stage1", key, name="stage 1", every=options.checkpoint_every)

    settle_statistics(avatar)
    kept = keep_what_helps(avatar, correction, frames, backend=backend)
    correction.spread(frames.rows)
    refined = correction.corrected()
    avatar.known_poses = refined.body_pose[frames.rows].to(device)
    avatar.note_resolution(refined, frames.rows)
    seen = fill_unseen(avatar, point_visibility(avatar, refined, frames.rows, refined.camera, backend=backend))
    print(f"stage 1: {training.step_number} steps; of {len(frames.rows)} frames {int((kept == 0).sum())} keep their fitted pose, {int((kept == 0.5).sum())} half of the correction; {int((~seen).sum())} of {len(seen)} points were never seen")
    return Trained(avatar, refined, training.history)


if __name__ == "__main__":
    run_stage(main)
