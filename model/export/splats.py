"""The splats that leave: an avatar's Gaussians in one pose, on the stage, in the colours that a file shall show.

Axes: N Gaussians. Lengths are metres, colours display (sRGB) values in 0..1. Stage axes: see model/export/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SH_C0 = 0.28209479177387814  # 1 / (2 sqrt(pi)), the constant spherical harmonic: colour = 0.5 + SH_C0 * f_dc
MAX_OPACITY = 1 - 1e-4  # an opaque splat's, so that its logit is finite; 3DGS renderers cap alpha at 0.99 anyway
MIN_SCALE = 1e-7  # m; so that its logarithm is finite


@dataclass(frozen=True)
class Splats:
    """Isotropic Gaussians, ready to be written.

    Attributes:
        means: centres, metres.
        normals: outward unit normals of the surface they lie on.
        scales: standard deviations, metres.
        colors: display colours, 0..1.
        opacities: peak opacities, 0..1.
    """

    means: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"]
    scales: Float[np.ndarray, "N"]
    colors: Float[np.ndarray, "N 3"]
    opacities: Float[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh0(self) -> Float[np.ndarray, "N 3"]:
        """Coefficients of the constant harmonic: f_dc of 3DGS."""
        return (self.colors - 0.5) / SH_C0

    @property
    def opacity_logits(self) -> Float[np.ndarray, "N"]:
        """Opacity before the sigmoid of 3DGS, finite for opaque splats too."""
        shares = self.opacities.astype(np.float64).clip(1 - MAX_OPACITY, MAX_OPACITY)
        return np.log(shares / (1 - shares))

    @property
    def log_scales(self) -> Float[np.ndarray, "N"]:
        """Natural logarithm of the standard deviations in metres, as 3DGS has it."""
        return np.log(self.scales.astype(np.float64).clip(MIN_SCALE))
