"""How much memory training holds: a few steps of each stage, each preset and stage in a process of its own.

    python -m benchmarks.training_memory [--presets quick paper] [--steps 2] [--json benchmarks/reports/training_memory.json]

Takes frames, masks and refined fit of the prepared subject; the surface is baked and the avatar starts untrained, which costs
what a trained one does. The peak is the process's resident memory as the kernel counts it, a checkpoint written included, since
training writes those too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.rasterizer import describe_machine
from model.avatar import Avatar
from model.body.body_model import load_body_model
from model.checkpoint import save_checkpoint
from model.pose import track_pose
from model.pose_refinement import PoseCorrection
from model.training import Training, TrainingOptions
from tasks.artifacts import read_clip, read_segmentation, read_track, split_frames, subject_paths
from tasks.bake_uv_maps import bake
from tasks.options import options_from
from tasks.settings import load_settings
from tasks.train_stage2 import grow
from tasks.training_run import find_lpips, load_training_frames, look_of

STAGES = ("train_stage1", "train_stage2")
LIMIT_GB = {"quick": 3.0, "paper": 12.0}
KIB_PER_GB = 1024**2


def peak_gb() -> float:
    """The most that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GB


def run(preset: str, stage: str, steps: int) -> dict[str, float]:
    """Some steps of one stage, in this process."""
    settings = load_settings().model_copy(update={"preset": preset})
    paths, section = subject_paths(settings.subject.name), getattr(settings.chosen, stage)
    track = read_track(paths.fit_refined / "track.npz", made_by="refine_fit")
    split = split_frames(read_clip(paths), read_segmentation(paths), heldout_every=settings.split.heldout_every)
    frames = load_training_frames(paths, track, split.train)
    atlas = bake(load_body_model(settings.body.model, uv_path=settings.body.uv), track.betas, settings.chosen.bake_uv_maps)
    stage1 = settings.chosen.train_stage1
    look = look_of(stage1)
    avatar = Avatar(atlas, look, body=track.body, betas=track.betas)
    if stage == "train_stage2":
        avatar.known_poses = track.body_pose[frames.rows].clone()
        avatar = grow(avatar, section)
        if avatar.pose_encoder is not None:
            maps = [avatar.position_map(track_pose(track, row)) for row in frames.rows.tolist()]
            frames = dataclasses.replace(frames, position_maps=torch.stack(maps))
    options = dataclasses.replace(options_from(section.training, TrainingOptions), max_minutes=None)
    training = Training(
        avatar,
        PoseCorrection(track, avatar.parents, avatar.skeleton[0]) if stage == "train_stage1" else PoseCorrection(track),
        frames,
        options,
        lpips=find_lpips(options.losses.lpips),
        backend=settings.render.backend,
        seed=settings.seed,
    )
    prepared, start = peak_gb(), time.perf_counter()
    for _ in range(steps):
        training.step()
    seconds = (time.perf_counter() - start) / steps
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), training.checkpoint("memory"))
    return {"points": atlas.num_points, "frames": len(frames.rows), "prepared_gb": prepared, "peak_gb": peak_gb(), "seconds_a_step": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=list(LIMIT_GB))
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--one", nargs=2, metavar=("PRESET", "STAGE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(*arguments.one, arguments.steps)))
        return
    rows = []
    for preset in arguments.presets:
        for stage in STAGES:
            command = [sys.executable, "-m", "benchmarks.training_memory", "--steps", str(arguments.steps), "--one", preset, stage]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{preset} {stage} stopped:\n{done.stderr[-2000:]}")
            row = {"preset": preset, "stage": stage, **json.loads(done.stdout.splitlines()[-1]), "limit_gb": LIMIT_GB.get(preset)}
            rows.append(row)
            print(f"{preset:6s} {stage}: peak {row['peak_gb']:.2f} GB of {row['limit_gb']}, {row['points']} points, {row['seconds_a_step']:.1f} s a step", flush=True)
    if arguments.json:
        machine = describe_machine("cpu") | {"command": f"python -m benchmarks.training_memory --steps {arguments.steps}"}
        arguments.json.write_text(json.dumps({"machine": machine, "runs": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
