"""Biovision's BVH as it is written: a tree of joints with offsets and channels, and a table of their values.

    HIERARCHY            ROOT and JOINT blocks: OFFSET x y z, CHANNELS n names...; End Site blocks close a chain
    MOTION               Frames: F, Frame Time: seconds, then F rows of numbers in the order of the channels

Rotations are degrees and compose in the order in which their channels stand: R = R_1 R_2 R_3. Position channels take the
place of the offset. Lengths are in the file's own unit.

Axes: F frames, N joints of the file, C channels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from model.motion.motion import MotionError

MAX_JOINTS = 2000
MAX_BYTES = 512 * 2**20
CHANNELS = {f"{axis}{kind}".lower(): (axis.lower(), kind) for axis in "XYZ" for kind in ("position", "rotation")}


@dataclass(frozen=True)
class BvhFile:
    """A parsed file.

    Attributes:
        names: of joints, parents before children; End Sites are called "<parent>/end".
        parents: -1 at the root.
        offsets: from the parent in the rest pose, file units.
        channels: of each joint, in the order of the file.
        values: one row a frame.
        frame_seconds: time between frames.
    """

    names: list[str]
    parents: list[int]
    offsets: Float[np.ndarray, "N 3"]
    channels: list[list[str]]
    values: Float[np.ndarray, "F C"]
    frame_seconds: float

    @property
    def rest(self) -> Float[np.ndarray, "N 3"]:
        """Where the joints are when all turns are zero."""
        places = np.array(self.offsets)
        for j, parent in enumerate(self.parents):
            if parent >= 0:
                places[j] += places[parent]
        return places

    def posed(self) -> tuple[Float[np.ndarray, "F N 3 3"], Float[np.ndarray, "F N 3"]]:
        """World rotation and place of each joint in each frame."""
        frames, count = len(self.values), len(self.names)
        turns, places = np.empty((frames, count, 3, 3)), np.empty((frames, count, 3))
        column = 0
        for j, parent in enumerate(self.parents):
            names = self.channels[j]
            columns = self.values[:, column : column + len(names)]
            column += len(names)
            offset, turn = np.tile(self.offsets[j], (frames, 1)), Rotation.identity(frames)
            for name, value in zip(names, columns.T, strict=True):
                axis, kind = CHANNELS[name]
                if kind == "position":
                    offset[:, "xyz".index(axis)] = value
                else:
                    turn = turn * Rotation.from_euler(axis, value[:, None], degrees=True)
            if parent < 0:
                turns[:, j], places[:, j] = turn.as_matrix(), offset
            else:
                turns[:, j] = turns[:, parent] @ turn.as_matrix()
                places[:, j] = places[:, parent] + np.einsum("fab,fb->fa", turns[:, parent], offset)
        return turns, places


def parse_bvh(path: Path) -> BvhFile:
    """Read a file.

    Raises:
        MotionError: it is no BVH, or is cut off; the message names the line or what is missing.
    """
    if path.stat().st_size > MAX_BYTES:
        raise MotionError(f"{path} is {path.stat().st_size / 1e6:.0f} MB; expected a BVH of at most {MAX_BYTES / 1e6:.0f} MB")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    parts = re.split(r"^\s*MOTION\b", text, maxsplit=1, flags=re.IGNORECASE | re.MULTILINE)
    if len(parts) != 2:
        raise MotionError(f"{path}: expected a line MOTION after the hierarchy, found none; the file is cut off")
    names, parents, offsets, channels = _hierarchy(parts[0], path)
    frames, seconds, numbers = _table(parts[1], path)
    columns = sum(len(c) for c in channels)
    if columns == 0 or frames < 1:
        raise MotionError(f"{path}: expected frames of joint angles, came {frames} frames of {columns} channels")
    if len(numbers) != frames * columns:
        raise MotionError(f"{path}: expected {frames} frames of {columns} numbers ({frames * columns}), came {len(numbers)}; the file is cut off or its header is wrong")
    return BvhFile(names, parents, np.array(offsets), channels, numbers.reshape(frames, columns), seconds)


def _hierarchy(head: str, path: Path) -> tuple[list[str], list[int], list[list[float]], list[list[str]]]:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    open_joints: list[int] = []
    coming: str | None = None
    for number, line in enumerate(head.splitlines(), start=1):
        words = line.split()
        while words:
            word, words = words[0], words[1:]
            key = word.upper()
            if key == "HIERARCHY":
                continue
            if key in ("ROOT", "JOINT"):
                if key == "ROOT" and names:
                    raise MotionError(f"{path}, line {number}: expected one ROOT, came a second one; split the file")
                coming, words = " ".join(words).rstrip("{ ") or f"joint{len(names)}", ["{"] if words and words[-1].endswith("{") else []
            elif key == "END":
                coming, words = f"{names[open_joints[-1]] if open_joints else ''}/end", [w for w in words if w == "{"]
            elif word == "{":
                if coming is None or len(names) >= MAX_JOINTS:
                    raise MotionError(f"{path}, line {number}: expected a joint's name before {{ (and at most {MAX_JOINTS} joints)")
                names.append(coming)
                parents.append(open_joints[-1] if open_joints else -1)
                offsets.append([0.0, 0.0, 0.0])
                channels.append([])
                open_joints.append(len(names) - 1)
                coming = None
            elif word == "}":
                if not open_joints:
                    raise MotionError(f"{path}, line {number}: a }} without its {{")
                open_joints.pop()
            elif key == "OFFSET" and open_joints:
                if len(words) < 3:
                    raise MotionError(f"{path}, line {number}: expected OFFSET x y z, came {' '.join([word, *words])!r}")
                offsets[open_joints[-1]], words = _numbers(words[:3], path, number), words[3:]
            elif key == "CHANNELS" and open_joints:
                count = int(_numbers(words[:1], path, number)[0]) if words else 0
                wanted = [w.lower() for w in words[1 : 1 + count]]
                if len(wanted) != count or any(w not in CHANNELS for w in wanted):
                    raise MotionError(f"{path}, line {number}: expected {count} channels such as Xposition or Zrotation, came {' '.join(words[1:])!r}")
                channels[open_joints[-1]], words = wanted, words[1 + count :]
            else:
                raise MotionError(f"{path}, line {number}: expected ROOT, JOINT, End Site, OFFSET, CHANNELS or a bracket, came {word!r}")
    if open_joints or not names:
        raise MotionError(f"{path}: the hierarchy is cut off: {len(open_joints)} blocks are not closed" if names else f"{path}: expected ROOT in the hierarchy, found none")
    return names, parents, offsets, channels


def _numbers(words: list[str], path: Path, number: int) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = [np.nan]
    if not np.isfinite(values).all() or not values:
        raise MotionError(f"{path}, line {number}: expected numbers, came {' '.join(words)!r}")
    return values


def _table(tail: str, path: Path) -> tuple[int, float, Float[np.ndarray, "N"]]:
    header = re.match(r"\s*Frames\s*:?\s*(\d+)\s+Frame\s+Time\s*:?\s*([-+\d.eE]+)", tail, flags=re.IGNORECASE)
    if not header:
        raise MotionError(f"{path}: expected 'Frames: <count>' and 'Frame Time: <seconds>' after MOTION, came {tail[:40].strip()!r}")
    try:
        seconds = float(header.group(2))
        numbers = np.array(tail[header.end() :].split(), dtype=np.float64)
    except ValueError as error:
        raise MotionError(f"{path}: expected rows of numbers after Frame Time: {error}") from None
    if not 1e-4 < seconds < 10:
        raise MotionError(f"{path}: expected a Frame Time in seconds, e.g. 0.0333333, came {seconds}")
    if not np.isfinite(numbers).all():
        raise MotionError(f"{path}: its table holds numbers that are not finite")
    return int(header.group(1)), seconds, numbers
