"""What is shown of an avatar beyond its video: a walk around it, and a small motion of its own.

Both stand where the person of the track stands, so that light fixed in the world falls as it did there. Axes: F frames,
J joints (the root is joint 0). Lengths are metres, angles radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation
from torch import Tensor

from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.camera import Camera
from model.pose import BodyPose, track_pose

ROOM_AROUND = 1.12  # half the picture, as a multiple of the distance from the middle to the outermost point of the body
MOTION_FPS = 10.0
MOTION_SECONDS = 5.0

# Degrees over seconds. A march in place with swinging arms, the arms rise sideways, a bow of the knees, a wave.
MOTION_KEYS: dict[str, list[tuple[float, float]]] = {
    "left_hip": [(0, 0), (0.4, 48), (0.8, 0), (1.2, -6), (1.6, 0), (2.6, 0), (3.0, 46), (3.5, 0), (5, 0)],
    "right_hip": [(0, 0), (0.4, -6), (0.8, 0), (1.2, 48), (1.6, 0), (2.6, 0), (3.0, 46), (3.5, 0), (5, 0)],
    "left_knee": [(0, 4), (0.4, 66), (0.8, 4), (1.6, 4), (2.6, 4), (3.0, 76), (3.5, 4), (5, 4)],
    "right_knee": [(0, 4), (0.8, 4), (1.2, 66), (1.6, 4), (2.6, 4), (3.0, 76), (3.5, 4), (5, 4)],
    "ankles": [(0, 0), (2.6, 0), (3.0, 26), (3.5, 0), (5, 0)],
    "left_lower": [(0, 70), (1.5, 68), (2.1, -8), (2.4, -8), (3.0, 52), (3.5, 68), (5, 70)],
    "right_lower": [(0, 70), (1.5, 68), (2.1, -8), (2.4, -8), (3.0, 52), (3.5, 60), (3.8, -18), (4.6, -18), (5, 70)],
    "left_swing": [(0, 0), (0.4, -24), (0.8, 0), (1.2, 26), (1.6, 0), (2.6, 0), (3.0, 40), (3.5, 0), (5, 0)],
    "right_swing": [(0, 0), (0.4, 26), (0.8, 0), (1.2, -24), (1.6, 0), (2.6, 0), (3.0, 40), (3.5, 0), (5, 0)],
    "left_elbow": [(0, 16), (1.2, 30), (1.6, 12), (2.4, 6), (3.0, 30), (5, 16)],
    "right_elbow": [(0, 16), (0.4, 30), (1.6, 12), (2.4, 6), (3.5, 30), (3.8, 66), (4.0, 96), (4.2, 60), (4.4, 96), (4.6, 70), (5, 16)],
    "bend": [(0, 2), (1.6, 0), (2.2, -4), (3.0, 24), (3.5, 2), (5, 2)],
    "twist": [(0, 0), (0.4, -10), (0.8, 0), (1.2, 10), (1.6, 0), (3.5, 0), (4.2, 10), (5, 0)],
    "look": [(0, 0), (2.2, 0), (3.0, 0), (3.8, -12), (4.6, -12), (5, 0)],
}


@dataclass(frozen=True)
class Stand:
    """Where the person stands: what to look at, and from where the clip looked.

    Attributes:
        middle: between head and feet of the standing person.
        up: unit vector from the feet to the head.
        towards_camera: horizontal unit vector from the person to the clip's camera.
        distance: between the person and the clip's camera.
        reach: from the middle to the outermost point of the body.
    """

    middle: Float[Tensor, "3"]
    up: Float[Tensor, "3"]
    towards_camera: Float[Tensor, "3"]
    distance: float
    reach: float


def find_stand(track: BodyTrack, body: BodyModel, row: int) -> Stand:
    """Where the person of one row stands; up is where the torso points over the clip as a whole."""
    torso_up = Rotation.from_rotvec(track.global_orient.numpy()).apply([0.0, 1.0, 0.0])
    up = _unit(torch.from_numpy(np.median(torso_up, axis=0)).float())
    pose = track_pose(track, row)
    surface = body.pose(track.betas, pose.global_orient, pose.body_pose, pose.transl).vertices
    middle = (surface.amin(0) + surface.amax(0)) / 2
    towards = track.camera.eye - middle
    level = towards - (towards @ up) * up
    return Stand(middle, up, _unit(level), float(level.norm()), float((surface - middle).norm(dim=1).max()))


def look_from(stand: Stand, angle: float, size: int, *, reach: float | None = None) -> Camera:
    """A level camera at the clip's distance, `angle` rad around the person from the clip's own side, the person in full."""
    reach = ROOM_AROUND * (stand.reach if reach is None else reach)
    distance = max(stand.distance, 2.2 * reach)
    turn = Rotation.from_rotvec(stand.up.numpy() * angle).apply(stand.towards_camera.numpy())
    back = torch.from_numpy(turn).float()
    z, y = -back, -stand.up
    w2c = torch.eye(4)
    w2c[:3, :3] = torch.stack([torch.linalg.cross(y, z), y, z])
    w2c[:3, 3] = -w2c[:3, :3] @ (stand.middle + distance * back)
    focal = size / 2 * distance / reach
    return Camera(torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]), w2c, size, size)


def turntable(stand: Stand, count: int, size: int) -> list[Camera]:
    """Cameras evenly around the person."""
    return [look_from(stand, 2 * math.pi * i / count, size) for i in range(count)]


def sample_motion(track: BodyTrack, body: BodyModel, stand: Stand) -> BodyPose:
    """A built-in motion for any body with SMPL's joint names, on the spot, its lowest foot on one floor, facing the camera."""
    times = np.arange(0, MOTION_SECONDS, 1 / MOTION_FPS)
    keys = {name: np.deg2rad(PchipInterpolator(*np.array(points, dtype=float).T)(times)) for name, points in MOTION_KEYS.items()}

    def turned(**angles: np.ndarray) -> Rotation:
        """Rotations about named axes, applied from the left in the order given."""
        result = Rotation.identity(len(times))
        for axis, angle in angles.items():
            result = result * Rotation.from_rotvec(np.outer(angle, np.eye(3)["xyz".index(axis)]))
        return result

    joints = {name: turned(x=keys["bend"] / 3, y=keys["twist"] / 3) for name in ("spine1", "spine2", "spine3")}
    joints |= {name: turned(y=keys["look"] / 2) for name in ("neck", "head")}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        joints[f"{side}_hip"] = turned(z=np.full(len(times), 0.05 * sign), x=-keys[f"{side}_hip"])
        joints[f"{side}_knee"] = turned(x=keys[f"{side}_knee"])
        joints[f"{side}_ankle"] = turned(x=-keys["ankles"])
        joints[f"{side}_shoulder"] = turned(x=-keys[f"{side}_swing"], z=-sign * keys[f"{side}_lower"])
        joints[f"{side}_elbow"] = turned(y=-sign * keys[f"{side}_elbow"])
    body_pose = torch.zeros(len(times), body.num_joints - 1, 3)
    for name, rotation in joints.items():
        body_pose[:, body.joint_names.index(name) - 1] = torch.from_numpy(rotation.as_rotvec()).float()

    up, ahead = stand.up, stand.towards_camera
    facing = Rotation.from_matrix(torch.stack([torch.linalg.cross(up, ahead), up, ahead], dim=1).numpy()).as_rotvec()
    global_orient = torch.from_numpy(facing).float().expand(len(times), 3)
    posed = body.pose(track.betas, global_orient, body_pose, torch.zeros(len(times), 3))
    height = surface_height(posed.vertices, up)
    floor = stand.middle @ up - height[0] / 2
    lowest = (posed.vertices @ up).amin(dim=1)
    level = stand.middle - (stand.middle @ up) * up
    root = posed.joints[:, 0] - (posed.joints[:, 0] @ up)[:, None] * up
    return BodyPose(global_orient.contiguous(), body_pose, level - root + (floor - lowest)[:, None] * up)


def surface_height(vertices: Float[Tensor, "F V 3"], up: Float[Tensor, "3"]) -> Float[Tensor, "F"]:
    """From the lowest to the highest point of each frame, metres."""
    along = vertices @ up
    return along.amax(dim=1) - along.amin(dim=1)


def _unit(vector: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    return vector / vector.norm()
