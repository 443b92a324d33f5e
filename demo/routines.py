"""What each of the cast does in their clip: one routine for each kind of motion that a body fit finds hard.

    turntable    one slow full turn on the spot, arms a little away from the body
    walk         across the picture, towards the camera and away from it, turning twice
    arms         forward, one forward and one back, behind the back, across the chest, on the hips and on the head; half turned too
    knee_bends   four deep ones: from the front, half turned, from the side, from the other side
    dance        side steps with swinging arms, a twist, knees lifted, a quick half turn and back

Angles are degrees, times are seconds, places are metres; the channels are those of motion.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy.interpolate import PchipInterpolator

from demo.motion import Keys, Motion, Step, beside, clip_motion, perform
from demo.people import make_person
from demo.skeleton import Skeleton

SECONDS = 8.0  # the tables below are written for this length and stretched to others
_STILL = {
    "yaw": 0, "x": 0, "z": 0, "drop": 0.003, "pitch": 0, "roll": 0, "bend": 3, "side": 0, "twist": 0, "nod": 2, "look": 0, "tilt": 0,
    "shrug": 3, "spread": 12,
}  # fmt: skip
_ARM = {"lower": 68, "flex": 5, "twist": 8, "elbow": 16, "turn_hand": -40, "wrist": 4}
PACE = 0.60  # s a step
HALF_TREAD = 0.085  # m from the line of walking to each foot

Routine = Callable[[Skeleton, int, int], Motion]
Key = tuple[float, float]


def person_motion(seed: int, skeleton: Skeleton, num_frames: int) -> Motion:
    """What the person of a seed does in their clip."""
    return ROUTINES[make_person(seed).motion](skeleton, num_frames, seed)


def turntable(skeleton: Skeleton, num_frames: int, seed: int) -> Motion:
    """One slow full turn on the spot, arms a little away from the body."""
    keys = _keys(
        yaw=[(0, 0), (0.4, 1), (2.2, 88), (4.0, 181), (5.8, 272), (7.5, 359), (8, 360)],
        both_lower=[(0, 55), (4, 52), (8, 56)], both_elbow=[(0, 14), (4, 20), (8, 15)],
    )  # fmt: skip
    return perform(skeleton, keys, _tread(keys["yaw"], [(0.4, 7.5, 18)]), SECONDS, num_frames, seed)


def walk(skeleton: Skeleton, num_frames: int, seed: int) -> Motion:
    """Across the picture, towards the camera, and away from it."""
    keys = _keys(
        yaw=[(0, 86), (1.9, 88), (2.9, 10), (3.7, -48), (5.3, -60), (6.2, -130), (7.0, -172), (8, -178)],
        x=[(0, -0.78), (1.9, 0.55), (2.7, 0.80), (3.6, 0.62), (5.2, -0.38), (6.1, -0.72), (7.0, -0.66), (8, -0.60)],
        z=[(0, -0.55), (1.9, -0.50), (2.7, -0.36), (3.6, -0.08), (5.2, 0.22), (6.1, 0.05), (7.0, -0.50), (8, -1.05)],
        pitch=3, bend=5, shrug=2, spread=6,
    )  # fmt: skip
    path = {name: PchipInterpolator(*np.array(keys[name]).T) for name in ("x", "z", "yaw")}
    steps: tuple[list[Step], list[Step]] = ([], [])
    beats = np.arange(-1, int(SECONDS / PACE) + 1)
    for side in (0, 1):
        steps[side].append(_footfall(path, side, -1.0, -0.9, side * PACE / 2))
    for k in beats[1:]:
        lift = k * PACE
        steps[k % 2].append(_footfall(path, int(k % 2), lift, lift + 0.90 * PACE, lift + 1.5 * PACE))
    # the pelvis is highest in mid-step; each arm swings with the other leg
    times = (beats + 0.5) * PACE
    keys["drop"] = [(t + half * PACE / 2, 0.004 if half == 0 else 0.026) for t in times for half in (0, 1)]
    for name, sign in (("left", 1), ("right", -1)):
        ahead = [sign * (-1) ** int(k) for k in beats]  # the left foot swings in even beats, the right arm with it
        keys[f"{name}_flex"] = [(t + PACE / 2, 2 - 24 * a) for t, a in zip(times, ahead)]
        keys[f"{name}_elbow"] = [(t + PACE / 2, 26 - 12 * a) for t, a in zip(times, ahead)]
        keys[f"{name}_lower"] = _level(76)
    keys["twist"] = [(t + PACE / 2, 7 * (-1) ** int(k)) for t, k in zip(times, beats)]
    return perform(skeleton, {name: _within(values) for name, values in keys.items()}, steps, SECONDS, num_frames, seed)


def arms(skeleton: Skeleton, num_frames: int, seed: int) -> Motion:
    """Arms forward, back, across the chest, on the hips and on the head, first to the camera and then half turned."""
    keys = _keys(
        yaw=[(0, 0), (3.9, 2), (4.7, 48), (6.3, 46), (7.1, -38), (8, -36)],
        bend=[(0, 3), (1.0, -2), (2.7, -6), (3.5, 5), (8, 3)], side=[(0, 0), (2, 2), (6, -3), (8, 0)],
        twist=[(0, 0), (1.8, 8), (2.5, 0), (5.6, -6), (8, 0)], look=[(0, 0), (4.5, -16), (6, -10), (7, 18), (8, 12)],
        shrug=[(0, 3), (5.9, 3), (6.4, 22), (6.9, 20), (7.4, 4), (8, 3)],
        # forward; left forward, right back; behind the back; across the chest; on the hips; on the head; forward
        left_lower=[(0, 70), (0.9, 84), (1.9, 84), (2.7, 72), (3.5, 84), (4.1, 80), (4.6, 52), (5.3, 50), (5.8, 50), (6.4, -18), (6.9, -16), (7.5, 82), (8, 82)],
        left_flex=[(0, 5), (0.9, 86), (1.9, 78), (2.55, -50), (2.8, -50), (3.5, 58), (4.1, 50), (4.6, -10), (5.8, -10), (6.4, 18), (6.9, 18), (7.5, 84), (8, 82)],
        left_twist=[(0, 8), (0.9, 12), (2.7, 14), (3.5, 86), (4.1, 84), (4.6, 20), (5.8, 20), (6.4, -36), (6.9, -36), (7.5, 14), (8, 14)],
        left_elbow=[(0, 16), (0.9, 8), (1.9, 10), (2.7, 14), (3.5, 92), (4.1, 90), (4.6, 84), (5.8, 86), (6.4, 96), (6.9, 98), (7.5, 12), (8, 12)],
        right_lower=[(0, 70), (0.9, 83), (1.9, 74), (2.7, 72), (3.5, 82), (4.1, 80), (4.6, 54), (5.8, 50), (6.4, -16), (6.9, -16), (7.5, 80), (8, 80)],
        right_flex=[(0, 5), (0.9, 82), (1.9, -48), (2.7, -44), (3.5, 72), (4.1, 64), (4.6, -8), (5.8, -10), (6.4, 16), (6.9, 18), (7.5, 60), (8, 58)],
        right_twist=[(0, 8), (0.9, 12), (1.9, 12), (2.7, 14), (3.5, 86), (4.1, 84), (4.6, 20), (5.8, 20), (6.4, -34), (6.9, -36), (7.5, 14), (8, 14)],
        right_elbow=[(0, 16), (0.9, 10), (1.9, 14), (2.7, 12), (3.5, 90), (4.1, 90), (4.6, 82), (5.8, 86), (6.4, 96), (6.9, 98), (7.5, 46), (8, 46)],
    )  # fmt: skip
    return perform(skeleton, keys, _tread(keys["yaw"], [(3.9, 4.7, 2), (6.3, 7.1, 4)]), SECONDS, num_frames, seed)


def knee_bends(skeleton: Skeleton, num_frames: int, seed: int) -> Motion:
    """Four deep knee bends with the arms held forward, each seen from another side."""
    yaw = [(0, 0), (1.7, 0), (2.3, 46), (3.7, 48), (4.3, 92), (5.7, 90), (6.4, -24), (8, -22)]
    low, depths = (1.0, 3.0, 5.0, 7.2), (0.42, 0.46, 0.47, 0.40)

    def bent(rest: float, deep: float | tuple[float, ...]) -> list[Key]:
        """From rest down, held, and up again, for each of the four."""
        values = [(0.0, rest)]
        for k, middle in enumerate(low):
            value = deep[k] if isinstance(deep, tuple) else deep
            values += [(middle - 0.62, rest), (middle - 0.12, value), (middle + 0.12, value), (middle + 0.58, rest)]
        return [(min(t, SECONDS), v) for t, v in values]

    keys = _keys(
        yaw=yaw, drop=bent(0.003, depths), pitch=bent(0, (20, 24, 22, 26)), bend=bent(3, (24, 20, 24, 26)), nod=bent(2, -20), spread=bent(12, 28),
        z=bent(0, (-0.13, -0.10, -0.02, -0.12)), x=bent(0, (0, -0.10, -0.14, 0.06)),
        both_lower=bent(72, 82), both_flex=bent(5, 80), both_elbow=bent(14, 16), both_twist=bent(8, 10),
    )  # fmt: skip
    return perform(skeleton, keys, _tread(yaw, [(1.7, 2.3, 2), (3.7, 4.3, 2), (5.7, 6.4, 4)]), SECONDS, num_frames, seed)


def dance(skeleton: Skeleton, num_frames: int, seed: int) -> Motion:
    """Side steps with swinging arms, a twist, knees lifted, a quick half turn and back."""
    keys = _keys(
        yaw=[(0, 0), (1, 14), (2, -14), (3.0, 6), (4.4, -4), (5.0, 60), (5.7, 172), (6.3, 176), (7.0, 330), (7.4, 362), (8, 360)],
        x=[(0, 0), (0.5, 0.14), (1.0, 0.0), (1.5, -0.15), (2.0, 0), (2.7, 0.02), (3.1, -0.05), (3.7, 0.06), (4.3, 0), (8, 0)],
        drop=[(0, 0.01), (0.5, 0.09), (1.0, 0.02), (1.5, 0.10), (2.0, 0.02), (2.5, 0.14), (2.8, 0.03), (3.2, 0.02), (3.8, 0.02), (4.5, 0.04), (5.7, 0.015), (7.4, 0.02), (7.7, 0.12), (8, 0.10)],
        roll=[(0, 0), (0.5, 5), (1.5, -5), (2.2, 0), (3.1, -3), (3.7, 3), (4.3, 0), (8, 0)],
        bend=[(0, 3), (2.5, 14), (3, 2), (5.7, -3), (7.7, 12), (8, 12)],
        side=[(0, 0), (0.5, 14), (1.0, 0), (1.5, -14), (2.1, 0), (3.1, 6), (3.7, -6), (4.4, 0), (6, 10), (6.6, -8), (7.4, 0), (8, 0)],
        twist=[(0, 0), (0.5, -16), (1.5, 16), (2.2, -24), (2.6, 24), (3.0, 0), (4.6, 12), (5.4, -10), (7, 14), (8, 0)],
        look=[(0, 0), (0.5, 12), (1.5, -12), (2.4, 0), (4.8, 24), (5.5, 0), (6.6, 26), (7.4, 0), (8, 0)],
        nod=[(0, 2), (2.5, -8), (3.3, 6), (5, -4), (8, 4)], tilt=[(0, 0), (0.5, -8), (1.5, 8), (2.3, 0), (8, 0)],
        left_lower=[(0, 66), (0.5, 20), (1.0, 60), (1.5, 72), (2.2, 60), (2.6, 40), (3.1, 72), (3.7, 12), (4.3, 30), (5.2, 6), (6.0, 30), (6.6, -6), (7.3, 50), (7.7, 66), (8, 66)],
        left_flex=[(0, 5), (0.5, 0), (1.5, 50), (2.2, -20), (2.6, 50), (3.1, 66), (3.7, 10), (4.4, 20), (5.2, 6), (6.6, 10), (7.7, 60), (8, 60)],
        left_twist=[(0, 8), (1.5, 40), (2.2, 10), (3.1, 20), (3.7, -20), (5.2, -10), (6.6, -30), (7.7, 40), (8, 40)],
        left_elbow=[(0, 24), (0.5, 28), (1.5, 84), (2.2, 60), (2.6, 70), (3.1, 88), (3.7, 40), (4.4, 30), (5.2, 16), (6.6, 60), (7.7, 84), (8, 84)],
        right_lower=[(0, 66), (0.5, 72), (1.0, 60), (1.5, 18), (2.2, 42), (2.6, 60), (3.1, 14), (3.7, 72), (4.3, 30), (5.2, 10), (6.0, 26), (6.6, 4), (7.3, 50), (7.7, 64), (8, 64)],
        right_flex=[(0, 5), (0.5, 48), (1.5, 0), (2.2, 48), (2.6, -20), (3.1, 10), (3.7, 64), (4.4, 18), (5.2, 4), (6.6, -8), (7.7, 62), (8, 62)],
        right_twist=[(0, 8), (0.5, 40), (1.5, 8), (2.6, 10), (3.1, -20), (3.7, 20), (5.2, -10), (6.6, -20), (7.7, 40), (8, 40)],
        right_elbow=[(0, 24), (0.5, 86), (1.5, 30), (2.2, 66), (2.6, 60), (3.1, 40), (3.7, 86), (4.4, 30), (5.2, 18), (6.6, 40), (7.7, 86), (8, 86)],
    )  # fmt: skip
    left, right = _tread(keys["yaw"], [(4.45, 5.7, 6), (6.3, 7.4, 6)])
    left = [
        Step(0.1, 0.45, 0.34, 0.0, 16, 0.05), Step(0.6, 0.95, 0.11, 0.0, 10, 0.05),
        Step(3.45, 4.05, 0.11, 0.0, 9, 0.0, 35, through=(0.16, 0.44, 0.30)), *left,
    ]  # fmt: skip
    right = [
        Step(1.1, 1.45, -0.34, 0.0, -16, 0.05), Step(1.6, 1.95, -0.11, 0.0, -10, 0.05),
        Step(2.8, 3.4, -0.11, 0.0, -9, 0.0, 35, through=(-0.16, 0.44, 0.30)), *right,
    ]  # fmt: skip
    return perform(skeleton, keys, (left, right), SECONDS, num_frames, seed)


ROUTINES: dict[str, Routine] = {
    "medley": clip_motion, "turntable": turntable, "walk": walk, "arms": arms, "knee_bends": knee_bends, "dance": dance,
}  # fmt: skip


def _level(value: float) -> list[Key]:
    return [(0.0, float(value)), (SECONDS, float(value))]


def _keys(**told: list[Key] | float) -> Keys:
    """All channels: at rest where nothing is told; `both_<name>` speaks of both arms, the right one a little later."""
    keys = {name: _level(value) for name, value in _STILL.items()}
    keys |= {f"{side}_{name}": _level(value) for side in ("left", "right") for name, value in _ARM.items()}
    for name, values in told.items():
        values = [(float(t), float(v)) for t, v in values] if isinstance(values, list) else _level(values)
        if name.startswith("both_"):
            keys["left_" + name[5:]] = values
            keys["right_" + name[5:]] = [(min(t + 0.04 * (0 < t < SECONDS), SECONDS), 0.97 * v) for t, v in values]
        else:
            keys[name] = values
    return keys


def _within(keys: list[Key]) -> list[Key]:
    """Keys cut to the clip, with values at its ends."""
    times, values = np.array(sorted(keys)).T
    inner = [(t, v) for t, v in zip(times, values) if 0 < t < SECONDS]
    first, last = (float(np.interp(t, times, values)) for t in (0, SECONDS))
    return [(0, first), *inner, (SECONDS, last)]


def _tread(yaw: list[Key], turns: Iterable[tuple[float, float, int]]) -> tuple[list[Step], list[Step]]:
    """Small steps on the spot while the body turns: each foot lands where the body will face a little later.

    Args:
        yaw: keys of the heading.
        turns: start, end and number of steps of each turn.
    """
    heading = PchipInterpolator(*np.array(yaw).T)
    steps: tuple[list[Step], list[Step]] = ([], [])
    for start, end, count in turns:
        swing, final = (end - start) / count, float(heading(end))
        rate = (final - float(heading(start))) / count
        for k in range(count):
            lift = start + k * swing
            land = lift + 0.92 * swing
            ahead = final if k >= count - 2 else float(heading(land)) + rate
            steps[k % 2].append(beside(k % 2, lift, land, ahead))
    return steps


def _footfall(path: dict[str, PchipInterpolator], side: int, lift: float, land: float, when: float) -> Step:
    """A step to where the path leads at a time, beside its line."""
    when = float(np.clip(when, 0, SECONDS))
    x, z, yaw = (float(path[name](when)) for name in ("x", "z", "yaw"))
    sign, turn = (1 if side == 0 else -1), np.deg2rad(yaw)
    return Step(lift, land, x + sign * HALF_TREAD * np.cos(turn), z - sign * HALF_TREAD * np.sin(turn), yaw + sign * 5, 0.07, 22)
