"""Where feet go: from a list of steps to the place and turn of each ankle, over one round of a motion that repeats.

A foot stands at one foothold until it lifts and at the next from when it lands. Before it lifts the heel comes up, the ball
and the toes staying flat on the floor; it lands on the heel, toes up, and rolls down. In stance the lowest point of the sole
is on the floor, and the point it rolls about (heel or ball) does not move.

Axes: F frames. World of a motion: y up, floor at y = 0, metres. Sides are 0 left, 1 right; times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from model.motion.skeleton import ANKLE, BALL, Skeleton

HEEL_LEAD = 0.30  # s before lifting in which the heel comes up
ROLL_DOWN = 0.10  # s after landing until the foot is flat
TOES_BEND = 50.0  # degrees, as far as toes bend up


@dataclass(frozen=True)
class Step:
    """One foot lifts at `lift`, and stands at (x, z) turned by `yaw` from `land` on.

    Attributes:
        yaw: degrees, counted on without wrapping; 0 faces +z, positive to the left.
        height: clearance of the sole in the middle of the swing, metres.
        off, on: degrees that the heel is up when it lifts, and the toes are up when it lands.
    """

    lift: float
    land: float
    x: float
    z: float
    yaw: float
    height: float = 0.04
    off: float = 20.0
    on: float = 0.0
    lead: float = HEEL_LEAD


@dataclass(frozen=True)
class FootPath:
    """What one foot does over one round.

    Attributes:
        ankle: where the ankle joint is.
        turn: the foot's rotation from its rest pose.
        toes: how far the toes bend up, rad.
        yaw: where the foot points, rad, unwrapped.
        planted: whether it bears on the floor.
    """

    ankle: Float[np.ndarray, "F 3"]
    turn: Float[np.ndarray, "F 3 3"]
    toes: Float[np.ndarray, "F"]
    yaw: Float[np.ndarray, "F"]
    planted: np.ndarray


def follow_steps(
    skeleton: Skeleton,
    side: int,
    steps: list[Step],
    start: tuple[float, float, float],
    times: Float[np.ndarray, "F"],
    period: float,
    advance: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> FootPath:
    """The path of one foot.

    Args:
        steps: in the order of time, none overlapping, all landing within one period after the first lift.
        start: x, z, yaw (degrees) of the foothold before the first step.
        period: length of the round; the steps repeat before and after it.
        advance: what one whole round adds to x, z and yaw (degrees).
    """
    place = np.tile(np.array(start, float), (len(times), 1))  # x, z, yaw
    lift, pitch, planted = np.zeros(len(times)), np.zeros(len(times)), np.ones(len(times), bool)
    before = np.array(start, float) - np.array(advance)
    rounds = [
        (step.lift + k * period, step.land + k * period, np.array([step.x, step.z, step.yaw]) + k * np.array(advance), step)
        for k in (-1, 0, 1)
        for step in steps
    ]
    for lifted, landed, goal, step in rounds:
        s = np.clip((times - lifted) / (landed - lifted), 0, 1)
        air, moved = (s > 0) & (s < 1), s > 0
        place[moved] = (before + _ease(s)[:, None] * (goal - before))[moved]
        before = goal
        lift += np.where(air, step.height * np.sin(np.pi * s) ** 2, 0)
        rising = _ease(np.clip((times - (lifted - step.lead)) / step.lead, 0, 1)) ** 1.5
        falling = 1 - _ease(np.clip(s / 0.75, 0, 1))
        reaching = _ease(np.clip((s - 0.35) / 0.6, 0, 1))
        settling = 1 - _ease(np.clip((times - landed) / ROLL_DOWN, 0, 1))
        pitch += step.off * rising * falling - step.on * reaching * settling
        planted &= ~air
    return _roll(skeleton, side, place, np.deg2rad(pitch), lift, planted)


def _roll(skeleton: Skeleton, side: int, place: np.ndarray, pitch: np.ndarray, lift: np.ndarray, planted: np.ndarray) -> FootPath:
    """Tip a foot about its heel or its ball and set its lowest point to `lift` above the floor."""
    at, soles = skeleton.joints_rest.double().numpy(), skeleton.soles
    ankle, ball_joint = at[ANKLE[side]], at[BALL[side]]
    heel, ball, toe = (getattr(soles, name)[side].double().numpy() for name in ("heel", "ball", "toe"))
    yaw = np.deg2rad(place[:, 2])
    heading = Rotation.from_euler("y", yaw[:, None])
    turn = heading * Rotation.from_euler("x", pitch[:, None])
    toes = np.clip(pitch, 0, np.deg2rad(TOES_BEND)) * np.where(planted, 1.0, 0.8)
    toe_turn = turn * Rotation.from_euler("x", -toes[:, None])
    pivot = np.where(pitch[:, None] > 0, ball, heel)
    flat = np.stack([place[:, 0], np.zeros(len(place)), place[:, 1]], axis=1)
    root = flat + heading.apply(pivot - ankle) * [1, 0, 1] - turn.apply(pivot - ankle)
    lowest = np.min([turn.apply(heel - ankle)[:, 1], turn.apply(ball - ankle)[:, 1],
                     turn.apply(ball_joint - ankle)[:, 1] + toe_turn.apply(toe - ball_joint)[:, 1]], axis=0)  # fmt: skip
    root[:, 1] = lift - lowest
    return FootPath(root, turn.as_matrix(), toes, yaw, planted)


def _ease(s: np.ndarray) -> np.ndarray:
    """From 0 to 1 with least jerk."""
    return s**3 * (10 - 15 * s + 6 * s**2)
