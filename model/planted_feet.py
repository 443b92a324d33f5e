"""Feet that rest: what stays where it is while a body moves above it, and holds the body's depth.

A single camera hardly sees how far away somebody is, and poses that are found through the renderer drift where the picture shows least:
in a crouch feet that never left the floor slid by three centimetres. Which feet rest, and when, is read off the fitted motion.

Axes: F rows of a track, P points (ankle and ball, left and right), K rests. Lengths are metres.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.body.track import BodyTrack
from model.pose import BodyPose, posed_joints, rest_to_posed, track_pose

FEET = ((7, 10), (8, 11))  # ankle and ball of the left and the right foot, SMPL's joints
SLOW = 0.12  # m/s at which a foot moves that rests; a step goes at one and more
SHORTEST = 0.25  # s that a rest takes at least


class PlantedFeet:
    """The rests of a track's feet, and how far its poses let them slide."""

    def __init__(self, track: BodyTrack, joints_rest: Float[Tensor, "J 3"], parents: Int[Tensor, "J"]) -> None:
        self.joints_rest, self.parents = joints_rest, parents
        self.rest_of = find_rests(self.points(track_pose(track)), track.row_times)
        self.num_rests = int(self.rest_of.max()) + 1 if self.rest_of.numel() else 0

    def points(self, pose: BodyPose) -> Float[Tensor, "*B P 3"]:
        """Ankles and balls in the world. Differentiable in the pose."""
        joints = posed_joints(self.joints_rest, rest_to_posed(self.joints_rest, self.parents, pose))
        return joints[..., [joint for foot in FEET for joint in foot], :]

    @torch.no_grad()
    def places(self, pose: BodyPose) -> Float[Tensor, "K P/2 3"]:
        """Where the points of each rest lie in the mean over its rows; `pose` is that of all rows."""
        points = self.points(pose).unflatten(1, (2, -1)).flatten(0, 1)
        rest = self.rest_of.flatten()
        sums = points.new_zeros(self.num_rests, *points.shape[1:]).index_add_(0, rest[rest >= 0], points[rest >= 0])
        return sums / torch.bincount(rest[rest >= 0], minlength=self.num_rests)[:, None, None]

    def slide(self, pose: BodyPose, rows: Int[Tensor, "B"], places: Float[Tensor, "K P/2 3"]) -> Float[Tensor, ""]:
        """Mean squared distance of resting points from their places in some rows, m^2. Differentiable in the pose."""
        rest = self.rest_of[rows]
        points = self.points(pose).unflatten(1, (2, -1))
        if not self.num_rests:
            return points.sum() * 0
        away = (points - places[rest.clamp_min(0)]).square().sum(-1).mean(-1)
        return (away * (rest >= 0)).mean()


def find_rests(points: Float[Tensor, "F P 3"], times: Float[Tensor, "F"]) -> Int[Tensor, "F 2"]:
    """The number of the rest that each foot is in, -1 while it moves.

    Args:
        times: s.
    """
    rests, count = torch.full((len(points), 2), -1, dtype=torch.long), 0
    if len(points) < 2:
        return rests
    speed = (points[1:] - points[:-1]).norm(dim=-1) / (times[1:] - times[:-1]).clamp_min(1e-6)[:, None]
    for foot in range(2):
        still = (speed.unflatten(1, (2, -1))[:, foot].amax(-1) < SLOW).tolist()
        start = None
        for gap, holds in enumerate([*still, False]):
            if holds and start is None:
                start = gap
            elif not holds and start is not None:
                if times[gap] - times[start] >= SHORTEST:
                    rests[start : gap + 1, foot] = count
                    count += 1
                start = None
    return rests
