"""Where a camera stands while a motion plays: still, around the person, to and fro, or along given places.

A camera looks at a target from a distance, at an azimuth (degrees from the motion's front, positive towards the person's
left) and an elevation (degrees above the horizon). World of a motion: y up, floor at y = 0, metres; camera axes are
OpenCV's (x right, y down, z forward).

Axes: F frames.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from model.camera import Camera
from model.motion.motion import Motion, MotionError

STILL_VIEWS = {"front": 0.0, "left": 90.0, "back": 180.0, "right": -90.0, "three-quarter": 32.0}
PATHS = ("turntable", "orbit", *STILL_VIEWS)
ROOM = 0.16  # m around the outermost joints: hair, hands, shoes
MARGIN = 1.08  # of the picture around that
ORBIT_SWING, ORBIT_LIFT = 40.0, 9.0  # degrees to each side, and up and down
ELEVATION = 6.0  # degrees, where nothing is said
FIELD = 28.0  # degrees, the vertical field of view where nothing is said: a mild telephoto lens
FOLLOWING = 0.5  # s, over which a camera that follows lags and leads
KEY_NAMES = ("time", "azimuth", "elevation", "distance", "target", "field")


@dataclass(frozen=True)
class CameraPath:
    """A camera for each frame.

    Attributes:
        azimuth, elevation: degrees.
        distance: metres from the target.
        target: what is in the middle of the picture, metres.
        field: vertical field of view, degrees.
    """

    azimuth: Float[np.ndarray, "F"]
    elevation: Float[np.ndarray, "F"]
    distance: Float[np.ndarray, "F"]
    target: Float[np.ndarray, "F 3"]
    field: Float[np.ndarray, "F"]

    def camera(self, row: int, width: int, height: int) -> Camera:
        """The camera of one frame, in the motion's world."""
        away = view_direction(self.azimuth[row], self.elevation[row])
        z = -away
        x = np.cross(z, [0.0, 1.0, 0.0])
        x /= np.linalg.norm(x)
        w2c = np.eye(4)
        w2c[:3, :3] = np.stack([x, np.cross(z, x), z])
        w2c[:3, 3] = -w2c[:3, :3] @ (self.target[row] + self.distance[row] * away)
        focal = height / 2 / math.tan(math.radians(self.field[row]) / 2)
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return Camera(K, torch.from_numpy(w2c).float(), width, height)


def camera_path(name: str, motion: Motion, *, aspect: float, turns: float = 1.0, follow: bool = False) -> CameraPath:
    """A path by name: `turntable` goes round once, `orbit` to and fro, the others stand still.

    Args:
        aspect: width / height of the picture; the whole motion fits into it.
        turns: how often a turntable goes round while the motion plays.
        follow: keep the person in the middle instead of the place where the motion happens.

    Raises:
        MotionError: no such path.
    """
    if name not in PATHS:
        raise MotionError(f"expected a camera path {', '.join(PATHS)}, or a .json file of keys, came {name!r}")
    count = motion.num_frames
    share = np.arange(count) / count
    azimuth, elevation = np.full(count, STILL_VIEWS.get(name, 0.0)), np.full(count, ELEVATION)
    if name == "turntable":
        azimuth = 360.0 * turns * share
    elif name == "orbit":
        azimuth = ORBIT_SWING * np.sin(2 * np.pi * turns * share)
        elevation = ELEVATION + ORBIT_LIFT * np.sin(2 * np.pi * turns * share + np.pi / 3)
    target = targets_of(motion, follow=follow)
    distance = distance_that_fits(motion, target, azimuth, elevation, aspect=aspect)
    return CameraPath(azimuth, elevation, np.full(count, distance), target, np.full(count, FIELD))


def targets_of(motion: Motion, *, follow: bool) -> Float[np.ndarray, "F 3"]:
    """What to look at in each frame: the middle of the whole motion, or over the ground that the person is on."""
    joints = motion.joints.double().numpy()
    target = np.tile((joints.min(axis=(0, 1)) + joints.max(axis=(0, 1))) / 2, (len(joints), 1))
    if follow:
        mode = "wrap" if motion.loops else "nearest"
        root = gaussian_filter1d(joints[:, 0], FOLLOWING * motion.fps, axis=0, mode=mode)
        target[:, [0, 2]] = root[:, [0, 2]]
    return target


def distance_that_fits(
    motion: Motion, target: Float[np.ndarray, "F 3"], azimuth: Float[np.ndarray, "F"], elevation: Float[np.ndarray, "F"], *, aspect: float
) -> float:
    """The one distance from which every frame's joints, with room around them, lie in the picture.

    A point at (x, y) beside the line of sight and z before the target is in the picture when |x| <= (d - z) t aspect and
    |y| <= (d - z) t, with t the tangent of half the field of view.
    """
    away = view_direction(azimuth, elevation)
    right = np.cross(-away, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(right, -away)
    offsets = motion.joints.double().numpy() - target[:, None]
    x, y, z = (np.einsum("fja,fa->fj", offsets, axis) for axis in (right, up, away))
    half = math.tan(math.radians(FIELD) / 2) / MARGIN
    return float((z + np.maximum((np.abs(y) + ROOM) / half, (np.abs(x) + ROOM) / (half * aspect))).max())


def view_direction(azimuth: Float[np.ndarray, "*B"], elevation: Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B 3"]:
    """Unit vectors from the target to the camera."""
    turn, rise = np.deg2rad(azimuth), np.deg2rad(np.clip(elevation, -89, 89))
    return np.stack([np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)], axis=-1)


def read_camera_path(path: Path, motion: Motion, *, aspect: float, follow: bool = False) -> CameraPath:
    """A path from a file: a list of keys, joined smoothly.

        [{"time": 0, "azimuth": 0}, {"time": 2, "azimuth": 90, "elevation": 30, "distance": 3.0, "target": [0, 1, 0], "field": 28}]

    Times are seconds; what a key leaves out stays as in the key before, at first as for a camera in front.

    Raises:
        MotionError: the file is missing, no JSON, or its keys are no such keys.
    """
    example = 'expected a list of keys such as [{"time": 0, "azimuth": 0}, {"time": 2, "azimuth": 90, "elevation": 30}]'
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise MotionError(f"camera path {path}: {example}; {error}") from error
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) and set(key) <= set(KEY_NAMES) and "time" in key for key in keys):
        raise MotionError(f"camera path {path}: {example}, with {', '.join(KEY_NAMES)}; came {str(keys)[:120]}")
    front = camera_path("front", motion, aspect=aspect, follow=follow)
    now = {"azimuth": 0.0, "elevation": ELEVATION, "distance": front.distance[0], "target": front.target.mean(axis=0), "field": FIELD}
    rows = []
    for key in keys:
        try:
            now = now | {name: np.asarray(value, dtype=np.float64) for name, value in key.items()}
            row = np.concatenate([np.atleast_1d(now[name]) for name in KEY_NAMES])
        except (TypeError, ValueError) as error:
            raise MotionError(f"camera path {path}: expected numbers, came {key}: {error}") from error
        if row.shape != (8,) or not np.isfinite(row).all() or now["distance"] <= 0 or not 1 < now["field"] < 150:
            raise MotionError(f"camera path {path}: expected finite numbers, distance above 0, field between 1 and 150 and target as [x, y, z], came {key}")
        rows.append(row)
    table = np.array(rows)
    if (np.diff(table[:, 0]) <= 0).any():
        raise MotionError(f"camera path {path}: expected times that rise, came {table[:, 0].tolist()}")
    times = np.clip(np.arange(motion.num_frames) / motion.fps, table[0, 0], table[-1, 0])
    at = PchipInterpolator(table[:, 0], table[:, 1:])(times) if len(table) > 1 else np.tile(table[0, 1:], (motion.num_frames, 1))
    target_given = any("target" in key for key in keys)
    path_found = CameraPath(at[:, 0], at[:, 1], at[:, 2], at[:, 3:6], at[:, 6])
    return path_found if target_given or not follow else replace(path_found, target=front.target)
