"""What the generated person does: the clip's motion, and a second one that the clip does not contain.

Each is told by a few keys per channel, joined smoothly, with small unrest on top; feet stand on footholds, and the legs
follow from where pelvis and feet are, so that a planted foot neither slides nor sinks.

Axes: F frames, J = 24 joints in SMPL's order. World: y up, floor at y = 0, metres; the camera stands towards +z.
Angles in the tables are degrees, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.spatial.transform import Rotation

from demo.skeleton import (
    ANKLE, CLAVICLE, ELBOW, HEAD, HIP, KNEE, NECK, PELVIS, SHOULDER, SPINE1, SPINE2, SPINE3, WRIST,
    Skeleton, highest_pelvis, joint_transforms, reach_with_leg,
)  # fmt: skip

CLIP_SECONDS = 10.0  # the tables below are written for these lengths and stretched to others
SECOND_SECONDS = 4.0
STANCE = 0.105  # m, each foot from the middle
TOE_OUT = 9.0  # degrees
ROUNDING = 0.06  # s, how far the corners between keys are rounded
GRID = 0.005  # s
TOE_REACH, HEEL_REACH = 0.20, 0.09  # m from the ankle to the shoe's ends


@dataclass(frozen=True)
class Motion:
    """A motion of one skeleton.

    Attributes:
        global_orient, body_pose, transl: SMPL's pose, rad and metres.
        joints: where the joints are in the world, metres.
        planted: [F, 2] whether the left and the right foot stand flat on the floor.
        knee_flexion: [F, 2] rad.
    """

    global_orient: Float[np.ndarray, "F 3"]
    body_pose: Float[np.ndarray, "F J-1 3"]
    transl: Float[np.ndarray, "F 3"]
    joints: Float[np.ndarray, "F J 3"]
    planted: np.ndarray
    knee_flexion: np.ndarray


@dataclass(frozen=True)
class Step:
    """One foot leaves the floor at `lift` and stands at (x, z) turned by `yaw` from `land` on; in the air it rises by
    `height` metres and tips by `tip` degrees (toes down), or passes the point `through` (x, y, z)."""

    lift: float
    land: float
    x: float
    z: float
    yaw: float
    height: float = 0.06
    tip: float = 18.0
    through: tuple[float, float, float] | None = None


Keys = dict[str, list[tuple[float, float]]]


def clip_motion(skeleton: Skeleton, num_frames: int, seed: int) -> Motion:
    """The motion that the clip shows: a full turn; arms forward, back, across, up; a crouch; the torso bending."""
    start, end, turns = 0.25, 4.35, 12
    keys: Keys = {
        "yaw": [(0, 0), (start, 3), (1.3, 78), (2.3, 176), (3.3, 274), (end, 359), (4.7, 363), (10, 362)],
        "x": [(0, 0), (4.5, 0), (8.9, 0), (9.3, 0.03), (9.75, -0.01), (10, 0)],
        "z": [(0, 0), (7.1, 0.0), (7.75, -0.13), (7.95, -0.13), (8.5, -0.01), (8.95, -0.07), (9.3, 0), (10, 0)],
        "drop": [(0, 0.002), (4.5, 0.002), (7.1, 0.006), (7.75, 0.43), (7.97, 0.43), (8.5, 0.012), (10, 0.003)],
        "pitch": [(0, 0), (7.1, 0), (7.75, 22), (7.95, 22), (8.5, 4), (8.95, 24), (9.3, 3), (10, 2)],
        "roll": [(0, 0), (4.6, 0), (9.0, 0), (9.35, -4), (9.75, 0), (10, 0)],
        "bend": [(0, 2), (4.8, 0), (5.55, -7), (6.2, 6), (6.85, -8), (7.2, 2), (7.8, 22), (8.5, 6), (8.95, 44), (9.33, 4), (10, 4)],
        "side": [(0, 0), (2, 3), (4, -2), (8.9, 0), (9.36, 26), (9.72, 4), (10, 0)],
        "twist": [(0, 0), (1, 6), (3.5, 6), (4.6, 0), (6.2, 4), (9.3, 0), (9.78, -38), (10, -30)],
        "nod": [(0, 2), (2.2, -2), (4.6, 4), (6.2, 8), (6.85, -10), (7.8, -22), (8.5, 0), (8.95, 6), (9.4, 2), (10, 2)],
        "look": [(0, -3), (1, 14), (2.3, 4), (3.4, 12), (4.6, 0), (6, 0), (6.9, 5), (8.9, 0), (9.8, -16), (10, -12)],
        "tilt": [(0, 0), (3, 2), (6, -2), (9.36, 9), (10, 0)],
        "shrug": [(0, 2), (4.6, 2), (4.95, 6), (5.55, 3), (6.2, 3), (6.87, 24), (7.3, 3), (10, 3)],
        "spread": [(0, 12), (4.4, 12), (7.1, 12), (7.8, 30), (8.5, 13), (10, 12)],
    }
    both_arms: Keys = {
        "lower": [(0, 64), (2, 67), (4.4, 66), (4.95, 84), (5.2, 80), (5.55, 70), (6.2, 84), (6.5, 60), (6.87, -16), (7.1, 10), (7.75, 80), (8.0, 80), (8.55, 70), (8.95, 78), (9.36, 66), (9.8, 52), (10, 56)],
        "flex": [(0, 6), (2, 2), (4.4, 6), (4.9, 84), (5.05, 84), (5.55, -50), (5.7, -46), (6.15, 58), (6.3, 58), (6.87, 14), (7.2, 20), (7.75, 72), (8.0, 72), (8.55, 14), (8.95, 66), (9.36, 4), (9.8, 14), (10, 10)],
        "twist": [(0, 8), (4.4, 8), (4.9, 10), (5.55, 12), (6.17, 88), (6.3, 88), (6.87, -30), (7.4, 0), (7.8, 10), (8.5, 8), (10, 8)],
        "elbow": [(0, 17), (2.2, 23), (4.4, 18), (4.93, 10), (5.55, 14), (6.17, 92), (6.3, 92), (6.87, 52), (7.3, 34), (7.8, 22), (8.5, 18), (8.95, 16), (9.4, 20), (9.8, 42), (10, 38)],
        "turn_hand": [(0, -40), (4.4, -40), (4.95, 10), (5.55, -50), (6.2, 0), (6.87, 10), (7.8, 0), (8.5, -40), (10, -30)],
        "wrist": [(0, 4), (4.4, 6), (4.95, -6), (5.6, 8), (6.2, 6), (6.87, -10), (7.8, 0), (10, 4)],
    }  # fmt: skip
    keys |= {f"left_{name}": values for name, values in both_arms.items()}
    # the right arm follows a little later and not quite as far, and lies above the left one across the chest
    keys |= {f"right_{name}": [(min(t + 0.05 * (0 < t < 10), 10), v * 0.97) for t, v in values] for name, values in both_arms.items()}
    keys["right_flex"] = [(t, v + 13 if 6.1 < t < 6.4 else v) for t, v in keys["right_flex"]]
    keys["left_lower"] = [(t, v - 22 if 9.3 < t < 9.5 else v) for t, v in keys["left_lower"]]

    yaw = PchipInterpolator(*np.array(keys["yaw"]).T)
    steps: tuple[list[Step], list[Step]] = ([], [])
    swing = (end - start) / turns
    for k in range(turns):
        side = k % 2
        lift = start + k * swing
        land = lift + swing * 0.92
        heading = 360.0 if k >= turns - 2 else float(yaw(land)) + 26.0
        steps[side].append(beside(side, lift, land, heading))
    return perform(skeleton, keys, steps, CLIP_SECONDS, num_frames, seed)


def second_motion(skeleton: Skeleton, num_frames: int, seed: int) -> Motion:
    """A motion that the clip does not contain: two walking steps, a lunge, a wave, a low reach, a kick."""
    keys: Keys = {
        "yaw": [(0, -28), (1.2, -24), (2.0, -20), (2.9, -12), (4, -30)],
        "x": [(0, 0.0), (0.6, -0.16), (1.2, -0.30), (1.75, -0.34), (2.5, -0.13), (3.1, -0.08), (3.6, -0.15), (4, -0.15)],
        "z": [(0, -0.5), (0.6, -0.24), (1.2, 0.1), (1.75, 0.30), (2.4, 0.06), (3.1, 0.05), (3.6, 0.02), (4, 0.02)],
        "drop": [(0, 0.0), (0.3, 0.015), (0.6, 0.0), (0.9, 0.015), (1.2, 0.01), (1.75, 0.24), (1.9, 0.24), (2.4, 0.005), (2.8, 0.005), (3.15, 0.14), (3.5, 0.01), (4, 0.01)],
        "pitch": [(0, 3), (1.2, 4), (1.8, 6), (2.5, 0), (3.15, 18), (3.6, -9), (4, -6)],
        "roll": [(0, 0), (0.3, 2), (0.9, -2), (1.5, 0), (3.15, 5), (3.7, -5), (4, -4)],
        "bend": [(0, 4), (1.75, 8), (2.5, -3), (3.15, 34), (3.65, 10), (4, 8)],
        "side": [(0, 0), (1.75, 4), (2.6, 7), (3.15, -18), (3.7, 0), (4, 0)],
        "twist": [(0, 8), (0.45, -8), (1.0, 9), (1.75, -14), (2.5, 6), (3.15, 30), (3.7, -12), (4, -8)],
        "nod": [(0, 0), (1.75, -4), (2.5, -2), (3.15, 12), (3.7, 2), (4, 0)],
        "look": [(0, 10), (1.2, 14), (2.5, 16), (3.15, 14), (4, 10)],
        "tilt": [(0, 0), (2.5, 6), (3.2, -6), (4, 0)],
        "shrug": [(0, 3), (2.1, 3), (2.5, 13), (2.85, 12), (3.2, 5), (4, 3)],
        "spread": [(0, 10), (1.75, 16), (2.5, 10), (4, 12)],
        "left_lower": [(0, 76), (1.2, 76), (1.75, 60), (2.5, 68), (3.15, 62), (3.7, 42), (4, 46)],
        "left_flex": [(0, -22), (0.45, 26), (1.0, -24), (1.75, 38), (2.5, 2), (3.15, 62), (3.7, 34), (4, 26)],
        "left_twist": [(0, 6), (1.75, 30), (2.5, 8), (3.15, 0), (4, 10)],
        "left_elbow": [(0, 18), (0.45, 34), (1.0, 18), (1.75, 72), (2.5, 22), (3.15, 12), (3.7, 40), (4, 36)],
        "left_turn_hand": [(0, -40), (1.75, 0), (3.15, 10), (4, -20)],
        "left_wrist": [(0, 4), (3.15, -8), (4, 2)],
        "right_lower": [(0, 76), (1.2, 76), (1.75, 70), (2.35, -4), (2.8, -4), (3.15, 48), (3.7, 60), (4, 60)],
        "right_flex": [(0, 26), (0.45, -22), (1.0, 28), (1.75, -30), (2.35, 16), (2.8, 16), (3.15, -10), (3.7, -30), (4, -24)],
        "right_twist": [(0, 6), (1.75, 10), (2.3, -70), (2.8, -70), (3.2, 8), (4, 8)],
        "right_elbow": [(0, 32), (0.45, 16), (1.0, 34), (1.75, 30), (2.3, 62), (2.42, 88), (2.55, 56), (2.68, 88), (2.8, 60), (3.15, 26), (3.7, 44), (4, 40)],
        "right_turn_hand": [(0, -40), (1.75, -30), (2.4, 20), (2.8, 20), (3.2, -30), (4, -30)],
        "right_wrist": [(0, 4), (2.4, -6), (4, 4)],
    }  # fmt: skip
    left = [
        Step(-1, -0.9, 0.03, -0.42, -20),
        Step(0.62, 1.12, -0.20, 0.02, -22, 0.09, 25),
        Step(2.0, 2.35, 0.05, -0.03, -12, 0.06, 15),
    ]
    right = [
        Step(-1, -0.9, -0.20, -0.62, -36),
        Step(0.05, 0.55, -0.30, -0.20, -34, 0.09, 25),
        Step(1.2, 1.68, -0.52, 0.62, -34, 0.10, -8),
        Step(2.37, 2.72, -0.22, -0.02, -38, 0.07, 10),
        Step(3.3, 4.4, -0.30, 0.10, -36, 0.0, -30, through=(-0.38, 0.52, 0.66)),
    ]
    return perform(skeleton, keys, (left, right), SECOND_SECONDS, num_frames, seed + 1)


def beside(side: int, lift: float, land: float, heading: float) -> Step:
    """A step to the side's own place beside the body's middle, when the body faces `heading`."""
    sign = 1 if side == 0 else -1
    turn = np.deg2rad(heading)
    return Step(lift, land, sign * STANCE * np.cos(turn), -sign * STANCE * np.sin(turn), heading + sign * TOE_OUT, 0.02, 14)


def perform(
    skeleton: Skeleton, keys: Keys, steps: tuple[list[Step], list[Step]], seconds: float, num_frames: int, seed: int
) -> Motion:
    """Turn keys and footholds into SMPL poses."""
    times = (np.arange(num_frames) + 0.5) / num_frames * seconds
    rng = np.random.default_rng([seed, 77])
    channel = {name: _curve(values, times, rng, 0.004 if name in ("x", "z") else 0.0 if name == "drop" else 1.0) for name, values in keys.items()}
    rad = {name: np.deg2rad(values) for name, values in channel.items() if name not in ("x", "z", "drop")}

    heading = Rotation.from_rotvec(np.outer(rad["yaw"], [0, 1, 0]))
    pelvis_turn = (heading * _about("x", rad["pitch"]) * _about("z", rad["roll"])).as_matrix()
    ankles, foot_turns, planted = zip(*[_feet(skeleton, side, steps[side], times, seconds / num_frames) for side in (0, 1)])
    standing = skeleton.joints[PELVIS, 1] - skeleton.joints[ANKLE[0], 1] + skeleton.ankle_height
    pelvis = np.stack([channel["x"], standing - channel["drop"], channel["z"]], axis=1)
    top = np.min([highest_pelvis(skeleton, side, pelvis, pelvis_turn, ankles[side]) for side in (0, 1)], axis=0)
    pelvis[:, 1] = _smooth_below(pelvis[:, 1], top, seconds / num_frames)

    local = np.tile(np.eye(3), (num_frames, 24, 1, 1))
    local[:, PELVIS] = pelvis_turn
    knee_flexion = np.empty((num_frames, 2))
    for side in (0, 1):
        sign = 1 if side == 0 else -1
        towards = _knee_directions(pelvis_turn, foot_turns[side], rad["spread"] * sign)
        leg = reach_with_leg(skeleton, side, pelvis, pelvis_turn, ankles[side], foot_turns[side], towards)
        local[:, HIP[side]], local[:, KNEE[side]], local[:, ANKLE[side]] = leg.hip, leg.knee, leg.ankle
        knee_flexion[:, side] = leg.flexion
        name = ("left_", "right_")[side]
        local[:, CLAVICLE[side]] = _about("z", sign * rad["shrug"]).as_matrix()
        local[:, SHOULDER[side]] = (
            _about("x", -rad[name + "flex"]) * _about("z", -sign * (rad[name + "lower"] + rad["shrug"])) * _about("x", rad[name + "twist"])
        ).as_matrix()
        local[:, ELBOW[side]] = (_about("y", -sign * rad[name + "elbow"]) * _about("x", 0.4 * rad[name + "turn_hand"])).as_matrix()
        local[:, WRIST[side]] = (_about("x", 0.6 * rad[name + "turn_hand"]) * _about("z", -sign * rad[name + "wrist"])).as_matrix()
    for joint, share in ((SPINE1, 0.36), (SPINE2, 0.36), (SPINE3, 0.28)):
        local[:, joint] = (_about("y", share * rad["twist"]) * _about("z", share * rad["side"]) * _about("x", share * rad["bend"])).as_matrix()
    for joint, share in ((NECK, 0.5), (HEAD, 0.5)):
        local[:, joint] = (_about("y", share * rad["look"]) * _about("z", share * rad["tilt"]) * _about("x", share * rad["nod"])).as_matrix()

    pose = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(num_frames, 24, 3)
    transl = pelvis - skeleton.joints[PELVIS]
    joints = joint_transforms(skeleton, pose[:, 0], pose[:, 1:], transl)[1]
    return Motion(pose[:, 0], pose[:, 1:], transl, joints, np.stack(planted, 1), knee_flexion)


def _curve(keys: list[tuple[float, float]], times: np.ndarray, rng: np.random.Generator, unrest: float) -> np.ndarray:
    """Join keys without overshoot, round the corners, add small unrest (slow sines, `unrest` in the channel's unit)."""
    knots = np.array(keys)
    knots[:, 0] += np.arange(len(knots)) * 1e-6  # equal times would be refused
    fine = np.arange(knots[0, 0], knots[-1, 0] + GRID, GRID)  # one grid for every frame rate
    curve = PchipInterpolator(knots[:, 0], knots[:, 1])(np.minimum(fine, knots[-1, 0]))
    curve = np.interp(times, fine, gaussian_filter1d(curve, ROUNDING / GRID, mode="nearest"))
    for frequency in (0.23, 0.61, 1.07):
        curve = curve + unrest * 0.45 * rng.normal() * np.sin(2 * np.pi * frequency * times + rng.uniform(0, 2 * np.pi))
    return curve


def _about(axis: str, angle: np.ndarray) -> Rotation:
    return Rotation.from_euler(axis, np.asarray(angle)[:, None])


def _feet(skeleton: Skeleton, side: int, steps: list[Step], times: np.ndarray, frame_seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ankle [F, 3], orientation [F, 3, 3] and whether it stands flat [F], from one foot's steps."""
    sign = 1 if side == 0 else -1
    x, z, yaw = sign * STANCE, 0.0, sign * TOE_OUT
    ankle, planted = np.empty((len(times), 3)), np.empty(len(times), bool)
    yaws, tips, rise = np.empty(len(times)), np.zeros(len(times)), np.zeros(len(times))
    ankle[:], yaws[:] = [x, skeleton.ankle_height, z], yaw
    planted[:] = True
    for step in steps:
        s = np.clip((times - step.lift) / (step.land - step.lift), 0, 1)
        air, after = (s > 0) & (s < 1), s >= 1
        ease = (s**3 * (10 - 15 * s + 6 * s**2))[:, None]  # least jerk from rest to rest
        start, goal = np.array([x, skeleton.ankle_height, z]), np.array([step.x, skeleton.ankle_height, step.z])
        path = start + ease * (goal - start)
        bump = np.sin(np.pi * s) ** 2
        if step.through is not None:
            path = path + bump[:, None] * (np.array(step.through) - (start + goal) / 2)
        moving = air | after
        ankle[moving] = path[moving]
        yaws[moving] = (yaw + ease[:, 0] * (step.yaw - yaw))[moving]
        tip = step.tip * bump
        # a tipped foot must not dig its toes or its heel into the floor
        clear = np.where(tip > 0, TOE_REACH, HEEL_REACH) * np.sin(np.abs(np.deg2rad(tip)))
        rise[moving] = (step.height * bump + clear)[moving]
        tips[moving] = tip[moving]
        planted &= ~air
        x, z, yaw = step.x, step.z, step.yaw
    ankle[:, 1] += rise
    turn = (_about("y", np.deg2rad(yaws)) * _about("x", np.deg2rad(tips))).as_matrix()
    return ankle, turn, planted


def _knee_directions(pelvis_turn: np.ndarray, foot_turn: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Where a knee points: between the pelvis' and the foot's heading, turned outwards by `spread`, slightly up."""
    ahead = pelvis_turn[:, :, 2] * [1, 0, 1] + foot_turn[:, :, 2] * [1, 0, 1]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    out = np.stack([ahead[:, 2], np.zeros(len(ahead)), -ahead[:, 0]], axis=1)
    return np.cos(spread)[:, None] * ahead + np.sin(spread)[:, None] * out + np.array([0, 0.25, 0])


def _smooth_below(wanted: np.ndarray, limit: np.ndarray, frame_seconds: float) -> np.ndarray:
    """The wanted heights, lowered smoothly where a limit lies under them."""
    excess = np.maximum(0, wanted - limit + 0.002)
    widest = maximum_filter1d(excess, 2 * max(1, round(0.12 / frame_seconds)) + 1, mode="nearest")
    return wanted - np.maximum(excess, gaussian_filter1d(widest, 0.08 / frame_seconds, mode="nearest"))
