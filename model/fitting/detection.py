"""From what the detector says in each frame to what the fit may believe: swaps of left and right undone, confidence made honest.

Axes: F frames, 33 BlazePose landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from model.fitting.clip_landmarks import ClipLandmarks
from model.fitting.confidence import calibrate
from model.fitting.swaps import repair_swaps


@dataclass(frozen=True)
class Detected:
    """One clip's landmarks, ready to be fitted.

    Attributes:
        points: px. points_world: metres from the middle of the hips.
        confidence: inverse of the growth of the landmark's squared error, 0..1; 0 in frames without a person.
        swapped: rows in which left and right were put right, by limb pair (body, arms, legs).
    """

    points: Float[np.ndarray, "F 33 2"]
    confidence: Float[np.ndarray, "F 33"]
    points_world: Float[np.ndarray, "F 33 3"]
    swapped: dict[str, list[int]]


def clean_landmarks(found: ClipLandmarks, times: Float[np.ndarray, "F"]) -> Detected:
    """Put left and right right, then say how far each landmark may be trusted."""
    repaired = repair_swaps(found.points, found.visibility, found.points_world, times)
    confidence = calibrate(repaired.points, repaired.visibility, repaired.points_world, times)
    return Detected(repaired.points, confidence, repaired.points_world, repaired.swapped)
