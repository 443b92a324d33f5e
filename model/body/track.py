"""The body track: one person's shape, and pose, place and camera for each frame of a clip.

Axes: F frames, S shape coefficients, E expression coefficients, J joints (the root is joint 0). Lengths are metres, angles radians (axis-angle).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.camera import Camera

Array = TypeVar("Array", Tensor, np.ndarray)

REFERENCE_FPS = 25.0  # of a track that knows neither times nor a rate
HALF_SURE = 0.06  # m, expected error of a joint's place at which its confidence is one half: about a limb's thickness


@dataclass(frozen=True)
class BodyTrack:
    """Shape of one person and its motion in front of one still camera.

    Attributes:
        betas: shape coefficients of the body model named by `body`.
        global_orient: root rotation in the world.
        body_pose: rotations of the other joints, relative to their parents.
        transl: root translation in the world, metres (SMPL's convention: added after skinning).
        K, w2c: the camera; OpenCV axes.
        width, height: picture size that K speaks of, pixels.
        frame_ids: which frames/NNNNNN.png each row belongs to.
        confidence: how far each row can be trusted, 0..1.
        fps: rows per second of the motion; NaN where unknown.
        body: which body model the coefficients belong to ("open" or the stem of a model file).
        joint_spread: how far each joint is expected to lie from its true place beside the root, m; NaN where unknown, None
            where nothing is known of any, as of a track from another program.
        expression: coefficients of SMPL-X's expressions; None where none were fitted. Kept for other programs: avatars do not show them.
        times: when each row was filmed, s; None where unknown. They may lie unevenly: frames without a person are left out.
    """

    betas: Float[Tensor, "S"]
    global_orient: Float[Tensor, "F 3"]
    body_pose: Float[Tensor, "F J-1 3"]
    transl: Float[Tensor, "F 3"]
    K: Float[Tensor, "3 3"]
    w2c: Float[Tensor, "4 4"]
    width: int
    height: int
    frame_ids: Int[Tensor, "F"]
    confidence: Float[Tensor, "F"]
    fps: float
    body: str
    joint_spread: Float[Tensor, "F J"] | None = None
    expression: Float[Tensor, "F E"] | None = None
    times: Float[Tensor, "F"] | None = None

    @property
    def num_frames(self) -> int:
        return self.transl.shape[0]

    @property
    def row_times(self) -> Float[Tensor, "F"]:
        """When each row is, s, rising: as it was filmed, else by the number of its frame and the rate."""
        if self.times is not None and bool((self.times.diff() >= 0).all()):
            return self.times
        return self.frame_ids / (self.fps if self.fps > 0 else REFERENCE_FPS)

    @property
    def joint_confidence(self) -> Float[Tensor, "F J"]:
        """How far each joint's place can be trusted, 0..1; 1 where its spread is unknown."""
        if self.joint_spread is None:
            return self.confidence.new_ones(self.num_frames, self.body_pose.shape[1] + 1)
        return joint_confidence(self.joint_spread.nan_to_num(0.0))

    @property
    def camera(self) -> Camera:
        """The one view that all frames share."""
        return Camera(self.K, self.w2c, self.width, self.height)

    def to(self, device: torch.device | str) -> BodyTrack:
        """The same track with its tensors on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})


def joint_confidence(spread: Array) -> Array:
    """How far a joint can be trusted that is expected to lie `spread` metres off, 0..1: 1 / (1 + (spread / HALF_SURE)^2)."""
    return 1 / (1 + (spread / HALF_SURE) ** 2)
