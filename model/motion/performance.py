"""From curves and footholds to SMPL poses: how the motions made by formula become motions of a given skeleton.

A performance names what one sees of a person (pelvis, spine, head, arms) as angles over one round, and where the feet step;
the legs follow by inverse kinematics, so that a planted foot neither slides nor sinks, whatever the proportions.

Axes: F frames, J joints in SMPL's order. World of a motion: y up, floor at y = 0, metres. Sides are 0 left, 1 right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from model.motion.footwork import FootPath
from model.motion.leg_ik import lower_to_reach, reach_with_legs
from model.motion.motion import Motion
from model.motion.retarget import LEG_ROOM, smooth_at_least
from model.motion.skeleton import BALL, COLLAR, ELBOW, HEAD, HIP, KNEE, NECK, PELVIS, SHOULDER, SPINE1, SPINE2, SPINE3, WRIST, Skeleton
from model.pose import BodyPose

ROUNDING = 0.05  # s, how far the corners between keys are rounded

# What a performance may set, degrees unless said otherwise; what it leaves out is 0 or the value given here.
PELVIS_CURVES = ("x", "z", "drop", "yaw", "pitch", "roll")  # x, z, drop in metres
SPINE_CURVES = ("bend", "side", "twist", "nod", "look", "tilt")
ARM_CURVES = {"lower": 72.0, "flex": 0.0, "twist": 0.0, "elbow": 14.0, "turn": 16.0, "wrist": 0.0, "shrug": 0.0}
LEG_CURVES = {"spread": 6.0}  # degrees that the knee points outwards of between pelvis and foot
KNOWN_CURVES = {*PELVIS_CURVES, *SPINE_CURVES, *(f"{side}_{name}" for side in ("left", "right") for name in (*ARM_CURVES, *LEG_CURVES))}


@dataclass(frozen=True)
class Performance:
    """One round of a motion that repeats.

    Attributes:
        period: seconds.
        curves: name -> values over the frames: PELVIS_CURVES, SPINE_CURVES, and left_ and right_ of ARM_CURVES and LEG_CURVES.
        feet: left and right.
    """

    period: float
    curves: dict[str, Float[np.ndarray, "F"]]
    feet: tuple[FootPath, FootPath]

    def __post_init__(self) -> None:
        assert set(self.curves) <= KNOWN_CURVES, f"no such curves: {sorted(set(self.curves) - KNOWN_CURVES)}"

    @property
    def num_frames(self) -> int:
        return len(self.feet[0].yaw)

    def curve(self, name: str, rest: float = 0.0) -> Float[np.ndarray, "F"]:
        return np.asarray(self.curves.get(name, np.full(self.num_frames, rest)), float)


def frame_times(period: float, fps: float) -> Float[np.ndarray, "F"]:
    """The times of one round's frames, s: evenly, the round's end left out."""
    count = max(2, round(period * fps))
    return np.arange(count) / count * period


def around(keys: list[tuple[float, float]], times: np.ndarray, period: float) -> Float[np.ndarray, "F"]:
    """Join keys (time, value) without overshoot over a round that repeats, corners rounded."""
    knots = np.array(sorted(keys), float)
    assert 0 <= knots[0, 0] and knots[-1, 0] < period, "keys lie within one round"
    tiled = np.concatenate([knots + [k * period, 0] for k in (-1, 0, 1)])
    grid = np.arange(round(period / 0.005)) / round(period / 0.005) * period
    values = gaussian_filter1d(PchipInterpolator(*tiled.T)(grid), ROUNDING / 0.005, mode="wrap")
    return np.interp(times, np.append(grid, period), np.append(values, values[0]))


def perform(name: str, skeleton: Skeleton, performance: Performance, fps: float) -> Motion:
    """The motion of one skeleton that a performance describes; its frames are shown at `fps`, which may stretch it by half a
    frame."""
    count, curve = performance.num_frames, performance.curve
    rad = lambda key, rest=0.0: np.deg2rad(curve(key, rest))  # noqa: E731
    local = np.tile(np.eye(3), (count, skeleton.num_joints, 1, 1))
    pelvis_turn = _about("y", rad("yaw")) * _about("x", rad("pitch")) * _about("z", rad("roll"))
    local[:, PELVIS] = pelvis_turn.as_matrix()
    for joint, share in ((SPINE1, 0.36), (SPINE2, 0.34), (SPINE3, 0.30)):
        local[:, joint] = (_about("y", share * rad("twist")) * _about("z", share * rad("side")) * _about("x", share * rad("bend"))).as_matrix()
    for joint, share in ((NECK, 0.5), (HEAD, 0.5)):
        local[:, joint] = (_about("y", share * rad("look")) * _about("z", share * rad("tilt")) * _about("x", share * rad("nod"))).as_matrix()
    for side, sign in ((0, 1.0), (1, -1.0)):
        _set_arm(local, side, sign, lambda key, s=side: rad(f"{('left', 'right')[s]}_{key}", ARM_CURVES[key]))
        spread = sign * rad(f"{('left', 'right')[side]}_spread", LEG_CURVES["spread"])
        foot = performance.feet[side]
        knee_yaw = (np.unwrap(rad("yaw")) + foot.yaw + 2 * np.pi * np.round((np.unwrap(rad("yaw")) - foot.yaw) / (2 * np.pi))) / 2
        thigh = _about("y", knee_yaw + spread) * _about("x", np.full(count, -0.45))
        local[:, HIP[side]] = (pelvis_turn.inv() * thigh).as_matrix()
        local[:, KNEE[side]] = _about("x", np.full(count, 0.9)).as_matrix()
        local[:, BALL[side]] = _about("x", -foot.toes).as_matrix()

    turns = torch.from_numpy(Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(count, -1, 3))
    pelvis = np.stack([curve("x"), skeleton.standing_height - curve("drop"), curve("z")], axis=1)
    transl = torch.from_numpy(pelvis) - skeleton.joints_rest[PELVIS].double()
    pose = BodyPose(turns[:, 0], turns[:, 1:], transl)
    ankles = torch.from_numpy(np.stack([foot.ankle for foot in performance.feet], axis=1))
    foot_turns = torch.from_numpy(np.stack([foot.turn for foot in performance.feet], axis=1))
    needed = lower_to_reach(skeleton, pose, ankles)
    transl[:, 1] -= smooth_at_least(torch.where(needed > 0, needed + LEG_ROOM, 0.0).numpy(), fps, loops=True)
    pose = reach_with_legs(skeleton, pose, ankles, foot_turns)
    parts = [part.float() for part in (pose.global_orient, pose.body_pose, pose.transl)]
    return Motion(name, *parts, fps=fps, loops=True, skeleton=skeleton)


def _set_arm(local: np.ndarray, side: int, sign: float, rad) -> None:
    """Rotations of one arm: lowered from the T-pose, swung forward, turned about itself; elbow, forearm and hand."""
    local[:, COLLAR[side]] = _about("z", sign * rad("shrug")).as_matrix()
    lowered = _about("z", -sign * (rad("lower") + rad("shrug")))
    local[:, SHOULDER[side]] = (_about("x", -rad("flex")) * lowered * _about("x", rad("twist"))).as_matrix()
    local[:, ELBOW[side]] = (_about("y", -sign * rad("elbow")) * _about("x", 0.4 * rad("turn"))).as_matrix()
    local[:, WRIST[side]] = (_about("x", 0.6 * rad("turn")) * _about("z", -sign * rad("wrist"))).as_matrix()


def _about(axis: str, angle: np.ndarray) -> Rotation:
    return Rotation.from_euler(axis, np.asarray(angle)[:, None])
