"""Teaches the outline network on generated films and writes `model/fitting/outline_network.safetensors`.

Run `python -m teaching.outlines` (hours on two cores; with `--jobs 16` and a GPU sixteen cores make 35 films a minute, and 12,000 steps take three minutes). What happens:

1. Films are made (teaching/films.py), and the pipeline's own detector and background model are run on each, so that the network
   learns from what it will be told: coarse masks with lost soles, shadows, a background with holes. Made lessons are kept and reused.
2. The network is trained on squares around outlines to give the true share of person; every tenth film is kept to measure it.

Axes: C input channels, H x W pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as nnf

from model.fitting.clip_landmarks import track_clip
from model.fitting.landmarks import PoseDetector
from model.fitting.mask_checks import largest_part
from model.fitting.matting import REACH, box_around, learn_scene, weigh_colours
from model.fitting.outline_network import STEP, WEIGHTS, OutlineNetwork, outline_inputs
from teaching.films import make_film

FRAMES = 24  # of a film
SQUARE = 160  # px, side of what the network learns from at once
BATCH = 32
RATE = 2e-3  # of Adam at its highest
WARMUP = 0.05  # of all steps
NEAR = 6  # px around the true outline that count
AWAY = 0.05  # how much a pixel farther off counts
SPOILT, SPOILT_SHARE, PATCH = 0.5, 0.25, 20  # share of squares with spoilt places, of their cells that are, and px of a cell
UNLIKE = 0.02  # squared difference of colour at which a spoilt background speaks for the person
UNKNOWN = 0.05  # share of squares without a background
JUDGING = 10  # every how many films one is kept out


@dataclass(frozen=True)
class Lesson:
    """One frame: what the network is told, and the truth; 255 stands for 1."""

    inputs: UInt8[np.ndarray, "C H W"]
    truth: UInt8[np.ndarray, "H W"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lessons", type=Path, default=Path("work/outline_lessons"), help="where lessons are kept")
    parser.add_argument("--films", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=100, help="of the films")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--jobs", type=int, default=2, help="processes that make films")
    parser.add_argument("--steps", type=int, default=15_000, help="of training; 0 only makes lessons")
    parser.add_argument("--average", type=Path, nargs="+", help="weights to average, and teach nothing")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    if options.average:
        return write_weights(average(options.average), options.out)
    make_lessons(options.lessons, range(options.first_seed, options.first_seed + options.films), options.jobs)
    if options.steps:
        network = teach(options.lessons, options.steps, torch.device(options.device), options.start)
        write_weights({name: value.half().cpu().contiguous() for name, value in network.state_dict().items()}, options.out)


def write_weights(weights: dict[str, Float[Tensor, "*S"]], path: Path) -> None:
    """Write them whole or not at all."""
    whole = path.with_suffix(".part")
    save_file(weights, whole)
    whole.replace(path)


# ------------------------------------------------------------------------------------------------------------ lessons


def make_lessons(folder: Path, seeds: range, jobs: int) -> None:
    """Make the lessons of as many films as are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:06d}.npz" for seed in seeds]
    missing = [path for path in paths if not path.exists()]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for _ in track(pool.map(write_lessons, missing), total=len(missing), description="films"):
            pass


def write_lessons(path: Path) -> None:
    """Make the lessons of one film and keep them; a film in which nobody is found has none."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    arrays = {}
    for k, lesson in enumerate(film_lessons(int(path.stem))):
        arrays |= {f"inputs_{k}": lesson.inputs, f"truth_{k}": lesson.truth}
    whole = path.with_suffix(".part.npz")
    np.savez(whole, **arrays)
    whole.rename(path)


def film_lessons(seed: int) -> Iterator[Lesson]:
    """What the pipeline knows of each frame before the outline is decided, and the truth."""
    film, detector = make_film(seed, FRAMES), PoseDetector(num_threads=1)
    people = track_clip(film.images, detector=detector)
    seen = [k for k, person in enumerate(people) if person is not None]
    if len(seen) < FRAMES // 2:
        return
    images, truth = film.images[seen], film.alphas[seen]
    coarse = np.stack([largest_part(detector.segment(film.images[k], people[k]), seed=people[k].mask) for k in seen])
    background, colours = learn_scene(images, coarse)
    for image, mask, true in zip(images, coarse, truth, strict=True):
        box = box_around(mask)
        if min(mask[box].shape) < SQUARE // 2 or not mask.any():
            continue
        weighed = weigh_colours(image[box], mask[box], background=background[box], colours=colours)
        yield Lesson(outline_inputs(image[box], mask[box], weighed, background[box]), np.rint(255 * true[box]).astype(np.uint8))


def read_lessons(path: Path) -> list[Lesson]:
    with np.load(path) as arrays:
        return [Lesson(arrays[f"inputs_{k}"], arrays[f"truth_{k}"]) for k in range(len(arrays.files) // 2)]


# ----------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Frame:
    """A lesson where the training can reach it.

    Attributes:
        told: inputs and, last, the truth.
        outline: rows and columns of the true outline, px.
    """

    told: UInt8[Tensor, "C+1 H W"]
    outline: np.ndarray


def teach(folder: Path, steps: int, device: torch.device, start: Path | None = None) -> OutlineNetwork:
    """Train the network on all lessons but those kept to judge it, and say how it does on these."""
    paths = sorted(folder.glob("[0-9]*[0-9].npz"))
    frames = [[as_frame(lesson, device) for lesson in read_lessons(path)] for path in track(paths, description="reading")]
    judges = [frame for film in frames[::JUDGING] for frame in film]
    learned = [frame for k, film in enumerate(frames) if k % JUDGING for frame in film]
    torch.manual_seed(0)
    network, rng = OutlineNetwork().to(device), np.random.default_rng(0)
    if start is not None:
        network.load_state_dict({name: value.float() for name, value in load_file(start).items()})
        print(f"taught before: {judge(network, judges)}")
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    print(f"{len(learned)} frames to learn from, {len(judges)} to judge by; {sum(p.numel() for p in network.parameters())} parameters")
    print(f"weighed masks: {judge(None, judges)}")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=WARMUP)
    for step in track(range(steps), description="teaching"):
        inputs, truth = draw_batch(learned, rng)
        loss = outline_loss(network(inputs), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, steps // 10) == 0:
            print(f"step {step + 1}: {judge(network, judges)}", flush=True)
    return network


def average(paths: list[Path]) -> dict[str, Float[Tensor, "*S"]]:
    """The mean of weights that were taught one from another: it errs less than each where they err differently (Wortsman et al. 2022)."""
    weights = [load_file(path) for path in paths]
    return {name: torch.stack([each[name].float() for each in weights]).mean(dim=0).half() for name in weights[0]}


def as_frame(lesson: Lesson, device: torch.device) -> Frame:
    truth = lesson.truth
    outline = (cv2.dilate(truth, np.ones((3, 3))) > 127) != (cv2.erode(truth, np.ones((3, 3))) > 127)
    return Frame(torch.from_numpy(np.concatenate([lesson.inputs, truth[None]])).to(device), np.argwhere(outline))


def draw_batch(frames: list[Frame], rng: np.random.Generator) -> tuple[Float[Tensor, "B C S S"], Float[Tensor, "B S S"]]:
    """Squares around outlines, turned over at random, in colours that vary."""
    squares = []
    while len(squares) < BATCH:
        frame = frames[rng.integers(len(frames))]
        height, width = frame.told.shape[1:]
        if not len(frame.outline):
            continue
        middle = frame.outline[rng.integers(len(frame.outline))] + rng.integers(-SQUARE // 3, SQUARE // 3 + 1, 2)
        i, j = (int(np.clip(m - SQUARE // 2, 0, max(0, side - SQUARE))) for m, side in zip(middle, (height, width), strict=True))
        square = frame.told[:, i : i + SQUARE, j : j + SQUARE]
        square = nnf.pad(square, (0, SQUARE - square.shape[2], 0, SQUARE - square.shape[1]))
        squares.append(square.flip(2) if rng.random() < 0.5 else square)
    told = torch.stack(squares).float() / 255
    inputs, truth = told[:, :-1], told[:, -1]
    return disturb(recolour(inputs, rng)), truth


def disturb(inputs: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
    """Spoil what is known of the background in some squares, as a real place does: things that were moved, light that changed, a camera
    that crept; or take it all away, as a camera that moves does."""
    image, plate, (trust, spread, shaded, coarse, weighed, there) = inputs[:, :3], inputs[:, 3:6], inputs[:, 6:].split(1, dim=1)
    count, size = len(inputs), inputs.shape[-1]

    def choose(share: float) -> Bool[Tensor, "B 1 1 1"]:
        return torch.rand(count, 1, 1, 1, device=inputs.device) < share

    cells = torch.rand(count, 1, size // PATCH, size // PATCH, device=inputs.device)
    patches = nnf.interpolate(cells, (size, size), mode="bilinear") > 1 - SPOILT_SHARE
    patches = patches & choose(SPOILT) & (trust > 0)
    other = torch.where(choose(0.5), plate.roll((PATCH // 2, -PATCH // 3), dims=(2, 3)), plate * torch.exp(0.25 * torch.randn(count, 3, 1, 1, device=inputs.device)))
    plate = torch.where(patches, other.clamp(0, 1), plate)
    unlike = 1 - torch.exp(-((image - plate) ** 2).sum(dim=1, keepdim=True) / UNLIKE)
    near = nnf.max_pool2d((coarse > 0.1).float(), 2 * REACH + 1, 1, REACH)
    weighed = torch.where(patches, torch.maximum(weighed, unlike * near), weighed)
    gone = choose(UNKNOWN)
    plate, trust, shaded = (torch.where(gone, 0.0, each) for each in (plate, trust, shaded))
    return torch.cat([image, plate, trust, spread, shaded, coarse, torch.where(gone, coarse, weighed), there], dim=1)


def recolour(inputs: Float[Tensor, "B C S S"], rng: np.random.Generator) -> Float[Tensor, "B C S S"]:
    """Picture and background with their channels shuffled, and brighter or darker, one of them a little more than the other."""
    order = [rng.permutation(3) for _ in range(len(inputs))]
    gain, gamma = np.exp(rng.normal(size=(len(inputs), 3)) * 0.12), np.exp(rng.normal(size=len(inputs)) * 0.15)
    drift = np.exp(rng.normal(size=(len(inputs), 1)) * 0.012) * np.ones(3)

    def like(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=inputs.dtype, device=inputs.device)

    there = inputs[:, -1:]
    order = torch.as_tensor(np.array(order), device=inputs.device)[:, :, None, None].expand(-1, -1, *inputs.shape[2:])
    gain, gamma, drift = like(gain)[:, :, None, None], like(gamma)[:, None, None, None], like(drift)[:, :, None, None]
    image, plate = (inputs[:, a : a + 3].gather(1, order).clamp(1e-4) ** gamma * gain for a in (0, 3))
    noise = torch.randn_like(image) * like(0.012 * rng.random(len(inputs)))[:, None, None, None]
    return torch.cat([(image * drift + noise).clamp(0, 1) * there, plate.clamp(0, 1) * there, inputs[:, 6:]], dim=1)


def outline_loss(logits: Float[Tensor, "B S S"], truth: Float[Tensor, "B S S"]) -> Float[Tensor, ""]:
    """Absolute and squared differences, near the true outline above all."""
    low, high = (sign * nnf.max_pool2d(sign * truth[:, None], 2 * NEAR + 1, 1, NEAR)[:, 0] for sign in (-1, 1))
    weight = AWAY + (high - low > 0.5) * (1 - AWAY)
    difference = (torch.sigmoid(logits) - truth).abs()
    return (weight * (difference + 2 * difference**2)).sum() / weight.sum()


@torch.no_grad()
def judge(network: OutlineNetwork | None, frames: list[Frame]) -> str:
    """Errors per pixel of outline, on whole frames; None: of the weighed masks."""
    absolute, squared = [], []
    for frame in frames[::4]:
        told = frame.told[None].float() / 255
        height, width = (side - side % STEP for side in told.shape[2:])
        inputs, truth = told[:, :-1, :height, :width], told[0, -1, :height, :width]
        mask = inputs[0, -2] if network is None else torch.sigmoid(network(inputs))[0]
        length = len(frame.outline) / 2
        absolute.append(float((mask - truth).abs().sum() / length))
        squared.append(float(((mask - truth) ** 2).sum() / length))
    return f"{np.mean(absolute):.3f} px off along the outline, squared error {np.mean(squared):.3f}"


if __name__ == "__main__":
    main()
