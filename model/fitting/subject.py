"""Which of several people in a clip is the subject, decided over all frames at once.

Axes: F frames, N people seen in a frame, K bins of colour. Squares are (x, y, side) of each person's square, px. A person is
told from others by where it was a moment ago and by the colours of its clothes: after two people have crossed only the
colours know who is who.

The subject's way through the clip is the cheapest chain of sightings, found by dynamic programming:

    cost = sum of  LOOKS * squared distance of colours  +  STEPS * jump since the last sighting  +  HIDDEN per frame without one
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

LOOKS, STEPS, HIDDEN = 7.0, 3.0, 2.3
MAX_GAP = 60  # frames over which a chain may jump
HUE_BINS, LIGHT_BINS = 8, 4  # of the two colour axes of Lab, and of its lightness
TORSO, LEGS = (11, 12, 24, 23), (23, 24, 26, 25)  # corners of what clothes cover, BlazePose's landmarks
BONES = (
    (11, 12), (11, 23), (12, 24), (23, 24), (11, 24), (12, 23), (11, 13), (13, 15), (12, 14), (14, 16), (15, 19), (16, 20),
    (23, 25), (25, 27), (24, 26), (26, 28), (27, 31), (28, 32), (0, 11), (0, 12), (7, 8),
)  # fmt: skip
FEET = range(27, 33)
UNSURE_ORDER = 0.06  # of the person's height: feet as near to each other do not tell who stands in front
LIMB_RADIUS = 0.12  # of the torso's length, around each bone: flesh and clothes


@dataclass(frozen=True)
class Sightings:
    """Everybody in one frame.

    Attributes:
        squares: x, y, side. colours: of the clothes, each row sums to 1. prominence: size, less off the picture's middle.
    """

    squares: Float[np.ndarray, "N 3"]
    colours: Float[np.ndarray, "N K"]
    prominence: Float[np.ndarray, "N"]


def clothes_colours(image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "33 2"]) -> Float[np.ndarray, "K"]:
    """How often each colour occurs on torso and thighs; even where neither is in the picture."""
    low = np.maximum(np.floor(points[list(TORSO + LEGS)].min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(points[list(TORSO + LEGS)].max(axis=0)), image.shape[1::-1]).astype(int)
    bins = 2 * LIGHT_BINS * HUE_BINS**2
    if (high - low < 2).any():
        return np.full(bins, 1 / bins)
    window = cv2.cvtColor(np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]), cv2.COLOR_RGB2LAB).astype(int)
    counts = []
    for part in (TORSO, LEGS):  # apart: a red shirt over blue trousers is not a blue one over red
        inside = np.zeros(window.shape[:2], np.uint8)
        cv2.fillConvexPoly(inside, cv2.convexHull((points[list(part)] - low).astype(np.int32)), 1)
        light, a, b = (window[inside > 0]).T
        hue = [np.clip((c - 64) * HUE_BINS // 128, 0, HUE_BINS - 1) for c in (a, b)]
        place = (light * LIGHT_BINS // 256 * HUE_BINS + hue[0]) * HUE_BINS + hue[1]
        counts.append(np.bincount(place, minlength=bins // 2))
    counts = np.concatenate(counts).astype(float) + 1e-6
    return counts / counts.sum()


def colour_distance(a: Float[np.ndarray, "*B K"], b: Float[np.ndarray, "K"]) -> Float[np.ndarray, "*B"]:
    """Bhattacharyya's distance of histograms, 0 (alike) to 1."""
    return np.sqrt(np.clip(1 - np.sqrt(a * b).sum(axis=-1), 0, 1))


def jump(before: Float[np.ndarray, "3"], now: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B"]:
    """How much a person would have moved and grown: in sides of its square, plus the logarithm of the change of size."""
    moved = np.linalg.norm(now[..., :2] - before[:2], axis=-1) / before[2]
    return moved + np.abs(np.log(now[..., 2] / before[2]))


def choose_subject(frames: Sequence[Sightings], starts: Sequence[tuple[int, int]]) -> list[int | None]:
    """The chain of the most prominent person: of all that begin with one of `starts` the one with the most to see.

    Args:
        starts: frame and number of sightings that may be the subject.

    Returns:
        For each frame which sighting is the subject; None where it is hidden or away.
    """
    chains = [follow(frames, start) for start in starts]
    worth = [sum(frame.prominence[n] for frame, n in zip(frames, chain, strict=True) if n is not None) for chain in chains]
    return chains[int(np.argmax(worth))]


def follow(frames: Sequence[Sightings], start: tuple[int, int]) -> list[int | None]:
    """The cheapest chain of sightings through one of them; its colours are learnt from a first chain."""
    colours = frames[start[0]].colours[start[1]]
    for _ in range(2):
        chain = _half(frames, start, colours, -1)[::-1] + [start[1]] + _half(frames, start, colours, 1)
        seen = [frame.colours[n] for frame, n in zip(frames, chain, strict=True) if n is not None]
        colours = np.mean(seen, axis=0)
    return chain


def _half(frames: Sequence[Sightings], start: tuple[int, int], colours: Float[np.ndarray, "K"], step: int) -> list[int | None]:
    """The chain from `start` to the clip's end (step 1) or back to its beginning (step -1), without the start itself."""
    order = range(start[0], len(frames) if step > 0 else -1, step)
    rows = [frames[t] for t in order]
    best = [np.zeros(1)]  # cost of the cheapest chain that ends in each sighting
    came = [[(0, 0)]]
    squares = [rows[0].squares[start[1]][None]]
    for t in range(1, len(rows)):
        squares.append(rows[t].squares)
        cost, where = np.full(len(rows[t].squares), np.inf), [(0, 0)] * len(rows[t].squares)
        for back in range(1, min(t, MAX_GAP) + 1):
            for n, square in enumerate(squares[t - back]):
                through = best[t - back][n] + HIDDEN * (back - 1) + STEPS * jump(square, squares[t]) / np.sqrt(back)
                for m in np.flatnonzero(through < cost):
                    cost[m], where[m] = through[m], (t - back, n)
        best.append(cost + LOOKS * colour_distance(rows[t].colours, colours) ** 2 if len(cost) else cost)
        came.append(where)
    ends = [(cost + HIDDEN * (len(rows) - 1 - t), t, n) for t, costs in enumerate(best) for n, cost in enumerate(costs)]
    _, t, n = min(ends)
    chain: list[int | None] = [None] * len(rows)
    while t > 0:
        chain[t] = n
        t, n = came[t][n]
    return chain[1:]


def territory(
    person: Float[np.ndarray, "33 2"], others: Sequence[Float[np.ndarray, "33 2"]], height: int, width: int
) -> tuple[Bool[np.ndarray, "H W"], float]:
    """Which pixels are nearer to one person's limbs than to anybody else's, and how much of the person others hide.

    Where limbs of two people lie over each other the pixel belongs to who stands nearer to the camera: whose feet are lower
    in the picture.

    Returns:
        The person's pixels, and the share of its limbs that limbs of people cover who may stand in front of it, 0..1.
    """
    own = limb_distance(person, height, width)
    mine, hidden = np.ones((height, width), bool), np.zeros((height, width), bool)
    for other in others:
        theirs = limb_distance(other, height, width)
        nearer = other[list(FEET), 1].max() - person[list(FEET), 1].max()
        mine &= own < theirs if nearer > 0 else own <= theirs
        hidden |= (own <= 0) & (theirs <= 0) & (nearer > -UNSURE_ORDER * np.ptp(person[:, 1]))
    return mine, float(hidden.sum() / max((own <= 0).sum(), 1))


def limb_distance(points: Float[np.ndarray, "33 2"], height: int, width: int) -> Float[np.ndarray, "H W"]:
    """Distance of each pixel from a person's limbs, px; 0 on them."""
    free = np.full((height, width), 255, np.uint8)
    torso = np.linalg.norm(points[[11, 12]].mean(axis=0) - points[[23, 24]].mean(axis=0))
    thickness = max(1, int(round(2 * LIMB_RADIUS * torso)))
    whole = np.clip(np.rint(points), -10_000, 10_000).astype(int)
    for a, b in BONES:
        cv2.line(free, tuple(map(int, whole[a])), tuple(map(int, whole[b])), 0, min(thickness, 255))
    cv2.circle(free, tuple(map(int, whole[0])), max(1, int(0.25 * torso)), 0, -1)
    return cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_5)
