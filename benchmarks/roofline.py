"""How near the CPU rasteriser's compositing comes to what the machine can do, and how it scales with cores.

    python -m benchmarks.roofline [--one-thread] [--json benchmarks/reports/roofline.json]

Work is counted, not estimated: how many blocks of eight pixels are blended for how many (Gaussian, tile) pairs. The limits
are measured in the same minute, with the same threads: multiply-adds in registers, and copying memory. A share near 1 of
either limit means that only less work can make it faster. Scenes are those of benchmarks/rasterizer.py. On a machine that is
busy with other work, `--one-thread` leaves the scaling out, for which the clock on the wall is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numba import njit

from benchmarks.rasterizer import SIZES, describe_machine, make_camera, make_figure
from model.render import cpu_binning, cpu_composite
from model.render.cpu import Frame
from model.render.cpu_lanes import LANES, load, spread, total
from model.render.cpu_project import RECORD_SIZE
from model.render.cpu_threads import run_pieces

REPEATS = 12
FORWARD_FLOPS, BACKWARD_FLOPS = 42, 62  # a pixel and Gaussian, counted in model/render/cpu_composite.py; a multiply-add is two
RECORD_BYTES, PAIR_BYTES, GRAD_BYTES = 64, 8, 40  # of a pair, read or written once
FORWARD_PIXEL_BYTES, BACKWARD_PIXEL_BYTES = 28, 28  # picture, transmittance and rank; those and the picture's gradient
COPY_BYTES = 1 << 28
MANY_CORES = 16


@njit(nogil=True, cache=True, error_model="numpy", fastmath=cpu_composite.FASTMATH)
def multiply_add(repeats, numbers):
    """Independent chains of multiply-adds, enough of them to hide their latency; 20 * LANES flops a repeat."""
    x = load(numbers, 0)
    a, b, c, d, e, f, g, h, i, j = x, x, x, x, x, x, x, x, x, x
    by, plus = spread(np.float32(0.5)), load(numbers, LANES)
    for _ in range(repeats):
        a, b, c, d, e = a * by + plus, b * by + plus, c * by + plus, d * by + plus, e * by + plus
        f, g, h, i, j = f * by + plus, g * by + plus, h * by + plus, i * by + plus, j * by + plus
    return total(a + b + c + d + e + f + g + h + i + j)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=cpu_composite.FASTMATH)
def count_blocks(tiles_x, height, width, tile_starts, pairs, pair_drawn, records, last_image):
    """How many blocks backward blends, summed over all pairs; forward blends those until they are finished, nearly the same."""
    last_ranks = np.empty(cpu_composite.NUM_BLOCKS, np.float32)
    row_edges = np.empty(2 * cpu_composite.ROW_ENDS, np.float32)
    blocks = np.empty(cpu_composite.NUM_BLOCKS + 1, np.int64)
    count = 0
    for tile in range(len(tile_starts) - 1):
        tile_x, tile_y = (tile % tiles_x) * cpu_binning.TILE_WIDTH, (tile // tiles_x) * cpu_binning.TILE_HEIGHT
        last_ranks[:] = 0
        for y in range(tile_y, min(tile_y + cpu_binning.TILE_HEIGHT, height)):
            for x in range(tile_x, min(tile_x + cpu_binning.TILE_WIDTH, width)):
                block = cpu_composite.pixel_place(y - tile_y, x - tile_x) // cpu_composite.BLOCK_SIZE
                last_ranks[block] = max(last_ranks[block], last_image[y, x])
        for i in range(tile_starts[tile], tile_starts[tile + 1]):
            if pair_drawn[i]:
                first, rank = np.int64(pairs[i] >> cpu_binning.HALF_WORD) * RECORD_SIZE, np.float32(i - tile_starts[tile] + 1)
                count += cpu_composite.list_blocks(records, first, tile_x, tile_y, rank, last_ranks, row_edges, blocks)
    return count


def best(work: Callable[[], None]) -> float:
    """Seconds of the fastest of some repeats; with one thread its processor time, which other programs disturb less."""
    clock = time.perf_counter if torch.get_num_threads() > 1 else time.thread_time
    times = []
    for _ in range(REPEATS):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def machine_limits(threads: int) -> dict[str, float]:
    """Gflop/s of multiply-adds and GB/s of copying, read and written, with this many threads."""
    numbers, repeats = np.ones(2 * LANES, np.float32), 2_000_000
    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)
    parts = [slice(COPY_BYTES * i // threads, COPY_BYTES * (i + 1) // threads) for i in range(threads)]
    flops = threads * repeats * 20 * LANES / best(lambda: run_pieces(lambda _: multiply_add(repeats, numbers), range(threads)))
    copied = 2 * COPY_BYTES / best(lambda: run_pieces(lambda part: np.copyto(target[part], source[part]), parts))
    return {"gflops": flops / 1e9, "gbytes": copied / 1e9}


def measure_scene(num_gaussians: int, size_px: int) -> dict[str, float]:
    """Milliseconds of the parts of one picture with the present number of threads, and the work in it."""
    figure, camera = make_figure(num_gaussians), make_camera(size_px)
    frame = Frame([figure.means, figure.scales, figure.colors, figure.opacities, torch.ones(3)], camera)
    gradients = [np.ones((size_px, size_px, 3), np.float32), *np.ones((2, size_px, size_px), np.float32)]
    spent = {}
    spent["project and deal"] = best(frame.project)
    spent["forward"] = best(lambda: frame.draw(for_backward=True))
    spent["composite"] = spent["forward"] - spent["project and deal"]
    spent["backward"] = best(lambda: frame.backward(*gradients))
    blocks = count_blocks(
        frame.tiles_x, size_px, size_px, frame.tile_starts, frame.pairs, frame.drawn, frame.records.reshape(-1), frame.last
    )
    longest = int(np.diff(frame.tile_starts).max())
    work = {"pairs": len(frame.pairs), "pairs_drawn": int(frame.drawn.sum()), "pixels_blended": LANES * int(blocks), "longest_list": longest}
    return {name.replace(" ", "_") + "_ms": 1e3 * seconds for name, seconds in spent.items()} | work


def shares(row: dict[str, float], limits: dict[str, float], pixels: int) -> dict[str, float]:
    """What compositing reached of the machine's limits."""
    found = {}
    for name, ms, flops, pair_bytes, pixel_bytes in (
        ("forward", row["composite_ms"], FORWARD_FLOPS, RECORD_BYTES + 3 * PAIR_BYTES, FORWARD_PIXEL_BYTES),
        ("backward", row["backward_ms"], BACKWARD_FLOPS, RECORD_BYTES + PAIR_BYTES + 2 * GRAD_BYTES, BACKWARD_PIXEL_BYTES),
    ):
        gflops = flops * row["pixels_blended"] / ms / 1e6
        gbytes = (pair_bytes * row["pairs"] + pixel_bytes * pixels) / ms / 1e6
        found |= {f"{name}_gflops": gflops, f"{name}_share_of_flops": gflops / limits["gflops"]}
        found |= {f"{name}_gbytes": gbytes, f"{name}_share_of_copying": gbytes / limits["gbytes"]}
    return found


def add_scaling(alone: list[dict[str, float]], shared: list[dict[str, float]], threads: int) -> None:
    """Add the speed-up from one thread to all, and a bound for many cores from Amdahl's law and the longest tile's list."""
    for row, more in zip(alone, shared, strict=True):
        one, many = row["forward_ms"] + row["backward_ms"], more["forward_ms"] + more["backward_ms"]
        serial = max((many - one / threads) / (1 - 1 / threads), 0.0)  # from time(T) = serial + (one - serial) / T
        bound = max(serial + (one - serial) / MANY_CORES, one * row["longest_list"] / row["pairs"])
        row |= {"speedup": one / many, "serial_ms": serial, f"bound_{MANY_CORES}": one / bound}
        print(f"{row['num_gaussians']:8,} {row['size_px']:5d} px  x{one / many:.2f} on {threads} threads; on {MANY_CORES} at most x{one / bound:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one-thread", action="store_true", help="one thread, processor time: for a busy machine")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    command = "python -m benchmarks.roofline" + (" --one-thread" if arguments.one_thread else "")
    report = {"machine": describe_machine("cpu"), "command": command, "threads": {}}
    for threads in (1,) if arguments.one_thread else (1, os.cpu_count() or 1):
        torch.set_num_threads(threads)
        limits = machine_limits(threads)
        print(f"{threads} threads: {limits['gflops']:.0f} Gflop/s, {limits['gbytes']:.1f} GB/s, load {os.getloadavg()[0]:.1f}")
        scenes = []
        for num_gaussians, size_px in SIZES:
            row = measure_scene(num_gaussians, size_px)
            row |= {"num_gaussians": num_gaussians, "size_px": size_px} | shares(row, limits, size_px**2)
            scenes.append(row)
            print(
                f"{num_gaussians:8,} {size_px:5d} px  {row['pairs']:8,} pairs  {row['pixels_blended'] / 1e6:6.1f} M pixels blended"
                f"  deal {row['project_and_deal_ms']:5.1f}  composite {row['composite_ms']:6.1f}  backward {row['backward_ms']:6.1f} ms"
                f"  of flops {row['forward_share_of_flops']:.0%} {row['backward_share_of_flops']:.0%}"
                f"  of copying {row['forward_share_of_copying']:.0%} {row['backward_share_of_copying']:.0%}",
                flush=True,
            )
        report["threads"][threads] = {"limits": limits, "scenes": scenes}
    if not arguments.one_thread:
        add_scaling(report["threads"][1]["scenes"], scenes, threads)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
