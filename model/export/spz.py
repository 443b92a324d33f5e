"""Niantic's .spz: splats in about 20 bytes each, gzipped. Version 3 of the format.

Axes: x right, y up, z towards the viewer, those of OpenGL and three.js, which are the stage's: nothing turns.
What the format keeps (all of it one table after the other, in this order):

    positions   3 x 24-bit fixed point       here with 16 fractional bits: steps of 15 micrometres, up to 128 m
    opacities   1 byte                       255 = opaque
    colours     3 bytes                      255 (0.15 f_dc + 0.5), f_dc = (colour - 0.5) / SH_C0: steps of 1.9 / 255
    scales      3 bytes                      16 (log scale + 10): steps of 6 %
    rotations   4 bytes                      the three smallest parts of the quaternion, 10 bits each, and which is largest
    harmonics   none                         degree 0
"""

from __future__ import annotations

import gzip
import struct

import numpy as np

from model.export.splats import Splats

MAGIC, VERSION = 0x5053474E, 3
FRACTIONAL_BITS = 16  # the usual 12 would round by 0.12 mm
FURTHEST = 2.0 ** (23 - FRACTIONAL_BITS)  # m
COLOR_SCALE = 0.15  # of the format: makes room for f_dc beyond 0..1
NO_ROTATION = 3 << 30  # w is the largest part, the other three are zero


def write_spz(splats: Splats) -> bytes:
    """Write splats as .spz.

    Raises:
        ValueError: a splat lies 128 m or more from the origin, beyond the format's fixed point.
    """
    count = len(splats)
    if count and np.abs(splats.means).max() >= FURTHEST - 1e-3:
        raise ValueError(f"expected all splats within {FURTHEST:g} m of the origin, the furthest is at {np.abs(splats.means).max():.1f} m")
    fixed = np.round(splats.means.astype(np.float64) * 2**FRACTIONAL_BITS).astype("<i4")
    positions = np.ascontiguousarray(fixed).view(np.uint8).reshape(count, 3, 4)[:, :, :3]
    scales = np.repeat(_byte(16 * (splats.log_scales + 10))[:, None], 3, axis=1)
    tables = (
        positions,
        _byte(255 * splats.opacities),
        _byte(255 * (COLOR_SCALE * splats.sh0 + 0.5)),
        scales,
        np.full(count, NO_ROTATION, "<u4"),
    )
    header = struct.pack("<IIIBBBB", MAGIC, VERSION, count, 0, FRACTIONAL_BITS, 0, 0)
    return gzip.compress(header + b"".join(np.ascontiguousarray(table).tobytes() for table in tables), compresslevel=9, mtime=0)


def _byte(values: np.ndarray) -> np.ndarray:
    return np.round(values).clip(0, 255).astype(np.uint8)
