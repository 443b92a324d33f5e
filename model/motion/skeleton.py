"""What a motion needs to know of a body: its joints at rest, and where its soles are.

Axes: *B leading frames, J joints in SMPL's order (SMPL, SMPL-H and SMPL-X share the first 22), N surface points. Lengths are
metres. The rest pose is SMPL's: a T-pose, y up, facing +z, the left hand towards +x. Sides are 0 left, 1 right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.pose import BodyPose, posed_joints, rest_to_posed

PELVIS, SPINE1, SPINE2, SPINE3, NECK, HEAD = 0, 3, 6, 9, 12, 15
HIP, KNEE, ANKLE, BALL = (1, 2), (4, 5), (7, 8), (10, 11)  # left, right; SMPL calls the ball of the foot "foot"
COLLAR, SHOULDER, ELBOW, WRIST = (13, 14), (16, 17), (18, 19), (20, 21)
NUM_BODY_JOINTS = 22
NUM_SMPL_JOINTS = 24
SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
SMPL_JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle", "spine3",
    "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
SOLE_BAND = 0.03  # m above the lowest point of a foot: what stands on the floor
SOLE_QUANTILE = 0.01  # a single stray point is no sole


@dataclass(frozen=True)
class Soles:
    """The three points by which each foot touches the floor, in the rest pose, metres; rows are left and right.

    Attributes:
        heel, ball: move with the ankle.
        toe: moves with the toes.
    """

    heel: Float[Tensor, "2 3"]
    ball: Float[Tensor, "2 3"]
    toe: Float[Tensor, "2 3"]


@dataclass(frozen=True)
class Skeleton:
    """The bones of one body.

    Attributes:
        joints_rest: joint positions in the rest pose.
        parents: parent of each joint; -1 at the root.
        soles: what it stands on.
    """

    joints_rest: Float[Tensor, "J 3"]
    parents: Int[Tensor, "J"]
    soles: Soles

    @property
    def num_joints(self) -> int:
        return len(self.parents)

    @property
    def leg_length(self) -> float:
        """From hip over knee to ankle, the mean of both sides, metres."""
        at = self.joints_rest
        return sum(float((at[KNEE[s]] - at[HIP[s]]).norm() + (at[ANKLE[s]] - at[KNEE[s]]).norm()) for s in (0, 1)) / 2

    @property
    def floor_rest(self) -> float:
        """Height of the floor under the rest pose, metres."""
        return float(torch.cat([self.soles.heel, self.soles.ball, self.soles.toe])[:, 1].min())

    @property
    def standing_height(self) -> float:
        """Height of the pelvis above the floor when the legs are as at rest, metres."""
        return float(self.joints_rest[PELVIS, 1]) - self.floor_rest

    def transforms(self, pose: BodyPose) -> Float[Tensor, "*B J 4 4"]:
        """Skinning transforms: from the rest pose into the world. Differentiable in the pose."""
        return rest_to_posed(self.joints_rest.to(pose.transl), self.parents, pose)

    def joints(self, pose: BodyPose) -> Float[Tensor, "*B J 3"]:
        """Where the joints are, metres."""
        return posed_joints(self.joints_rest.to(pose.transl), self.transforms(pose))

    def sole_points(self, transforms: Float[Tensor, "*B J 4 4"]) -> Float[Tensor, "*B 2 3 3"]:
        """Heel, ball and toe of each foot under joint transforms, metres."""
        sides = []
        for side in (0, 1):
            moved = [
                transforms[..., joint, :3, :3] @ point[side].to(transforms) + transforms[..., joint, :3, 3]
                for joint, point in ((ANKLE[side], self.soles.heel), (ANKLE[side], self.soles.ball), (BALL[side], self.soles.toe))
            ]
            sides.append(torch.stack(moved, dim=-2))
        return torch.stack(sides, dim=-3)

    def to(self, dtype: torch.dtype) -> Skeleton:
        """The same bones in another floating type."""
        soles = Soles(*(getattr(self.soles, name).to(dtype) for name in ("heel", "ball", "toe")))
        return Skeleton(self.joints_rest.to(dtype), self.parents, soles)


def skeleton_with_surface(
    joints_rest: Float[Tensor, "J 3"],
    parents: Int[Tensor, "J"],
    points_rest: Float[Tensor, "N 3"],
    point_joints: Int[Tensor, "N"],
) -> Skeleton:
    """The skeleton of a body whose surface is known: soles are the lowest parts of its feet.

    Args:
        points_rest: surface points in the rest pose, shoes included where the surface has them.
        point_joints: the joint that moves each point most.
    """
    heel, ball, toe = [], [], []
    for side in (0, 1):
        foot = points_rest[(point_joints == ANKLE[side]) | (point_joints == BALL[side])]
        if len(foot) < 8:
            return skeleton_without_surface(joints_rest, parents)
        floor = foot[:, 1].quantile(SOLE_QUANTILE)
        sole = foot[foot[:, 1] < floor + SOLE_BAND]
        middle = sole[:, 0].median()
        ends = sole[:, 2].quantile(SOLE_QUANTILE), joints_rest[BALL[side], 2], sole[:, 2].quantile(1 - SOLE_QUANTILE)
        for points, along in zip((heel, ball, toe), ends, strict=True):
            points.append(torch.stack([middle, floor, along]))
    return Skeleton(joints_rest, parents, Soles(torch.stack(heel), torch.stack(ball), torch.stack(toe)))


def skeleton_without_surface(joints_rest: Float[Tensor, "J 3"], parents: Int[Tensor, "J"]) -> Skeleton:
    """The skeleton of a body of which only joints are known: soles by the proportions of a usual foot.

    With d the level distance from ankle to ball: the sole lies 0.3 d below the ball, the heel 0.42 d behind the ankle, the
    toes end 0.62 d before the ball (measured on the open body).
    """
    ankle, joint = joints_rest[list(ANKLE)], joints_rest[list(BALL)]
    ahead = (joint - ankle) * joint.new_tensor([1.0, 0, 1])
    length = ahead.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    floor = (joint[:, 1:2] - 0.3 * length).min()

    def on_floor(points: Tensor) -> Tensor:
        return torch.cat([points[:, :1], floor.expand(2, 1), points[:, 2:]], dim=1)

    return Skeleton(joints_rest, parents, Soles(on_floor(ankle - 0.42 * ahead), on_floor(joint), on_floor(joint + 0.62 * ahead)))
