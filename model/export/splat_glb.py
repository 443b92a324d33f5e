"""Splats as .glb with Khronos' extension KHR_gaussian_splatting (ratified).

Axes: glTF's, which are the stage's. Numbers are those that a renderer uses: scales in metres, opacity 0..1, rotation as
x y z w, colour as the constant spherical harmonic. A viewer that does not know the extension shows coloured points, by
COLOR_0, which glTF defines in linear light.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from model.export.glb import VERTEX_DATA, GlbWriter
from model.export.splats import Splats

EXTENSION = "KHR_gaussian_splatting"
POINTS = 0  # glTF's primitive mode


def write_splat_glb(splats: Splats, *, name: str) -> bytes:
    """Write splats as one mesh primitive of points; `name` is the node's."""
    writer = GlbWriter()
    count = len(splats)
    quaternions = np.tile(np.float32([0, 0, 0, 1]), (count, 1))
    attributes = {
        "POSITION": writer.accessor(splats.means.astype(np.float32), target=VERTEX_DATA, bounds=True),
        "COLOR_0": writer.accessor(fallback_colors(splats), target=VERTEX_DATA, normalized=True),
        f"{EXTENSION}:SCALE": writer.accessor(np.repeat(splats.scales.astype(np.float32)[:, None], 3, axis=1), target=VERTEX_DATA),
        f"{EXTENSION}:ROTATION": writer.accessor(quaternions, target=VERTEX_DATA),
        f"{EXTENSION}:OPACITY": writer.accessor(splats.opacities.astype(np.float32), target=VERTEX_DATA),
        f"{EXTENSION}:SH_DEGREE_0_COEF_0": writer.accessor(splats.sh0.astype(np.float32), target=VERTEX_DATA),
    }
    kernel = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "sortingMethod": "cameraDistance", "projection": "perspective"}
    writer.document |= {
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [{"name": name, "primitives": [{"attributes": attributes, "mode": POINTS, "extensions": {EXTENSION: kernel}}]}],
    }
    return writer.to_bytes()


def fallback_colors(splats: Splats) -> UInt8[np.ndarray, "N 4"]:
    """Linear colour and opacity of the points, 255 = 1."""
    shares = np.column_stack([linear_from_srgb(splats.colors), splats.opacities])
    return np.round(255 * shares.clip(0, 1)).astype(np.uint8)


def linear_from_srgb(values: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """Display values to linear light, IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
