"""A lens that bends straight lines, and how its pictures are made straight.

Axes: H x W pixels, N points. The model is OpenCV's, after Brown 1971, on coordinates x = X / Z, y = Y / Z, r^2 = x^2 + y^2:

    x' = x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)
    y' = y (1 + k1 r^2 + k2 r^4 + k3 r^6) + p1 (r^2 + 2 y^2) + 2 p2 x y
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float

RADII = 200  # at which the lens is looked at
SPAN_ROOM = 1.1  # of the picture's half diagonal, up to which the lens must be one to one


@dataclass(frozen=True)
class Lens:
    """One camera's lens.

    Attributes:
        K: intrinsics, px with centres at +0.5; they stay the same when its pictures are made straight.
        coefficients: k1, k2, p1, p2, k3.
        width, height: of its pictures, px.
    """

    K: Float[np.ndarray, "3 3"]
    coefficients: tuple[float, float, float, float, float]
    width: int
    height: int

    def check(self) -> None:
        """Notice coefficients that cannot be a lens.

        Raises:
            ValueError: two radii of the picture come from one and the same direction.
        """
        k1, k2, _, _, k3 = self.coefficients
        corner = SPAN_ROOM * np.hypot(self.width, self.height) / 2 / self.K[0, 0]
        radius = np.linspace(0, corner, RADII)
        bent = radius * (1 + k1 * radius**2 + k2 * radius**4 + k3 * radius**6)
        if (np.diff(bent) <= 0).any():
            at = radius[int(np.argmax(np.diff(bent) <= 0))] * self.K[0, 0]
            raise ValueError(f"these coefficients fold the picture over itself {at:.0f} px from its middle")

    def distort(self, points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Where the lens puts points of the straight picture, px."""
        k1, k2, p1, p2, k3 = self.coefficients
        x, y = ((points - self.K[:2, 2]) / np.diag(self.K)[:2]).T
        r2 = x**2 + y**2
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        bent = np.stack([x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2), y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y], 1)
        return bent * np.diag(self.K)[:2] + self.K[:2, 2]

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel of the straight picture is found in the bent one, pixel indices, packed as OpenCV likes them."""
        y, x = np.mgrid[: self.height, : self.width].astype(np.float64) + 0.5
        source = self.distort(np.stack([x.ravel(), y.ravel()], axis=1)) - 0.5
        flat = source.reshape(self.height, self.width, 2).astype(np.float32)
        return cv2.convertMaps(flat[..., 0], flat[..., 1], cv2.CV_16SC2)

    def straighten(self, image: np.ndarray) -> np.ndarray:
        """The picture (or mask) as a camera with the same K and no distortion takes it; what was not filmed repeats the border."""
        if image.shape[:2] != (self.height, self.width):
            raise ValueError(f"expected a picture of {self.width}x{self.height} px, came {image.shape[1]}x{image.shape[0]}")
        return cv2.remap(image, *self._maps, cv2.INTER_CUBIC if image.ndim == 3 else cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
