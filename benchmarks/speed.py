"""Where the time of a training step goes, how much memory it takes, and how fast a finished avatar is drawn.

Every part is run by itself on the prepared subject (frames/, masks/, fit/, uv/ and both stages must be there), forward and
backward, and its median time is given beside that of the whole step. On a shared machine read the shares, not the times.

    python -m benchmarks.speed                                        medians of 15
    python -m benchmarks.speed --drawing --one-thread                 the finished avatar alone; one thread, processor time
    python -m benchmarks.speed --repeats 40 --out benchmarks/reports/speed.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.avatar import Attributes, Avatar
from model.avatar_file import load_avatar
from model.gaussians import Gaussians
from model.losses import composite, picture_loss, surface_loss
from model.pose import track_pose
from model.pose_refinement import PoseCorrection
from model.posing import SkinnedSurface, pose_points
from model.render.rasterize import choose_backend, rasterize
from model.training import Training, TrainingOptions
from tasks.artifacts import read_clip, read_segmentation, read_track, require, split_frames, subject_paths, write_json
from tasks.options import options_from
from tasks.provenance import code_commit
from tasks.settings import Settings, load_settings
from tasks.training_run import find_device, load_training_frames

FEW_POINTS = 12_000  # of the avatar, drawn larger: what a smaller one costs
WARM_UP = 3  # runs before the clock starts: compilation, allocation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--drawing", action="store_true", help="only how fast the finished avatar is drawn")
    parser.add_argument("--one-thread", action="store_true", help="one thread, processor time: for a busy machine")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.one_thread:
        torch.set_num_threads(1)
    clock = time.process_time if arguments.one_thread else time.perf_counter
    settings = load_settings()
    device = find_device(settings.render.backend)
    report: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device.type}, load {os.getloadavg()[0]:.1f}",
        "clock": "processor time" if arguments.one_thread else "wall",
        "torch": torch.__version__,
        "commit": code_commit(),
        "backend": choose_backend(settings.render.backend, device),
        "repeats": arguments.repeats,
    }
    for stage in ("stage1", "stage2"):
        training = prepared(settings, stage, device)
        measured = {} if arguments.drawing else parts_of(training)
        parts = {name: round(float(np.median(times_ms(run, arguments.repeats, device, clock))), 2) for name, run in measured.items()}
        times = {name: times_ms(run, arguments.repeats, device, clock) for name, run in drawings_of(training).items()}
        fps = {name: {"median": round(1000 / np.median(ms)), "best": round(1000 / min(ms))} for name, ms in times.items()}
        report[stage] = {"points": training.avatar.atlas.num_points, "ms": parts, "frames_per_second": fps}
        show(stage, report[stage], training.options.frames_per_step)
    report["peak_memory_mb"] = peak_memory_mb(device)
    print(f"peak memory {report['peak_memory_mb']} MB; {report['machine']}; torch {report['torch']}; commit {report['commit']}")
    if arguments.out:
        write_json(arguments.out, report)


def prepared(settings: Settings, stage: str, device: torch.device) -> Training:
    """The training of one stage as it stands at its end, ready to go on."""
    paths = subject_paths(settings.subject.name)
    avatar = load_avatar(require(getattr(paths, stage) / "avatar.safetensors", made_by=f"train_{stage}")).to(device)
    track = read_track(paths.stage1 / "track.npz", made_by="train_stage1")
    split = split_frames(read_clip(paths), read_segmentation(paths), heldout_every=settings.split.heldout_every)
    frames = load_training_frames(paths, track, split.train)
    if avatar.pose_encoder is not None:
        maps = [avatar.position_map(track_pose(track, row)) for row in frames.rows.tolist()]
        frames = dataclasses.replace(frames, position_maps=torch.stack(maps).cpu())
    section = getattr(settings.chosen, f"train_{stage}")
    options = dataclasses.replace(options_from(section.training, TrainingOptions), steps=10**9, max_minutes=None)
    correction = PoseCorrection(track)
    return Training(avatar, correction, frames, options, lpips=None, backend=settings.render.backend, seed=settings.seed)


def parts_of(training: Training) -> dict[str, Callable[[], None]]:
    """The parts of a step, each forward and backward; those of one frame are to be counted `frames_per_step` times."""
    avatar, frames, weights = training.avatar, training.frames, training.options.losses
    frame = len(frames.rows) // 2
    pose, window = training.correction.pose(frames.rows[frame]), frames.window(frame)
    camera, white = training.loss.camera.crop(*window), torch.ones(3, device=avatar.device)
    image, mask = frames.picture(frame, window, device=avatar.device)
    target = composite(image, mask, white)
    avatar.train()
    with torch.no_grad():
        look = avatar.attributes(pose)
        transforms = avatar.joint_transforms(pose)
        gaussians = avatar.gaussians(look, transforms, seen_from=training.loss.viewer)
        drawn = rasterize(gaussians, camera, white, backend=training.loss.backend)

    def loss_of(picture: Tensor, alpha: Tensor) -> list[Tensor]:
        return [picture_loss(picture, alpha, target, mask, weights, lpips=None)]

    def surface_of(*attributes: Tensor) -> list[Tensor]:
        return [surface_loss(Attributes(*attributes), avatar.atlas_neighbours, weights, progress=0.5)]

    def posed(*values: Tensor) -> list[Tensor]:
        return list(vars(avatar.gaussians(Attributes(*values[:3]), values[3], seen_from=training.loss.viewer)).values())[:3]

    def splat(*values: Tensor) -> list[Tensor]:
        return list(vars(rasterize(Gaussians(*values), camera, white, backend=training.loss.backend)).values())[:2]

    parts = {
        "whole step": training.step,
        "decoder": both_ways(lambda: list(vars(avatar.attributes()).values())),
        "data, a frame": lambda: composite(*frames.picture(frame, window, device=avatar.device), white),
        "skinning and light, a frame": both_ways(posed, *vars(look).values(), transforms),
        "rasteriser, a frame": both_ways(splat, *vars(gaussians).values()),
        "picture loss, a frame": both_ways(loss_of, drawn.image, drawn.alpha),
        "surface loss": both_ways(surface_of, *vars(look).values()),
    }
    if avatar.follows_pose:
        parts["what follows the pose, a frame"] = both_ways(lambda: _following(avatar, pose))
    return parts


def drawings_of(training: Training) -> dict[str, Callable[[], None]]:
    """Drawing the finished avatar, whole frames: baked, with fewer points, and with what follows the pose."""
    avatar, track, camera, backend = training.avatar, training.correction.track, training.loss.camera, training.loss.backend
    white, pose = torch.ones(3, device=avatar.device), track_pose(track, 0)
    avatar.eval()
    with torch.no_grad():
        baked = avatar.attributes(pose)
    some = torch.randperm(avatar.atlas.num_points, generator=torch.Generator().manual_seed(0))[:FEW_POINTS].sort().values
    surface = SkinnedSurface(
        *(t[some] for t in (avatar.atlas_points_rest, avatar.atlas_normals_rest, avatar.atlas_skin_joints, avatar.atlas_skin_weights))
    )
    wider = (avatar.atlas.num_points / len(some)) ** 0.5  # fewer points cover the same surface
    look = (baked.offsets[some], baked.albedo[some], baked.scales[some] * wider, avatar.light)

    @torch.no_grad()
    def draw(attributes: Attributes | None) -> None:
        avatar.render(pose, camera, white, backend=backend, attributes=attributes)

    @torch.no_grad()
    def draw_few() -> None:
        margin = {"viewer": training.loss.viewer, "cull_margin": avatar.options.cull_margin, "lamp": avatar.lamp}
        means, colors, scales, opacities = pose_points(*look, avatar.joint_transforms(pose), surface, **margin)
        rasterize(Gaussians(means, scales, colors, opacities), camera, white, backend=backend)

    drawings = {"baked": lambda: draw(baked), f"baked, {len(some):,} points": draw_few}
    return drawings | ({"decoded for each pose": lambda: draw(None)} if avatar.follows_pose else {})


def both_ways(compute: Callable[..., list[Tensor]], *inputs: Tensor) -> Callable[[], None]:
    """A run of some computation and of its gradients."""
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]

    def run() -> None:
        outputs = [x for x in compute(*leaves) if x.requires_grad]
        if outputs:
            torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])

    return run


def times_ms(run: Callable[[], None], repeats: int, device: torch.device, clock: Callable[[], float]) -> list[float]:
    """Milliseconds of each run, the GPU's work included."""
    times = []
    for _ in range(WARM_UP + repeats):
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (clock() - start))
    return times[WARM_UP:]


def peak_memory_mb(device: torch.device) -> dict[str, int]:
    """The most that this process has held: main memory, and on a GPU the tensors there."""
    peak = {"main": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    return peak | ({"gpu": torch.cuda.max_memory_allocated() // 2**20} if device.type == "cuda" else {})


def show(stage: str, row: dict, frames_per_step: int) -> None:
    print(f"{stage}: {row['points']} points, {frames_per_step} frames a step")
    for name, value in row["ms"].items():
        print(f"  {name:32s} {value:9.2f} ms  {100 * value * (frames_per_step if 'frame' in name else 1) / row['ms']['whole step']:5.0f} %")
    print("  drawing: " + json.dumps(row["frames_per_second"]) + " frames a second", flush=True)


def _following(avatar: Avatar, pose) -> list[Tensor]:
    if avatar.pose_shapes is not None:
        return [avatar.pose_shapes(pose.body_pose.detach())]
    return [avatar.encode(avatar.position_map(pose)[None].repeat(2, 1, 1, 1))]  # batch statistics need two


if __name__ == "__main__":
    main()
