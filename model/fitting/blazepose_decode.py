"""What BlazePose's landmark network says: its five tensors as points, confidences and a mask over its square of the picture.

Axes: L = 39 landmarks (33 of the body, 6 auxiliary), G = 64 cells of the heat map a side. Points lie in the unit square of
the network's input; world points are metres. The numbers are those of the published graph
(modules/pose_landmark/tensors_to_pose_landmarks_and_segmentation.pbtxt).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LANDMARK_SIZE = 256  # px, side of the network's input
NUM_LANDMARKS = 39
NUM_BODY = 33
ALIGNMENT = (33, 34)  # hip centre and the point of the full-body circle: the next frame's square
HEATMAP_KERNEL = 7  # cells, side of the window that a landmark is refined in
MIN_HEAT = 0.5  # a window whose peak is lower leaves the landmark alone

BLAZEPOSE_NAMES = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel",
    "left_foot_index", "right_foot_index",
)  # fmt: skip


@dataclass(frozen=True)
class RoiLandmarks:
    """The landmark network's answer inside its square.

    Attributes:
        points: unit square.
        confidence: that the point is inside the picture and not hidden, 0..1.
        points_world: metres from the middle of the hips, axes of the *square*.
        presence: that there is a person at all, 0..1.
        mask: share of person, 0..1.
    """

    points: Float[np.ndarray, "39 2"]
    confidence: Float[np.ndarray, "39"]
    points_world: Float[np.ndarray, "39 3"]
    presence: float
    mask: Float[np.ndarray, "256 256"]


def decode_landmarks(
    raw: Float[np.ndarray, "195"],
    presence: float,
    mask_logits: Float[np.ndarray, "256 256"],
    heat_logits: Float[np.ndarray, "64 64 39"],
    raw_world: Float[np.ndarray, "117"],
) -> RoiLandmarks:
    """Turn the network's tensors into landmarks.

    `raw` holds (x, y, z, visibility, presence) for each landmark: x and y in input pixels, the last two as logits. The
    chance of a landmark being seen is the product of the two.
    """
    rows = raw.reshape(NUM_LANDMARKS, 5)
    points = refine_by_heat(rows[:, :2] / LANDMARK_SIZE, heat_logits)
    return RoiLandmarks(
        points=points,
        confidence=sigmoid(rows[:, 3]) * sigmoid(rows[:, 4]),
        points_world=raw_world.reshape(NUM_LANDMARKS, 3),
        presence=presence,
        mask=sigmoid(mask_logits),
    )


def refine_by_heat(
    points: Float[np.ndarray, "L 2"], heat_logits: Float[np.ndarray, "G G L"]
) -> Float[np.ndarray, "L 2"]:
    """Move each landmark to the centre of mass of the heat map in a window around it, where the heat is sure of itself."""
    cells = heat_logits.shape[0]
    reach = (HEATMAP_KERNEL - 1) // 2
    refined = points.copy()
    for i, (column, row) in enumerate(np.rint(points * cells).astype(int)):
        if not (0 <= column < cells and 0 <= row < cells):
            continue
        rows = np.arange(max(0, row - reach), min(cells, row + reach + 1))
        columns = np.arange(max(0, column - reach), min(cells, column + reach + 1))
        heat = sigmoid(heat_logits[np.ix_(rows, columns, [i])][..., 0])
        if heat.max() >= MIN_HEAT:
            refined[i] = np.array([heat.sum(0) @ columns, heat.sum(1) @ rows]) / heat.sum() / cells
    return refined


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), safe for large negative x."""
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))
