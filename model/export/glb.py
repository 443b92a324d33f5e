"""glTF 2.0 in its binary form: one JSON and one block of bytes. What both glTF exports share.

Axes: glTF's are the stage's (y up, right-handed, metres, a model's front towards +z): nothing turns.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field

import numpy as np

MAGIC, VERSION = 0x46546C67, 2
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942
COMPONENT_TYPES = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
KINDS = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
VERTEX_DATA, INDEX_DATA = 34962, 34963  # targets of buffer views


@dataclass
class GlbWriter:
    """Collects arrays and what points to them.

    Attributes:
        document: the JSON part; its lists of accessors and buffer views are filled by the methods.
        binary: the bytes so far.
    """

    document: dict = field(default_factory=dict)
    binary: bytearray = field(default_factory=bytearray)

    def accessor(self, values: np.ndarray, *, target: int | None = None, bounds: bool = False, normalized: bool = False) -> int:
        """Append an array ([N], [N, 2..4] or [N, 4, 4], matrices by rows as usual) and return its accessor's number.

        Args:
            target: VERTEX_DATA or INDEX_DATA; None for animations and skins.
            bounds: also state the smallest and largest values, as glTF asks of positions and key times.
            normalized: integers stand for 0..1.
        """
        if values.ndim == 3:
            values = values.transpose(0, 2, 1)  # glTF stores matrices by columns
        values = np.ascontiguousarray(values)
        record = {
            "bufferView": self.view(values.tobytes(), target=target),
            "componentType": COMPONENT_TYPES[values.dtype.name],
            "count": len(values),
            "type": KINDS[values.shape[1:]],
        }
        if normalized:
            record["normalized"] = True
        if bounds:
            low, high = (np.atleast_1d(edge(values, axis=0)) for edge in (np.min, np.max))
            record |= {"min": [float(v) for v in low], "max": [float(v) for v in high]}
        return self._add("accessors", record)

    def view(self, data: bytes, *, target: int | None = None) -> int:
        """Append bytes, aligned to 4, and return the number of their buffer view."""
        record = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        if target is not None:
            record["target"] = target
        self.binary += data + bytes(-len(data) % 4)
        return self._add("bufferViews", record)

    def to_bytes(self) -> bytes:
        """The finished file."""
        asset = {"version": "2.0", "generator": "gaussian-avatar"}
        document = {"asset": asset, **self.document, "buffers": [{"byteLength": len(self.binary)}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), JSON_CHUNK) + text + struct.pack("<II", len(self.binary), BINARY_CHUNK) + self.binary
        return struct.pack("<III", MAGIC, VERSION, 12 + len(chunks)) + chunks

    def _add(self, name: str, record: dict) -> int:
        entries = self.document.setdefault(name, [])
        entries.append(record)
        return len(entries) - 1
