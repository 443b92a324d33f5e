"""A picture as .png, for textures inside other files. Lossless, 8 bits, RGB."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from jaxtyping import UInt8

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB, DEPTH, UP = 2, 8, 2  # colour type, bits, and the filter that keeps differences from the row above


def encode_png(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Encode a picture; rows are stored as differences, which compress better than the rows themselves."""
    height, width = image.shape[:2]
    rows = image.reshape(height, width * 3)
    differences = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    filtered = np.concatenate([np.full((height, 1), UP, np.uint8), differences], axis=1)
    header = struct.pack(">IIBBBBB", width, height, DEPTH, RGB, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 9)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
