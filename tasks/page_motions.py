"""What the page plays: the clip's own motion, one for trying out, and standing still.

All of them stand where the person of the clip stands, so that the light of the room falls as it did there. Axes: F frames,
J joints (the root is joint 0). Lengths are metres, angles radians (axis-angle), times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.pose import BodyPose, track_pose
from tasks.showcase import MOTION_FPS, Stand, find_stand, sample_motion, surface_height


@dataclass(frozen=True)
class PageMotion:
    """One motion to play.

    Attributes:
        name: what the page's address calls it.
        title, about: what a reader sees on its button, and beneath.
        times: when each row is due; the first is 0.
        pose: one row a time.
        repeats: whether the last row leads back to the first.
        filmed: whether the rows are the video's frames.
    """

    name: str
    title: str
    about: str
    times: Float[np.ndarray, "F"]
    pose: BodyPose
    repeats: bool
    filmed: bool


@dataclass(frozen=True)
class Ground:
    """Where the page's axes start, in the world of the track.

    Attributes:
        origin: on the floor, under where the person mostly is.
        up, ahead: unit vectors: to the head, and level from the person to the video's camera.
        height: of the standing person.
    """

    origin: Float[Tensor, "3"]
    up: Float[Tensor, "3"]
    ahead: Float[Tensor, "3"]
    height: float


def find_ground(track: BodyTrack, body: BodyModel) -> tuple[Ground, Stand]:
    """The floor that the feet of the clip stand on, and the stand of its first frame."""
    stand = find_stand(track, body, 0)
    pose = track_pose(track)
    posed = body.pose(track.betas, pose.global_orient, pose.body_pose, pose.transl)
    floor = (posed.vertices @ stand.up).amin(dim=1).median()
    root = posed.joints[:, 0].median(dim=0).values
    origin = root + (floor - root @ stand.up) * stand.up
    height = float(surface_height(body.rest(track.betas)[0][None], torch.tensor([0.0, 1.0, 0.0]))[0])
    return Ground(origin, stand.up, stand.towards_camera, height), stand


def clip_motion(track: BodyTrack, times: Float[np.ndarray, "F"]) -> PageMotion:
    """The clip's own motion, as it was refined while training."""
    return PageMotion(
        "clip", "as filmed", "The motion of the video, beside the video.", times - times[0], track_pose(track), repeats=False, filmed=True
    )


def built_in_motions(track: BodyTrack, body: BodyModel, stand: Stand, ground: Ground) -> list[PageMotion]:
    """Motions that the video does not contain, for any body with SMPL's joint names."""
    exercise = on_ground(sample_motion(track, body, stand), track, body, ground)
    times = np.arange(len(exercise.transl)) / MOTION_FPS
    still = on_ground(rest_pose(body, ground), track, body, ground)
    return [
        PageMotion("exercise", "exercise", "Marching, arms up, a crouch, a wave: not in the video.", times, exercise, repeats=True, filmed=False),
        PageMotion("still", "stand still", "Arms out, to be posed by the sliders below.", np.zeros(1), still, repeats=False, filmed=False),
    ]


def rest_pose(body: BodyModel, ground: Ground) -> BodyPose:
    """The body model's rest pose, facing the video's camera; one frame."""
    facing = torch.stack([torch.linalg.cross(ground.up, ground.ahead), ground.up, ground.ahead], dim=1)
    orient = torch.from_numpy(Rotation.from_matrix(facing.numpy()).as_rotvec()).float()
    return BodyPose(orient[None], torch.zeros(1, body.num_joints - 1, 3), torch.zeros(1, 3))


def on_ground(pose: BodyPose, track: BodyTrack, body: BodyModel, ground: Ground) -> BodyPose:
    """The same motion with its lowest point on the ground and its first frame at the origin."""
    posed = body.pose(track.betas, pose.global_orient, pose.body_pose, pose.transl)
    lowest = (posed.vertices @ ground.up).amin()
    away = ground.origin - posed.joints[0, 0]
    level = away - (away @ ground.up) * ground.up
    return replace(pose, transl=pose.transl + level + (ground.origin @ ground.up - lowest) * ground.up)
