"""The body track: one person's shape, and pose, place and camera for each frame of a clip.

Axes: F frames, S shape coefficients, J joints (the root is joint 0). Lengths are metres, angles radians (axis-angle).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.camera import Camera


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

    @property
    def num_frames(self) -> int:
        return self.transl.shape[0]

    @property
    def camera(self) -> Camera:
        """The one view that all frames share."""
        return Camera(self.K, self.w2c, self.width, self.height)

    def to(self, device: torch.device | str) -> BodyTrack:
        """The same track with its tensors on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})
