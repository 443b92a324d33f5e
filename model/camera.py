"""A pinhole camera, and the pixel convention that the whole project shares.

Axes: *B leading frames, N points. World lengths are metres; the camera looks along +z with x to the right and y
down (OpenCV). Pixel (row i, column j) covers [j, j+1) x [i, i+1): its centre lies at (j + 0.5, i + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """Intrinsics, extrinsics and picture size of one view.

    Attributes:
        K: intrinsics, pixels.
        w2c: world to camera, metres.
        width, height: picture size, pixels.
    """

    K: Float[Tensor, "3 3"]
    w2c: Float[Tensor, "4 4"]
    width: int
    height: int

    @property
    def eye(self) -> Float[Tensor, "3"]:
        """Where the camera stands in the world, metres."""
        return -self.w2c[:3, :3].T @ self.w2c[:3, 3]

    def crop(self, x0: int, y0: int, width: int, height: int) -> Camera:
        """The same view restricted to a window whose top left pixel is (x0, y0)."""
        K = self.K.clone()
        K[0, 2] -= x0
        K[1, 2] -= y0
        return Camera(K, self.w2c, width, height)

    def resize(self, width: int, height: int) -> Camera:
        """The same view sampled by another number of pixels."""
        scale = torch.tensor([width / self.width, height / self.height, 1.0], dtype=self.K.dtype, device=self.K.device)
        return Camera(self.K * scale[:, None], self.w2c, width, height)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None, *, non_blocking: bool = False) -> Camera:
        """The same view with its matrices on another device or in another type; non_blocking as in torch, for copies to a GPU."""
        K, w2c = (matrix.to(device=device, dtype=dtype, non_blocking=non_blocking) for matrix in (self.K, self.w2c))
        return Camera(K, w2c, self.width, self.height)

    def to_camera(self, points_world: Float[Tensor, "*B N 3"]) -> Float[Tensor, "*B N 3"]:
        """Carry world points into the camera's axes, metres."""
        return points_world @ self.w2c[:3, :3].T + self.w2c[:3, 3]

    def project(self, points_world: Float[Tensor, "*B N 3"]) -> Float[Tensor, "*B N 2"]:
        """Project world points to pixels. Differentiable; points must lie in front of the camera."""
        x, y, z = self.to_camera(points_world).unbind(-1)
        u = self.K[0, 0] * x / z + self.K[0, 1] * y / z + self.K[0, 2]
        v = self.K[1, 1] * y / z + self.K[1, 2]
        return torch.stack([u, v], dim=-1)


def camera_from_focal(focal_px: float, width: int, height: int, dtype: torch.dtype = torch.float32) -> Camera:
    """A camera at the world's origin with square pixels and its principal point in the middle of the picture."""
    K = torch.tensor([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]], dtype=dtype)
    return Camera(K, torch.eye(4, dtype=dtype), width, height)
