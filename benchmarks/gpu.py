"""What a CUDA GPU brings: do the rasterisers draw what the CPU draws, how long training takes, how good it gets, how fast it draws.

The subject of params.yaml must be prepared (frames/, masks/, fit_refined/). Each preset is trained on it from the start, both
stages, and scored as `benchmarks.quality` does; pictures of held-out frames are written beside the report.

    python -m benchmarks.gpu --out benchmarks/reports/gpu.json
    python -m benchmarks.gpu --presets quick --backend gsplat --without-stage2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from ruamel.yaml import YAML

from benchmarks.quality import TrainedRow, refit, score, train_avatar, train_second
from benchmarks.rasterizer import draw_in_tiles, make_camera, make_figure, measure
from model.avatar import Avatar
from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.drawing import Drawer
from model.gaussians import Gaussians
from model.pose import track_pose
from model.render.rasterize import CUDA_BACKENDS, choose_backend, rasterize
from tasks.artifacts import SubjectPaths, read_clip, read_segmentation, read_track, split_frames, subject_paths, write_json
from tasks.pictures import on_white
from tasks.provenance import code_commit, library_versions
from tasks.scoring import Viewer
from tasks.settings import PARAMS_FILE, Settings, check_settings, load_settings
from tasks.training_run import load_training_frames
from tasks.truth import read_truth

AGREEMENT_GAUSSIANS, AGREEMENT_PX = 12_000, 256
OPACITIES = (0.3, 1.0)  # translucent, where all rasterisers cut alike, and opaque as avatars are
VIEW_PX = 1024  # side of the pictures whose drawing is timed
FRAMES_TIMED = 50
SHEET_FRAMES = 4


def main() -> None:
    arguments = read_arguments()
    if not torch.cuda.is_available():
        raise SystemExit(f"expected a CUDA GPU, but PyTorch {torch.__version__} sees none; python -m benchmarks.quality measures on the CPU")
    backend = choose_backend(arguments.backend or load_settings().render.backend, "cuda")
    report: dict[str, object] = {"machine": describe_machine(), "backend": backend}
    if not arguments.without_rasterizers:
        installed = [name for name in CUDA_BACKENDS if is_installed(name)]
        report["agreement"] = {f"{name}, opacity {opacity}": agreement(name, opacity) for name in installed for opacity in OPACITIES}
        report["rasterizer_ms"] = {name: [asdict(t) for t in measure(name, "cuda", None, False, 15, time.perf_counter)] for name in installed}
        print(json.dumps(report["agreement"], indent=1), flush=True)
    for preset in arguments.presets:
        chosen = with_preset(preset, backend, arguments)
        report[preset] = measure_preset(chosen, stage2=not arguments.without_stage2, sheet=arguments.out and arguments.out.with_name(f"gpu_{preset}.jpg"))
        print(preset, json.dumps(report[preset]), flush=True)
        if arguments.out:
            write_json(arguments.out, report)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="*", default=["quick", "paper"])
    parser.add_argument("--backend", default=None, help="of the training; default: that of params.yaml")
    parser.add_argument("--steps", type=int, default=None, help="of each training; default: the preset's")
    parser.add_argument("--refit-steps", type=int, default=None, help="of each held-out frame's pose; default: that of params.yaml")
    parser.add_argument("--without-stage2", action="store_true")
    parser.add_argument("--without-rasterizers", action="store_true", help="leave out their agreement and their times")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def describe_machine() -> dict[str, object]:
    """What the figures hang on."""
    return {
        "gpu": torch.cuda.get_device_name(),
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "cuda": torch.version.cuda,
        "commit": code_commit(),
        "command": " ".join(["python -m benchmarks.gpu", *sys.argv[1:]]),
        **library_versions(),
    }


def is_installed(name: str) -> bool:
    """Whether a CUDA backend can be chosen here."""
    try:
        return choose_backend(name, "cuda") == name
    except ImportError:
        return False


def agreement(backend: str, opacity: float) -> dict[str, float]:
    """How far a backend is from plain float64 torch on the CPU, picture and gradients, on the standing figure.

    Args:
        opacity: of all Gaussians. Below 0.35 every footprint ends where it is fainter than 1/255, on which all rasterisers
            agree; above it at a number of standard deviations, on which they differ (model/render/cuda.py).

    Returns:
        Mean and largest difference of picture and coverage (0..1), and for each input |g - g'| / |g'| of the gradients.
    """
    wanted, wanted_gradients = draw_agreement_figure(draw_in_tiles, opacity, "cpu", torch.float64)
    found, gradients = draw_agreement_figure(lambda *scene: rasterize(*scene, backend=backend), opacity, "cuda", torch.float32)
    result = {}
    for name, one, other in zip(("image", "alpha"), found, wanted, strict=True):
        result |= {f"{name}_mean": float((one - other).abs().mean()), f"{name}_max": float((one - other).abs().max())}
    for name, one, other in zip(("means", "scales", "colors", "opacities", "background"), gradients, wanted_gradients, strict=True):
        result[f"gradient_{name}"] = float((one - other).norm() / other.norm())
    return {name: float(f"{value:.2e}") for name, value in result.items()}


def draw_agreement_figure(
    render: Callable, opacity: float, device: str, dtype: torch.dtype
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Picture and coverage of the standing figure, and the gradients of all inputs under a random pull on every pixel, in float64."""
    figure, camera = make_figure(AGREEMENT_GAUSSIANS), make_camera(AGREEMENT_PX)
    generator = torch.Generator().manual_seed(0)
    pulls = [torch.randn(AGREEMENT_PX, AGREEMENT_PX, *channels, generator=generator) for channels in ((3,), ())]
    inputs = [figure.means, figure.scales, figure.colors, opacity * figure.opacities, torch.tensor([0.2, 0.5, 0.9])]
    leaves = [x.to(device, dtype).requires_grad_() for x in inputs]
    drawn = render(Gaussians(*leaves[:4]), camera.to(dtype=dtype), leaves[4])
    gradients = torch.autograd.grad([drawn.image, drawn.alpha], leaves, [p.to(device, dtype) for p in pulls])
    return [t.detach().cpu().double() for t in (drawn.image, drawn.alpha)], [g.cpu().double() for g in gradients]


def with_preset(preset: str, backend: str, arguments: argparse.Namespace) -> Settings:
    """The settings of params.yaml with another preset, rasteriser and length."""
    values = YAML(typ="safe", pure=True).load(PARAMS_FILE.read_text(encoding="utf-8"))
    values["preset"], values["render"]["backend"] = preset, backend
    if arguments.refit_steps is not None:
        values["evaluate"]["refit_steps"] = arguments.refit_steps
    if arguments.steps is not None:
        for stage in ("train_stage1", "train_stage2"):
            values["presets"][preset][stage]["training"]["steps"] = arguments.steps
    return check_settings(values, name="the changed settings")


def measure_preset(settings: Settings, *, stage2: bool, sheet: Path | None) -> dict[str, object]:
    """Train both stages of a preset, score both, and time how fast they are drawn."""
    paths = subject_paths(settings.subject.name)
    clip, truth = read_clip(paths), read_truth(Path(settings.subject.truth))
    split = split_frames(clip, read_segmentation(paths), heldout_every=settings.split.heldout_every)
    body = load_body_model(settings.body.model, uv_path=settings.body.uv)
    fitted = read_track(paths.fit_refined / "track.npz", made_by="refine_fit")

    def judged(stage: TrainedRow) -> dict[str, object]:
        peak = torch.cuda.max_memory_allocated() // 2**20
        pictures = frames_per_second(stage.avatar, stage.refined, settings.render.backend)
        scores = score(paths, settings, stage.avatar, fitted, stage.refined, refitted, split.heldout, clip, truth, body)
        return {"steps": stage.steps, "seconds": stage.seconds["wall"], "peak_gpu_mb": peak, "frames_per_second": pictures, **scores}

    torch.cuda.reset_peak_memory_stats()
    last = train_avatar(settings, paths, fitted, split.train, body)
    refitted = refit(paths, settings, last.avatar, last.refined, split.heldout)
    result: dict[str, object] = {"points": last.points, "stage1": judged(last)}
    print("stage 1", json.dumps(result["stage1"]), flush=True)
    if stage2:
        torch.cuda.reset_peak_memory_stats()
        last = train_second(settings, paths, last, split.train)
        result["stage2"] = judged(last)
    if sheet is not None:
        write_sheet(sheet, last.avatar, last.refined, paths, split.heldout, settings.render.backend)
    return result


@torch.no_grad()
def frames_per_second(avatar: Avatar, track: BodyTrack, backend: str) -> dict[str, int]:
    """How fast the clip's poses are drawn, skinning, folds and shadows included: as pictures of one avatar are, and with all networks each time."""
    avatar.eval()
    camera = track.camera.resize(VIEW_PX, VIEW_PX)
    white, drawer = torch.ones(3, device=avatar.device), Drawer(avatar, backend=backend)

    def frames(draw: Callable) -> int:
        seconds = []
        for k in range(FRAMES_TIMED + 5):
            pose = track_pose(track, k % track.num_frames)
            torch.cuda.synchronize()
            start = time.perf_counter()
            draw(pose, camera, white)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return round(1 / float(np.median(seconds[5:])))

    return {"drawn": frames(drawer.draw), "decoded_for_each_pose": frames(partial(avatar.render, backend=backend))}


def write_sheet(path: Path, avatar: Avatar, track: BodyTrack, paths: SubjectPaths, heldout: list[int], backend: str) -> None:
    """Held-out frames above, the avatar in their stored poses below."""
    viewer, frames = Viewer(avatar, backend=backend), load_training_frames(paths, track, heldout)
    pairs = []
    for k in np.linspace(0, len(frames.rows) - 1, SHEET_FRAMES).round().astype(int).tolist():
        seen = viewer.see(track_pose(track, int(frames.rows[k])), track.camera)
        pairs.append(np.concatenate([on_white(frames.images[k], frames.masks[k]), seen.image]))
    sheet = (255 * np.concatenate(pairs, axis=1)).round().astype(np.uint8)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
