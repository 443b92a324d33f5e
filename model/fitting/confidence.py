"""How far a detected landmark may be trusted, said honestly: from what BlazePose reports and from where the person faces.

Axes: F frames, 33 BlazePose landmarks. BlazePose's own visibility tells a hidden wrist from a seen one, but it calls nose,
eyes, ears, shoulders and hips visible (0.99 and more) in every view, on people who turn their back too. The tables below
are the growth of its error, as measured on three generated people who turn once round (252 frames, each landmark's constant
offset from the body taken out): with 1.0 where a landmark is at its best.

Where the person faces is read from shoulders and hips only, never from the face, which BlazePose makes up on a back view.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

FACE, TRUNK, LEGS, FEET, ARMS = range(0, 11), (11, 12, 23, 24), (25, 26, 27, 28), range(29, 33), range(13, 23)
YAWS = np.radians([0.0, 57, 90, 122, 160])  # 0 faces the camera
BY_VIEW = (
    (FACE, (1.0, 1.25, 1.6, 2.1, 3.2)), (TRUNK, (1.0, 1.9, 2.2, 2.5, 1.3)), (LEGS, (1.0, 1.9, 2.4, 2.5, 1.5)),
    (FEET, (1.0, 2.0, 2.6, 2.6, 2.8)), (ARMS, (1.0, 1.0, 1.2, 1.2, 1.0)),
)  # fmt: skip
VISIBILITIES = (0.05, 0.33, 0.62, 0.83, 0.93, 0.975, 1.0)
BY_VISIBILITY = (8.0, 3.5, 2.4, 2.2, 1.6, 1.25, 1.0)
FALL = 2.0  # confidence = growth ** -FALL: the weight of a squared residual
YAW_WINDOW = 2  # frames to either side over which the facing is smoothed
SPIKE = 0.06  # of the person's height: a landmark that leaps as far and leaps back in the next frame
SPIKE_CONFIDENCE = 0.1
SPIKE_SECONDS = 0.25  # from the frame before to the frame after


def calibrate(
    points: Float[np.ndarray, "F 33 2"], visibility: Float[np.ndarray, "F 33"], points_world: Float[np.ndarray, "F 33 3"],
    times: Float[np.ndarray, "F"],
) -> Float[np.ndarray, "F 33"]:  # fmt: skip
    """Confidence of each landmark, 0..1; 0 where the frame has none (all visibilities 0).

        confidence = g^-FALL,   g^2 = g_view(facing)^2 + g_visibility^2 - 1

    with g the growth of the landmark's error. Landmarks that leap away for a single frame keep SPIKE_CONFIDENCE of it.
    """
    seen = visibility.sum(axis=1) > 0
    yaw = np.abs(facing(points_world, seen))
    by_visibility = np.interp(visibility, VISIBILITIES, BY_VISIBILITY)
    by_view = np.ones_like(visibility)
    for landmarks, growth in BY_VIEW:
        by_view[:, list(landmarks)] = np.interp(yaw, YAWS, growth)[:, None]
    growth = np.sqrt(by_view**2 + by_visibility**2 - 1)
    confidence = growth**-FALL
    confidence[find_spikes(points, seen, times)] *= SPIKE_CONFIDENCE
    return np.where(seen[:, None], confidence, 0.0)


def facing(points_world: Float[np.ndarray, "F 33 3"], seen: Bool[np.ndarray, "F"]) -> Float[np.ndarray, "F"]:
    """Angle between where the person faces and the camera, rad: 0 faces it, +-pi turns its back; 0 where nobody is seen.

    Read from the line through shoulders and hips, smoothed over neighbouring frames.
    """
    across = points_world[:, 11] - points_world[:, 12] + points_world[:, 23] - points_world[:, 24]
    flat = across[:, [0, 2]] / np.maximum(np.linalg.norm(across[:, [0, 2]], axis=1, keepdims=True), 1e-9) * seen[:, None]
    smooth = np.stack([np.convolve(flat[:, k], np.ones(2 * YAW_WINDOW + 1), mode="full")[YAW_WINDOW:-YAW_WINDOW] for k in (0, 1)], 1)
    return np.where(seen, np.arctan2(smooth[:, 1], smooth[:, 0]), 0.0)


def find_spikes(
    points: Float[np.ndarray, "F 33 2"], seen: Bool[np.ndarray, "F"], times: Float[np.ndarray, "F"]
) -> Bool[np.ndarray, "F 33"]:
    """Landmarks that are far from where they were and will be, while those two places are near each other.

    Only frames that follow each other fast are judged: in SPIKE_SECONDS an arm swings out and back by itself.
    """
    spikes = np.zeros(points.shape[:2], bool)
    if seen.sum() < 3:
        return spikes
    height = np.median(np.ptp(points[seen][..., 1], axis=1))
    before, now, after = points[:-2], points[1:-1], points[2:]
    away = np.minimum(np.linalg.norm(now - before, axis=-1), np.linalg.norm(now - after, axis=-1))
    stayed = np.linalg.norm(after - before, axis=-1)
    together = (seen[:-2] & seen[1:-1] & seen[2:] & (times[2:] - times[:-2] < SPIKE_SECONDS))[:, None]
    spikes[1:-1] = together & (away > SPIKE * height) & (stayed < away / 2)
    return spikes
