"""How long drawing a person takes: forward and backward of a rasteriser, beside plain torch and beside another program.

    python -m benchmarks.rasterizer [--backend auto] [--peer FILE.py] [--one-thread] [--json results.json] [--picture figure.png]

The subject is a standing figure of 1.76 m made of capsules, seen at 80 % of the picture's height, its Gaussians as far
apart on the surface as their standard deviation. "Torch tiles" is model/render/reference.py in float32, with the same
threads; it is left out where it would take minutes. A peer is a Python file of your own, outside this repository, with a
function `rasterize(gaussians, camera, background)` that returns an object with `image` [H, W, 3] and `alpha` [H, W],
differentiable in the Gaussians and the background. All take turns in one process, and ratios hold best against best. On a
machine that is busy with other work, `--one-thread` counts processor time instead of the clock on the wall.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import torch
from rich.console import Console
from rich.table import Table

from model.camera import Camera
from model.gaussians import Gaussians, Rendered
from model.render.rasterize import choose_backend, rasterize
from model.render.reference import rasterize_reference

SIZES = ((12_000, 256), (12_000, 512), (50_000, 512), (200_000, 512), (200_000, 1024))  # Gaussians, pixels
REPEATS = 15
TWIN_TILE_PX = 32  # the fastest of 16, 32 and 64 on this scene
OTHER_REPEATS = 2  # of the twin and of a peer, which take seconds
TWIN_MAX_GAUSSIANS = 12_000  # at 50 k the twin takes many seconds a picture

# The figure: capsules as (one end, other end, radius), metres, y down, the middle of the body at the origin.
CAPSULES = (
    ((0.0, -0.45, 0.0), (0.0, 0.05, 0.0), 0.16),  # torso
    ((0.0, -0.77, 0.0), (0.0, -0.68, 0.0), 0.10),  # head
    ((-0.09, 0.10, 0.0), (-0.13, 0.82, 0.0), 0.07),  # legs
    ((0.09, 0.10, 0.0), (0.13, 0.82, 0.0), 0.07),
    ((-0.20, -0.42, 0.0), (-0.55, 0.05, 0.0), 0.05),  # arms
    ((0.20, -0.42, 0.0), (0.55, 0.05, 0.0), 0.05),
)
FIGURE_HEIGHT_M = 1.76
CAMERA_DISTANCE_M = 3.0
SHARE_OF_HEIGHT = 0.8


Draw = Callable[[Gaussians, Camera, torch.Tensor], Rendered]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one scene: medians, and the best of all repeats, which other programs disturb least."""

    num_gaussians: int
    size_px: int
    forward_ms: float
    backward_ms: float
    both_ms: float
    best_ms: float
    twin_best_ms: float | None
    peer_best_ms: float | None


def make_figure(num_gaussians: int, seed: int = 0) -> Gaussians:
    """Opaque Gaussians spread evenly over the figure's surface, lit from the upper left."""
    generator = torch.Generator().manual_seed(seed)
    areas = torch.tensor([2 * math.pi * radius * (math.dist(start, end) + 2 * radius) for start, end, radius in CAPSULES])
    counts = torch.floor(areas / areas.sum() * num_gaussians).long()
    counts[0] += num_gaussians - counts.sum()
    means, normals = [], []
    for (start, end, radius), count in zip(CAPSULES, counts.tolist(), strict=True):
        start, axis = torch.tensor(start), torch.tensor(end) - torch.tensor(start)
        length = axis.norm()
        axis = axis / length
        # equal steps along the axis are equal areas, on the caps too (Archimedes)
        along = torch.rand(count, generator=generator) * (length + 2 * radius) - radius
        beyond = along - along.clamp(0, length)
        angle = 2 * math.pi * torch.rand(count, generator=generator)
        side = torch.nn.functional.normalize(torch.linalg.cross(axis, torch.tensor([0.0, 0.0, 1.0])), dim=0)
        front = torch.linalg.cross(axis, side)
        around = angle.cos()[:, None] * side + angle.sin()[:, None] * front
        normal = around * (1 - (beyond / radius) ** 2).clamp(min=0).sqrt()[:, None] + axis * (beyond / radius)[:, None]
        means.append(start + axis * along.clamp(0, length)[:, None] + radius * normal)
        normals.append(normal)
    means, normals = torch.cat(means), torch.cat(normals)
    light = torch.nn.functional.normalize(torch.tensor([-0.5, -0.7, -0.6]), dim=0)
    shade = 0.35 + 0.65 * (normals @ light).clamp(min=0)
    stripes = torch.where(torch.sin(60 * means[:, 1:2]) > 0, torch.tensor([0.9, 0.55, 0.3]), torch.tensor([0.25, 0.45, 0.8]))
    spacing = math.sqrt(areas.sum().item() / num_gaussians)
    return Gaussians(means, torch.full((num_gaussians,), spacing), stripes * shade[:, None], torch.ones(num_gaussians))


def make_camera(size_px: int) -> Camera:
    """A square view of the whole figure."""
    focal = SHARE_OF_HEIGHT * size_px / FIGURE_HEIGHT_M * CAMERA_DISTANCE_M
    w2c = torch.eye(4)
    w2c[2, 3] = CAMERA_DISTANCE_M
    return Camera(torch.tensor([[focal, 0, size_px / 2], [0, focal, size_px / 2], [0, 0, 1]]), w2c, size_px, size_px)


def time_scene(
    draws: Sequence[tuple[Draw, int]], num_gaussians: int, size_px: int, device: str, tick: Callable[[], float] = time.perf_counter
) -> list[list[tuple[float, float]]]:
    """Seconds of forward and of backward (gradients of image and alpha to all inputs), for each way to draw, which take turns.

    Args:
        draws: each with the number of its repeats; one more comes first, to warm up.
    """
    figure, camera, background = make_figure(num_gaussians), make_camera(size_px), torch.ones(3)
    inputs = [figure.means, figure.scales, figure.colors, figure.opacities, background]
    inputs = [x.to(device).requires_grad_() for x in inputs]
    cotangents = [torch.randn(size_px, size_px, 3, device=device), torch.randn(size_px, size_px, device=device)]

    def clock() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return tick()

    seconds: list[list[tuple[float, float]]] = [[] for _ in draws]
    for repeat in range(max(repeats for _, repeats in draws) + 1):
        for (draw, repeats), taken in zip(draws, seconds, strict=True):
            if repeat > repeats:
                continue
            start = clock()
            drawn = draw(Gaussians(*inputs[:4]), camera, inputs[4])
            middle = clock()
            torch.autograd.grad([drawn.image, drawn.alpha], inputs, cotangents)
            taken.append((middle - start, clock() - middle))
    return [taken[1:] for taken in seconds]


def draw_in_tiles(gaussians: Gaussians, camera: Camera, background: torch.Tensor) -> Rendered:
    """The plain torch twin as it is fastest."""
    return rasterize_reference(gaussians, camera, background, tile_px=TWIN_TILE_PX)


def load_peer(path: Path) -> Draw:
    """The function `rasterize` of a Python file."""
    spec = importlib.util.spec_from_file_location("peer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.rasterize


def measure(backend: str, device: str, peer: Draw | None, twin: bool, repeats: int, tick: Callable[[], float]) -> list[Timing]:
    """Time every size."""
    timings = []
    for num_gaussians, size_px in SIZES:
        draws = {"ours": (lambda *scene: rasterize(*scene, backend=backend), repeats)}
        if twin and num_gaussians <= TWIN_MAX_GAUSSIANS:
            draws["twin"] = (draw_in_tiles, OTHER_REPEATS)
        if peer is not None:
            draws["peer"] = (peer, OTHER_REPEATS)
        seconds = dict(zip(draws, time_scene(list(draws.values()), num_gaussians, size_px, device, tick), strict=True))
        best = {name: 1e3 * min(map(sum, taken)) for name, taken in seconds.items()}
        forward, backward = zip(*seconds["ours"], strict=True)
        both = statistics.median(map(sum, seconds["ours"]))
        medians = (1e3 * statistics.median(forward), 1e3 * statistics.median(backward), 1e3 * both)
        timings.append(Timing(num_gaussians, size_px, *medians, best["ours"], best.get("twin"), best.get("peer")))
        print(timings[-1], flush=True)
    return timings


def describe_machine(device: str) -> dict[str, str | int]:
    """What the numbers hang on: processor, threads, versions, commit."""
    processor = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if device != "cpu":
        processor = torch.cuda.get_device_name()
    elif cpu_info.exists():
        processor = next((line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if "model name" in line), processor)
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "../model"], capture_output=True).returncode != 0
    return {
        "processor": processor,
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": version("numba"),
        "commit": (commit or "unknown") + (" with changes" if changed else ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="auto", help="auto, cpu, diff_gaussian_rasterization or gsplat")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--peer", type=Path, help="a Python file with another rasteriser, see above")
    parser.add_argument("--without-twin", action="store_true", help="leave plain torch out, which takes most of the time")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--picture", type=Path, help="also write the figure, 50 k Gaussians at 512 pixels, to this PNG")
    parser.add_argument("--one-thread", action="store_true", help="one thread, processor time: for a busy machine")
    arguments = parser.parse_args()
    if arguments.one_thread:
        torch.set_num_threads(1)

    backend = choose_backend(arguments.backend, arguments.device)
    machine = {"backend": backend, **describe_machine(arguments.device)}
    machine["clock"] = "processor time" if arguments.one_thread else "wall"
    machine["command"] = " ".join(["python -m benchmarks.rasterizer", *(Path(argument).name for argument in sys.argv[1:])])
    peer = load_peer(arguments.peer) if arguments.peer else None
    tick = time.process_time if arguments.one_thread else time.perf_counter
    timings = measure(backend, arguments.device, peer, not arguments.without_twin, arguments.repeats, tick)
    machine["load after"] = f"{os.getloadavg()[0]:.1f}"
    print_table(timings, machine)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "timings": [asdict(timing) for timing in timings]}, indent=2) + "\n")
    if arguments.picture:
        image = rasterize(make_figure(50_000), make_camera(512), torch.ones(3)).image
        cv2.imwrite(str(arguments.picture), cv2.cvtColor((255 * image.clamp(0, 1)).round().byte().numpy(), cv2.COLOR_RGB2BGR))


def print_table(timings: list[Timing], machine: dict[str, str | int]) -> None:
    """One row a size."""
    table = Table(title="Rasteriser, ms (medians; best of all repeats)", caption=", ".join(f"{k} {v}" for k, v in machine.items()))
    for heading in ("Gaussians", "pixels", "forward", "backward", "both", "best", "torch tiles", "ratio", "peer", "ratio"):
        table.add_column(heading, justify="right")
    for t in timings:
        others = []
        for other in (t.twin_best_ms, t.peer_best_ms):
            others += ["-", "-"] if other is None else [f"{other:.0f}", f"{other / t.best_ms:.1f}x"]
        numbers = (f"{x:.1f}" for x in (t.forward_ms, t.backward_ms, t.both_ms, t.best_ms))
        table.add_row(f"{t.num_gaussians:,}", str(t.size_px), *numbers, *others)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
