"""What a human pose is likely to be: where each joint rests, how far it usually turns, and how far it can.

Axes: J = 24 SMPL joints; rows are the 23 below the root. Angles are radians, rotation vectors in SMPL's axes (rest pose with
arms out; x to the person's left, y up, z forward). The ranges are those of anatomy textbooks (flexion, extension,
abduction and rotation of hip, knee, ankle, spine, shoulder, elbow and wrist), turned into SMPL's axes and rounded; the spreads
are our own guess of everyday motion and not learned from any recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle", "spine3",
    "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip

# mean, spread, lowest, highest of the rotation vector; the right side mirrors the left one
_RANGES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "left_hip": ((-0.10, 0.00, 0.08), (0.60, 0.25, 0.25), (-2.30, -0.80, -0.50), (0.40, 0.80, 1.10)),
    "left_knee": ((0.15, 0.00, 0.00), (0.80, 0.12, 0.12), (0.00, -0.40, -0.25), (2.60, 0.40, 0.25)),
    "left_ankle": ((0.00, 0.00, 0.00), (0.50, 0.15, 0.15), (-0.70, -0.40, -0.40), (0.90, 0.40, 0.40)),
    "left_foot": ((0.00, 0.00, 0.00), (0.10, 0.05, 0.05), (-0.50, -0.10, -0.10), (0.40, 0.10, 0.10)),
    "spine1": ((0.05, 0.00, 0.00), (0.15, 0.15, 0.12), (-0.30, -0.40, -0.40), (0.80, 0.40, 0.40)),
    "spine2": ((0.03, 0.00, 0.00), (0.15, 0.15, 0.10), (-0.25, -0.40, -0.30), (0.60, 0.40, 0.30)),
    "spine3": ((0.02, 0.00, 0.00), (0.15, 0.15, 0.10), (-0.20, -0.40, -0.30), (0.50, 0.40, 0.30)),
    "neck": ((0.05, 0.00, 0.00), (0.25, 0.25, 0.15), (-0.60, -0.70, -0.50), (0.70, 0.70, 0.50)),
    "head": ((0.00, 0.00, 0.00), (0.20, 0.25, 0.12), (-0.40, -0.60, -0.40), (0.40, 0.60, 0.40)),
    "left_collar": ((0.00, -0.05, -0.03), (0.10, 0.12, 0.12), (-0.30, -0.40, -0.30), (0.30, 0.30, 0.40)),
    "left_shoulder": ((-0.10, -0.35, -0.90), (0.50, 0.60, 0.65), (-1.70, -2.20, -1.80), (1.50, 0.70, 1.50)),
    "left_elbow": ((0.00, -0.55, 0.00), (0.45, 0.75, 0.20), (-1.20, -2.60, -0.50), (1.20, 0.00, 0.40)),
    "left_wrist": ((0.00, 0.00, 0.00), (0.30, 0.25, 0.30), (-0.80, -0.60, -1.00), (0.80, 0.60, 1.00)),
    "left_hand": ((0.00, 0.00, 0.00), (0.05, 0.05, 0.05), (-0.20, -0.20, -0.20), (0.20, 0.20, 0.20)),
}
_AT_REST = ((0.0, 0.0, 0.0), (0.01, 0.01, 0.01), (-0.1, -0.1, -0.1), (0.1, 0.1, 0.1))


@dataclass(frozen=True)
class PosePrior:
    """A box of what joints can do, and a Gaussian of what they usually do.

    Attributes:
        mean, spread: of each rotation vector, rad.
        lowest, highest: limits of each component, rad.
    """

    mean: Float[Tensor, "J-1 3"]
    spread: Float[Tensor, "J-1 3"]
    lowest: Float[Tensor, "J-1 3"]
    highest: Float[Tensor, "J-1 3"]


def anatomical_prior(joint_names: tuple[str, ...] = JOINT_NAMES, dtype: torch.dtype = torch.float64) -> PosePrior:
    """The shipped prior for a body's joints, by name; joints it does not know (fingers, jaw, eyes) are kept at rest."""
    rows = []
    for name in joint_names[1:]:
        ranges = _RANGES.get(name.replace("right_", "left_"), _AT_REST)
        mean, spread, lowest, highest = (torch.tensor(v, dtype=dtype) for v in ranges)
        if name.startswith("right_"):  # mirrored in x: the vector's y and z change sign
            flip = torch.tensor([1.0, -1.0, -1.0], dtype=dtype)
            mean, lowest, highest = mean * flip, torch.minimum(lowest * flip, highest * flip), torch.maximum(lowest * flip, highest * flip)
        rows.append(torch.stack([mean, spread, lowest, highest]))
    return PosePrior(*torch.stack(rows, 1).unbind(0))
