"""The motions that ship with the project, made by formula for any skeleton: walk, stroll, wave, turn, squat, dance.

All repeat without a seam. Lengths grow with the legs; angles are degrees, times seconds. A person stands at the origin and
faces +z; the walk goes around the origin, to the left. Gait figures (stance 60 % of the cycle, pelvis list 4 to 5 degrees, transverse rotation 4 to 8, arm swing opposite
to the legs) are those of ordinary gait analysis, e.g. Perry, Gait Analysis, 1992.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from model.motion.footwork import Step, follow_steps
from model.motion.motion import Motion, MotionError
from model.motion.performance import Performance, around, frame_times, perform
from model.motion.skeleton import HIP, Skeleton
from model.pose import BodyPose

REFERENCE_LEG = 0.77  # m, the leg that the lengths below are written for
LIBRARY_FPS = 30.0
WALK_STEPS, WALK_STEP, STEP_SECONDS = 12, 0.62, 0.55  # one lap; m; s
STANCE_SHARE = 0.61  # of a gait cycle that a foot stands
TURN_STEPS, TURN_SECONDS = 12, 6.0


def walk(skeleton: Skeleton, fps: float = LIBRARY_FPS) -> Motion:
    """One lap of an ordinary walk around a circle, so that planted feet stay where they are and the lap still closes."""
    radius = WALK_STEPS * WALK_STEP * _size(skeleton) / (2 * np.pi)
    return _gait("walk", skeleton, fps, steps=WALK_STEPS, radius=radius)


def stroll(skeleton: Skeleton, fps: float = LIBRARY_FPS) -> Motion:
    """Two steps of a walk straight ahead, seen from beside: the floor moves back under the person, as on a treadmill."""
    motion = _gait("stroll", skeleton, fps, steps=2, radius=None)
    speed = WALK_STEP * _size(skeleton) / STEP_SECONDS
    floor = torch.from_numpy(np.outer(frame_times(2 * STEP_SECONDS, fps) * speed, [0, 0, 1])).float()
    return motion.with_pose(BodyPose(motion.global_orient, motion.body_pose, motion.transl - floor))


def _gait(name: str, skeleton: Skeleton, fps: float, *, steps: int, radius: float | None) -> Motion:
    """Walk to the left along a circle around the origin, or straight ahead along z. Step n lands at n * STEP_SECONDS, n steps
    along the path; even ones are the left foot's."""
    k = _size(skeleton)
    step, period = WALK_STEP * k, steps * STEP_SECONDS
    times = frame_times(period, fps)
    width = 0.95 * float(skeleton.joints_rest[HIP[0], 0])

    def on_path(along: np.ndarray | float, left: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, z and heading (degrees, positive to the left) at an arc length, `left` metres beside the path."""
        along = np.asarray(along, float)
        if radius is None:
            return np.full_like(along, left), along, np.zeros_like(along)
        angle = along / radius
        return -(radius - left) * np.cos(angle), (radius - left) * np.sin(angle), np.rad2deg(angle)

    advance = (0.0, steps * step, 0.0) if radius is None else (0.0, 0.0, 360.0)
    feet = []
    for side, sign in ((0, 1.0), (1, -1.0)):
        footholds = []
        for n in range(-side, steps + 1, 2):
            x, z, heading = on_path(n * step, sign * width)
            footholds.append((n * STEP_SECONDS, float(x), float(z), float(heading) + sign * 6))
        swing = (1 - STANCE_SHARE) * 2 * STEP_SECONDS
        list_of_steps = [Step(land - swing, land, x, z, yaw, 0.035 * k, off=44, on=20, lead=0.36) for land, x, z, yaw in footholds[1:]]
        feet.append(follow_steps(skeleton, side, list_of_steps, footholds[0][1:], times, period, advance))

    cycle = np.pi * times / STEP_SECONDS  # half a turn a step: 0 and 2 pi when the left foot lands, pi when the right one does
    x, z, heading = on_path(step * (times / STEP_SECONDS - 0.46), 0.0)
    ahead = np.deg2rad(heading)
    sway = 0.022 * k * np.sin(cycle - 0.15)  # over the standing foot: the left one after it landed
    inward = 0.0 if radius is None else -2.5  # into the curve
    swing = np.cos(cycle - 0.1)  # 1 when the left leg is in front
    curves = {
        "x": x + sway * np.cos(ahead),
        "z": z - sway * np.sin(ahead),
        "drop": (0.021 + 0.015 * np.cos(2 * cycle - 0.5)) * k,
        "yaw": heading - 6 * swing,
        "pitch": 2.0 + 0.8 * np.cos(2 * cycle),
        "roll": inward + 3.6 * np.sin(cycle - 0.1),  # the swinging side sinks
        "bend": 2.0 + 1.0 * np.cos(2 * cycle + 0.6),
        "side": -0.6 * inward - 4.0 * np.sin(cycle - 0.1),
        "twist": 11 * swing,
        "nod": -3 - 0.8 * np.cos(2 * cycle),
        "look": -5 * swing + (0 if radius is None else 9),
        "tilt": 0.5 * np.sin(cycle),
    }
    for side, sign in (("left", 1.0), ("right", -1.0)):
        back = -sign * swing  # -1 when the arm is farthest back: with the leg of its own side in front
        late = -sign * np.cos(cycle - 0.45)
        curves |= {
            f"{side}_flex": 3 + 19 * back,
            f"{side}_elbow": 19 + 10 * late,
            f"{side}_lower": 74 - 1.5 * back,
            f"{side}_twist": 12 + 3 * late,
            f"{side}_turn": 14 + 4 * late,
            f"{side}_wrist": 4 + 3 * late,
        }
    return perform(name, skeleton, Performance(period, curves, tuple(feet)), fps)


def wave(skeleton: Skeleton, fps: float = LIBRARY_FPS) -> Motion:
    """Stand with the weight on one leg, raise the right hand, wave, let it sink."""
    period, k = 5.0, _size(skeleton)
    times = frame_times(period, fps)
    breath = np.sin(2 * np.pi * times / period)
    to_and_fro = [(1.15, 62), (1.4, 96), (1.68, 58), (1.96, 98), (2.24, 58), (2.52, 98), (2.8, 60), (3.08, 94), (3.35, 66)]
    c = lambda *keys: around(list(keys), times, period)  # noqa: E731
    curves = {
        "x": k * c((0, 0.0), (1.0, 0.026), (3.3, 0.026), (4.5, 0.0)),
        "drop": k * (0.006 + 0.002 * breath),
        "roll": c((0, 0), (1.0, 2.6), (3.3, 2.6), (4.5, 0)),
        "yaw": c((0, 0), (1.0, 4), (3.3, 4), (4.5, 0)),
        "bend": 1 + 0.6 * breath,
        "side": c((0, 0), (1.0, -1.5), (3.3, -1.5), (4.5, 0)) - 0.02 * (c((0, 75), *to_and_fro, (4.5, 75)) - 75),
        "twist": c((0, 0), (0.9, -5), (3.4, -5), (4.5, 0)),
        "nod": c((0, 0), (1.2, -4), (3.2, -2), (4.4, 0)),
        "look": c((0, 0), (1.1, 2), (3.3, 2), (4.5, 0)),
        "tilt": c((0, 0), (1.2, -5), (3.2, -5), (4.5, 0)),
        "left_lower": 73 + 0.6 * breath,
        "left_flex": c((0, 2), (1.2, -3), (3.4, -3), (4.6, 2)),
        "left_elbow": 17 + 2 * breath,
        "left_twist": np.full(len(times), 10.0),
        "left_turn": np.full(len(times), 16.0),
        "right_lower": c((0, 73), (0.35, 66), (1.05, 4), (3.35, 4), (4.1, 66), (4.6, 73)),
        "right_flex": c((0, 2), (0.5, 22), (1.05, 16), (3.35, 16), (3.9, 20), (4.7, 2)),
        "right_twist": c((0, 10), (0.35, 0), (1.05, -72), (3.35, -72), (4.1, 0), (4.7, 10)),
        "right_elbow": c((0, 17), (0.5, 48), *to_and_fro, (3.8, 58), (4.7, 17)),
        "right_turn": c((0, 16), (0.5, 20), (1.1, 10), (3.3, 10), (4.0, 20), (4.7, 16)),
        "right_wrist": c((0, 4), *[(t + 0.06, (v - 77) * 0.45) for t, v in to_and_fro], (4.5, 4)),
        "right_shrug": c((0, 2), (1.0, 9), (3.4, 9), (4.4, 2)),
        "left_shrug": np.full(len(times), 2.0),
    }
    return perform("wave", skeleton, Performance(period, curves, _standing(skeleton, times, period)), fps)


def turn(skeleton: Skeleton, fps: float = LIBRARY_FPS) -> Motion:
    """Turn once around on the spot, to the left, in small steps."""
    period, k = TURN_SECONDS, _size(skeleton)
    times = frame_times(period, fps)
    width, each = _stance(skeleton), TURN_SECONDS / TURN_STEPS
    turned = 360.0 / TURN_STEPS
    heading = 360 * times / period
    feet = []
    for side, sign in ((0, 1.0), (1, -1.0)):
        list_of_steps = []
        for n in range(side, TURN_STEPS, 2):  # the left foot opens each time, the right one follows
            lift = n * each + 0.06
            yaw = turned * (n + 2 - side)
            goal = np.deg2rad(yaw)
            x, z = sign * width * np.cos(goal), -sign * width * np.sin(goal)
            list_of_steps.append(Step(lift, lift + 0.78 * each, x, z, yaw + 7 * sign, 0.03 * k, off=14, on=3, lead=0.16))
        feet.append(follow_steps(skeleton, side, list_of_steps, (sign * width, 0.0, 7 * sign), times, period, (0, 0, 360)))
    beat = np.pi * times / each  # pi a step: the left foot is in the air around pi / 2
    shift = -0.03 * k * np.sin(beat)  # over the standing foot
    ahead = np.deg2rad(heading)
    settle = np.sin(beat)
    curves = {
        "x": shift * np.cos(ahead),
        "z": -shift * np.sin(ahead),
        "drop": k * (0.018 - 0.008 * np.cos(2 * beat)),
        "yaw": heading + 6 + 5 * np.sin(beat - 0.6),
        "roll": -2.2 * settle,
        "pitch": np.full(len(times), 1.5),
        "bend": np.full(len(times), 1.5),
        "side": 2.0 * settle,
        "twist": 8 + 3 * np.sin(beat),
        "look": 10 + 3 * np.sin(beat + 0.4),
    }
    for side, sign in (("left", 1.0), ("right", -1.0)):
        curves |= {
            f"{side}_lower": 68 + 3 * np.sin(beat),
            f"{side}_flex": -sign * 9 + 6 * np.sin(beat + sign),
            f"{side}_elbow": 20 + 5 * np.sin(beat + 0.5 * sign),
            f"{side}_twist": np.full(len(times), 10.0),
            f"{side}_turn": np.full(len(times), 16.0),
        }
    return perform("turn", skeleton, Performance(period, curves, tuple(feet)), fps)


def squat(skeleton: Skeleton, fps: float = LIBRARY_FPS) -> Motion:
    """Sink down with the arms forward, heels on the floor, and come up again."""
    period, k = 3.6, _size(skeleton)
    times = frame_times(period, fps)
    down = around([(0, 0), (0.25, 0), (1.35, 1), (1.65, 1), (2.6, 0), (3.3, 0)], times, period)
    early = around([(0, 0), (0.12, 0), (1.05, 1), (1.75, 1), (2.5, 0), (3.3, 0)], times, period)
    curves = {
        "z": -0.13 * k * down + 0.005,
        "drop": k * (0.004 + 0.33 * down),
        "pitch": 24 * down,
        "bend": 1 + 16 * down,
        "nod": -26 * down,
    }
    for side in ("left", "right"):
        curves |= {
            f"{side}_lower": 72 - 4 * early,
            f"{side}_flex": 2 + 84 * early,
            f"{side}_twist": 10 - 4 * early,
            f"{side}_elbow": 15 + 6 * early,
            f"{side}_turn": 16 - 6 * early,
            f"{side}_spread": 4 + 8 * down,
            f"{side}_shrug": 1 + 3 * early,
        }
    return perform("squat", skeleton, Performance(period, curves, _standing(skeleton, times, period, width=1.55, toe_out=17)), fps)


def dance(skeleton: Skeleton, fps: float = LIBRARY_FPS) -> Motion:
    """Sixteen beats: step and touch from side to side with swinging fists, then swaying hips with the arms overhead."""
    beat, k = 0.5, _size(skeleton)
    period = 16 * beat
    times = frame_times(period, fps)
    width = _stance(skeleton)
    wide, b = 0.34 * k, times / beat
    # beats 0 to 7: right foot out, left foot to it, left foot back out, right foot to it, twice; 8 to 15: feet stay apart
    def hop(side: int, at: float, x: float, z: float = 0.0, height: float = 0.05) -> Step:
        sign = 1 if side == 0 else -1
        return Step((at - 0.72) * beat, at * beat, x, z * k, 10 * sign, height * k, off=20, on=0, lead=0.16)

    left = [hop(0, 2, -wide + 2 * width + 0.02), hop(0, 3, width), hop(0, 6, -wide + 2 * width + 0.02), hop(0, 7, width), hop(0, 9, 1.5 * width)]
    right = [hop(1, 1, -wide), hop(1, 4, -width - 0.01), hop(1, 5, -wide), hop(1, 8, -1.5 * width), hop(1, 15.1, -width)]
    left.append(hop(0, 15.9, width))
    feet = (
        follow_steps(skeleton, 0, left, (width, 0, 10), times, period),
        follow_steps(skeleton, 1, right, (-width, 0, -10), times, period),
    )
    key = lambda *keys: around([(t * beat, v) for t, v in keys], times, period)  # noqa: E731
    bounce = 0.5 - 0.5 * np.cos(2 * np.pi * b)  # 0 on the beat, when the knees are lowest
    overhead = key((0, 0), (7.5, 0), (9, 1), (14.6, 1), (15.7, 0))
    stepping = 1 - overhead
    sway = np.sin(np.pi * (b - 8)) * overhead  # right hip, left hip, a beat each
    pump = np.sin(np.pi * b) * stepping
    middle = -wide + width
    curves = {
        "x": key((0, 0), (1, 0.55 * middle), (2, middle), (3, 0.45 * middle), (4, 0), (5, 0.55 * middle), (6, middle), (7, 0.45 * middle), (8, 0), (15, 0)) + 0.055 * k * sway,
        "z": -0.02 * k * np.ones_like(b),
        "drop": k * (0.055 - 0.04 * bounce + 0.012 * overhead),
        "yaw": 10 * pump - 6 * sway,
        "roll": -3 * pump + 8.5 * sway,
        "pitch": 4 + 2 * np.cos(2 * np.pi * b),
        "bend": 4 + 4 * np.cos(2 * np.pi * b) - 5 * overhead,
        "side": 4 * pump - 11 * sway,
        "twist": -22 * pump + 8 * sway,
        "nod": 5 * np.cos(2 * np.pi * b - 0.4),
        "look": 8 * pump - 6 * sway,
        "tilt": -3 * pump + 7 * sway,
    }
    for side, sign in (("left", 1.0), ("right", -1.0)):
        swing = sign * pump
        up = np.sin(np.pi * (b - 8) + 0.5 * sign)
        curves |= {
            f"{side}_lower": stepping * 62 + overhead * (-38 + 7 * up),
            f"{side}_flex": stepping * (16 + 26 * swing) + overhead * (10 + 6 * up),
            f"{side}_twist": stepping * 14 + overhead * (-50),
            f"{side}_elbow": stepping * (84 - 16 * swing) + overhead * (46 - 18 * sign * up),
            f"{side}_turn": stepping * 15 + overhead * 5,
            f"{side}_wrist": stepping * 4 + overhead * 10 * up,
            f"{side}_shrug": 2 + 16 * overhead,
            f"{side}_spread": 8 + 5 * (1 - bounce),
        }
    return perform("dance", skeleton, Performance(period, curves, feet), fps)


LIBRARY: dict[str, Callable[..., Motion]] = {"walk": walk, "stroll": stroll, "wave": wave, "turn": turn, "squat": squat, "dance": dance}


def library_motion(name: str, skeleton: Skeleton, fps: float = LIBRARY_FPS) -> Motion:
    """A motion that ships with the project, by name.

    Raises:
        MotionError: there is none of that name.
    """
    if name not in LIBRARY:
        raise MotionError(f"expected one of the motions {', '.join(LIBRARY)}, came {name!r}")
    return LIBRARY[name](skeleton, fps)


def _size(skeleton: Skeleton) -> float:
    return skeleton.leg_length / REFERENCE_LEG


def _stance(skeleton: Skeleton) -> float:
    """Half the distance between standing feet, metres."""
    return 1.25 * float(skeleton.joints_rest[HIP[0], 0])


def _standing(skeleton: Skeleton, times: np.ndarray, period: float, *, width: float = 1.0, toe_out: float = 9.0) -> tuple:
    """Both feet on their places for the whole round."""
    half = width * _stance(skeleton)
    return tuple(follow_steps(skeleton, side, [], (sign * half, 0.0, sign * toe_out), times, period) for side, sign in ((0, 1), (1, -1)))
