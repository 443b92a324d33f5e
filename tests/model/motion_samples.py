"""What tests of motion files share: which joints they look at, and z up."""

from __future__ import annotations

import torch
from scipy.spatial.transform import Rotation

from model.motion.motion import Motion
from model.motion.skeleton import ANKLE, ELBOW, HIP, KNEE, SHOULDER, WRIST

LIMBS = [*HIP, *KNEE, *ANKLE, *SHOULDER, *ELBOW, *WRIST]
Z_UP = Rotation.from_euler("x", 90, degrees=True)  # carries y up to z up


def limbs_from_root(motion: Motion) -> torch.Tensor:
    joints = motion.joints
    return joints[:, LIMBS] - joints[:, :1]
