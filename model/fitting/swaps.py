"""Left taken for right: found where limbs would have to leap, and undone over the whole clip.

Axes: F frames, 33 BlazePose landmarks. A detector that sees legs for a moment as a mirror image swaps left and right in one
frame and swaps them back in another. Each limb pair (arms, legs) is either as detected or swapped in a frame; the cheapest
chain of states is found by dynamic programming:

    cost = sum of  path of the pair's landmarks between frames / (height (1 + dt / SLOW))
                 + BONE | log(length of the bones that join the pair to the trunk / their usual length) |
                 + SWAPPED for each swapped frame

Where limbs pass each other both states cost the same path, and the detector is believed. In a clip of few frames a second
limbs may be anywhere in the next frame, so paths say less there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

ARMS = ((13, 14), (15, 16), (17, 18), (19, 20), (21, 22))
LEGS = ((25, 26), (27, 28), (29, 30), (31, 32))
BODY = ((1, 4), (2, 5), (3, 6), (7, 8), (9, 10), (11, 12), (23, 24), *ARMS, *LEGS)
ROOTS = {"body": (), "arms": ((11, 13), (12, 14)), "legs": ((23, 25), (24, 26))}  # bones from the trunk to the pair
LIMB_PAIRS = {"body": BODY, "arms": ARMS, "legs": LEGS}  # in the order of repair: the whole person first
SWAPPED = 0.05  # heights of path a frame that the detector is believed rather than the path
SLOW = 0.15  # s between frames from which on a path says half as much
BONE, MAX_BONE = 0.3, 1.0  # heights of path for a bone e times too long; no bone counts for more than MAX_BONE
MAX_STEP = 0.5  # heights; beyond it a landmark was lost, and says nothing


@dataclass(frozen=True)
class Repaired:
    """Landmarks with left and right put right.

    Attributes:
        swapped: for each of LIMB_PAIRS the frames in which it was swapped.
    """

    points: Float[np.ndarray, "F 33 2"]
    visibility: Float[np.ndarray, "F 33"]
    points_world: Float[np.ndarray, "F 33 3"]
    swapped: dict[str, list[int]]


def repair_swaps(
    points: Float[np.ndarray, "F 33 2"], visibility: Float[np.ndarray, "F 33"], points_world: Float[np.ndarray, "F 33 3"],
    times: Float[np.ndarray, "F"],
) -> Repaired:  # fmt: skip
    """Undo swaps of the whole person, then of arms and legs; frames without landmarks (all visibilities 0) are passed over."""
    seen = np.flatnonzero(visibility.sum(axis=1) > 0)
    points, visibility, points_world = points.copy(), visibility.copy(), points_world.copy()
    swapped: dict[str, list[int]] = {}
    for name, pairs in LIMB_PAIRS.items():
        rows = seen[find_swaps(points[seen], points_world[seen], times[seen], pairs, ROOTS[name])] if len(seen) > 2 else seen[:0]
        swapped[name] = rows.tolist()
        left, right = (np.array(side) for side in zip(*pairs, strict=True))
        for values in (points, visibility, points_world):
            values[np.ix_(rows, left)], values[np.ix_(rows, right)] = values[np.ix_(rows, right)], values[np.ix_(rows, left)]
    return Repaired(points, visibility, points_world, swapped)


def find_swaps(
    points: Float[np.ndarray, "F 33 2"], points_world: Float[np.ndarray, "F 33 3"], times: Float[np.ndarray, "F"],
    pairs: tuple[tuple[int, int], ...], roots: tuple[tuple[int, int], ...],
) -> Bool[np.ndarray, "F"]:  # fmt: skip
    """The frames in which the detector swapped these pairs: Viterbi over two states a frame.

    Picture and world landmarks both count: of limbs that pass each other in the picture one is nearer to the camera.
    """
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    height = np.median(np.ptp(points[..., 1], axis=1))
    world_height = np.median(np.ptp(points_world[..., 1], axis=1))
    places = np.concatenate([points / max(height, 1e-9), points_world / max(world_height, 1e-9)], axis=-1)
    a, b = places[:, left], places[:, right]

    def path(first: np.ndarray, second: np.ndarray) -> Float[np.ndarray, "F-1"]:
        """Mean way from each frame's `first` to the next one's `second`."""
        return np.minimum(np.linalg.norm(second[1:] - first[:-1], axis=-1), MAX_STEP).mean(axis=-1)

    slowness = 1 + np.diff(times) / SLOW
    same, crossed = (path(a, a) + path(b, b)) / slowness, (path(a, b) + path(b, a)) / slowness
    of_state = BONE * _odd_bones(points_world, roots) + np.array([0.0, SWAPPED])
    cost, came = of_state[0], []
    for stay, cross, of_frame in zip(same, crossed, of_state[1:], strict=True):
        into = cost[:, None] + np.array([[stay, cross], [cross, stay]])
        came.append(into.argmin(axis=0))
        cost = into.min(axis=0) + of_frame
    states = [int(cost.argmin())]
    for back in reversed(came):
        states.append(int(back[states[-1]]))
    return np.array(states[::-1], bool)


def _odd_bones(points_world: Float[np.ndarray, "F 33 3"], roots: tuple[tuple[int, int], ...]) -> Float[np.ndarray, "F 2"]:
    """How much longer or shorter than usual the bones to a pair are, as detected and with the pair swapped."""
    if not roots:
        return np.zeros((len(points_world), 2))
    trunk, limb = (points_world[:, list(ends)] for ends in zip(*roots, strict=True))
    lengths = np.stack([np.linalg.norm(ends - trunk, axis=-1) for ends in (limb, limb[:, ::-1])], axis=1)
    usual = np.maximum(np.median(lengths[:, 0], axis=0), 1e-9)
    return np.minimum(np.abs(np.log(np.maximum(lengths, 1e-9) / usual)), MAX_BONE).mean(axis=-1)
