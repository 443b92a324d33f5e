"""Where a motion's world lies in an avatar's world, and the bones that an avatar has.

An avatar lives in the world of the clip that it was trained on, usually the camera's axes (y down), and light fixed in that
world is part of it. So a motion is carried there: its floor under the person's feet, its front towards the clip's camera.

Axes: F frames, J joints. Lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.avatar import Avatar
from model.body.track import BodyTrack
from model.fitting.rotations import rotation_from_vector, unit
from model.motion.clearance import Girth, girth_of_surface
from model.motion.motion import Motion, MotionError, carried, evened
from model.motion.skeleton import NUM_BODY_JOINTS, Skeleton, skeleton_with_surface
from model.pose import BodyPose, track_pose

FLOOR_QUANTILE = 0.2  # of the heights of the lower foot over a clip: some frames may be fitted too low, some jump


@dataclass(frozen=True)
class Placement:
    """Carries a motion's world (y up, floor at 0) into an avatar's: X = turn x + shift.

    Attributes:
        turn: rotation; its columns are the motion's axes in the avatar's world.
        shift: where the motion's origin lies, metres.
    """

    turn: Float[Tensor, "3 3"]
    shift: Float[Tensor, "3"]

    @property
    def up(self) -> Float[Tensor, "3"]:
        """Up, in the avatar's world."""
        return self.turn[:, 1]

    def carry(self, motion: Motion, rows: slice | Tensor = slice(None)) -> BodyPose:
        """Poses of a motion in the avatar's world."""
        return carried(motion.pose[rows], motion.skeleton, self.turn, self.shift)

    def carry_camera(self, w2c: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        """A camera that stands in the motion's world, seen from the avatar's."""
        there_to_here = torch.eye(4, dtype=torch.float64)
        there_to_here[:3, :3] = self.turn.double().T
        there_to_here[:3, 3] = -self.turn.double().T @ self.shift.double()
        return (w2c.double() @ there_to_here).to(w2c)


def camera_axes() -> Placement:
    """For an avatar of which no track is known: OpenCV axes, the person facing the camera at the origin of both worlds."""
    return Placement(torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.zeros(3))


def placement_of_track(track: BodyTrack, skeleton: Skeleton) -> Placement:
    """Where the person of a clip stood: up is where the torso points over the clip as a whole, the floor is under the feet,
    the front looks to the camera."""
    pose = track_pose(track)
    up = unit(rotation_from_vector(track.global_orient)[..., 1].median(dim=0).values)
    transforms = skeleton.transforms(pose)
    lowest = (skeleton.sole_points(transforms) @ up).amin(dim=(1, 2))
    root = skeleton.joints(pose)[:, 0].median(dim=0).values
    floor = lowest.quantile(FLOOR_QUANTILE)
    shift = root + (floor - root @ up) * up
    eye = track.camera.eye
    towards = eye - root
    ahead = unit(towards - (towards @ up) * up)
    return Placement(torch.stack([torch.linalg.cross(up, ahead), up, ahead], dim=1), shift)


def motion_of_track(name: str, track: BodyTrack, placement: Placement, skeleton: Skeleton, *, fallback_fps: float) -> Motion:
    """What the person of a clip did, as a motion: y up, at an even rate.

    Args:
        fallback_fps: of a track that does not know its own.
    """
    turn, shift = placement.turn, placement.shift
    pose = carried(track_pose(track), skeleton, turn.T, -(turn.T @ shift))
    fps = float(track.fps) if track.fps > 0 else fallback_fps
    return evened(Motion(name, pose.global_orient, pose.body_pose, pose.transl, fps, False, skeleton), track.times)


@torch.no_grad()
def girth_of_avatar(avatar: Avatar) -> Girth:
    """How thick the avatar is, clothes included."""
    return girth_of_surface(skeleton_of_avatar(avatar), avatar.bake().means_rest, _heaviest_joints(avatar))


@torch.no_grad()
def skeleton_of_avatar(avatar: Avatar) -> Skeleton:
    """The avatar's bones; its soles are those of the shoes it wears.

    Raises:
        MotionError: the avatar has fewer joints than a person.
    """
    if len(avatar.atlas_parents) < NUM_BODY_JOINTS:
        raise MotionError(f"expected an avatar with SMPL's {NUM_BODY_JOINTS} body joints, came one with {len(avatar.atlas_parents)}")
    surface = avatar.bake().means_rest
    return skeleton_with_surface(avatar.atlas_joints_rest, avatar.atlas_parents, surface, _heaviest_joints(avatar))


def _heaviest_joints(avatar: Avatar) -> Int[Tensor, "N"]:
    """The joint that moves each point most."""
    return avatar.atlas_skin_joints.gather(1, avatar.atlas_skin_weights.argmax(dim=1, keepdim=True))[:, 0]
