"""Arms out of the body: a motion of a slimmer person, carried to a fuller one, would push hands into belly and thighs.

Trunk and thighs are stacks of ellipses, measured on the surface at rest, each moving with its joint. A point of an arm that
lies inside one is moved out along the line from the middle, by turning the arm about its shoulder; the turns are smoothed in
time. An arm that stays clear is left as it is.

Axes: F frames, E ellipses, P points of one arm, N surface points. Lengths are metres; sides are 0 left, 1 right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from model.fitting.rotations import rotation_between, rotation_from_vector, vector_from_rotation
from model.motion.motion import Motion
from model.motion.skeleton import COLLAR, ELBOW, HIP, KNEE, PELVIS, SHOULDER, SPINE1, SPINE2, SPINE3, WRIST, Skeleton
from model.pose import BodyPose

SLAB = 0.05  # m, height of one ellipse
ARMPIT = 0.12  # m below the shoulders: above it arms touch the trunk anyway
EDGE = 0.9  # quantile of the surface that an ellipse reaches to
FOREARM = 0.035  # m, half the thickness of a forearm and of a hand
SHARES = (0.35, 0.7, 1.0, 1.4)  # along the forearm from elbow to wrist, and on to the palm
SMOOTHING = 0.10  # s
ROUNDS = 3
MAX_TURN = 0.9  # rad; an arm that is farther inside is left to the motion


@dataclass(frozen=True)
class Girth:
    """How thick a body is.

    Attributes:
        joint: what moves each ellipse.
        low, high: its range of heights at rest, metres.
        middle: its centre (x, z) at rest, metres.
        half: its half axes along x and z, metres.
    """

    joint: Int[Tensor, "E"]
    low: Float[Tensor, "E"]
    high: Float[Tensor, "E"]
    middle: Float[Tensor, "E 2"]
    half: Float[Tensor, "E 2"]


def girth_of_surface(skeleton: Skeleton, points_rest: Float[Tensor, "N 3"], point_joints: Int[Tensor, "N"]) -> Girth:
    """Measure trunk and thighs on a surface in the rest pose."""
    at = skeleton.joints_rest
    top = float(at[list(SHOULDER), 1].mean()) - ARMPIT
    hips, knees = float(at[list(HIP), 1].mean()), float(at[list(KNEE), 1].mean())
    trunk = [(PELVIS, hips - 0.06, float(at[SPINE1, 1])), (SPINE1, float(at[SPINE1, 1]), float(at[SPINE2, 1]))]
    trunk += [(SPINE2, float(at[SPINE2, 1]), float(at[SPINE3, 1])), (SPINE3, float(at[SPINE3, 1]), top)]
    on_trunk = torch.isin(point_joints, torch.tensor([PELVIS, SPINE1, SPINE2, SPINE3, *HIP, *COLLAR]))
    rows = []
    for joint, low, high in trunk:
        rows += _slabs(joint, low, high, points_rest[on_trunk])
    for side in (0, 1):
        thigh = points_rest[(point_joints == HIP[side]) & (points_rest[:, 0] * (1 if side == 0 else -1) > 0)]
        rows += _slabs(HIP[side], knees + 0.1, hips - 0.06, thigh)
    joint, low, high, middle, half = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    empty = torch.zeros(0, 2)
    return Girth(
        torch.tensor(joint, dtype=torch.long), torch.tensor(low), torch.tensor(high), torch.stack(middle) if middle else empty,
        torch.stack(half) if half else empty,
    )  # fmt: skip


def clear_arms(motion: Motion, girth: Girth) -> Motion:
    """The motion with its arms outside the body."""
    pose, loops = motion.pose, motion.loops
    for _ in range(ROUNDS):
        for side in (0, 1):
            pose = _cleared(motion.skeleton, pose, girth, side, motion.fps, loops)
    return motion.with_pose(pose)


def depth_inside(skeleton: Skeleton, pose: BodyPose, girth: Girth, side: int) -> tuple[Float[Tensor, "F P 3"], Float[Tensor, "F P 3"]]:
    """Points of one arm, and the way out of the body for each (zero where it is outside), metres, world."""
    transforms = skeleton.transforms(pose)
    joints = skeleton.joints(pose)
    elbow, wrist = joints[:, ELBOW[side]], joints[:, WRIST[side]]
    shares = torch.tensor(SHARES)[:, None]
    points = elbow[:, None] + shares * (wrist - elbow)[:, None]
    turns, shifts = transforms[:, girth.joint, :3, :3], transforms[:, girth.joint, :3, 3]
    local = torch.einsum("feab,fpea->fpeb", turns, points[:, :, None] - shifts[:, None])  # in the rest pose of each ellipse's joint
    within = (local[..., 1] >= girth.low) & (local[..., 1] < girth.high)
    offset = local[..., [0, 2]] - girth.middle
    reach = (offset / (girth.half + FOREARM)).norm(dim=-1).clamp_min(0.05)
    out = torch.where((within & (reach < 1))[..., None], offset / reach[..., None] - offset, 0.0)
    deepest = out.norm(dim=-1).argmax(dim=-1)
    chosen = torch.take_along_dim(out, deepest[..., None, None], dim=2)[:, :, 0]
    turn = torch.take_along_dim(turns[:, None], deepest[..., None, None, None], dim=2)[:, :, 0]
    level = torch.stack([chosen[..., 0], torch.zeros_like(chosen[..., 0]), chosen[..., 1]], dim=-1)
    return points, (turn @ level[..., None])[..., 0]


def _cleared(skeleton: Skeleton, pose: BodyPose, girth: Girth, side: int, fps: float, loops: bool) -> BodyPose:
    if len(girth.joint) == 0:
        return pose
    points, way = depth_inside(skeleton, pose, girth, side)
    worst = way.norm(dim=-1).argmax(dim=1)
    rows = torch.arange(len(points))
    point, out = points[rows, worst], way[rows, worst]
    if not (out.norm(dim=-1) > 1e-4).any():
        return pose
    shoulder = skeleton.joints(pose)[:, SHOULDER[side]]
    turn = vector_from_rotation(rotation_between(point - shoulder, point + out - shoulder))
    angle = turn.norm(dim=-1, keepdim=True)
    turn = torch.where(angle > 1e-4, turn * (angle.clamp_max(MAX_TURN) / angle.clamp_min(1e-9)), 0.0)
    smooth = gaussian_filter1d(turn.double().numpy(), SMOOTHING * fps, axis=0, mode="wrap" if loops else "nearest")
    smooth = torch.from_numpy(smooth).to(turn)
    # a smoothed turn is too small where it peaks; there the turn itself is nearer to what is needed
    turn = torch.where(smooth.norm(dim=-1, keepdim=True) > turn.norm(dim=-1, keepdim=True), smooth, 0.5 * (smooth + turn))
    parent = skeleton.transforms(pose)[:, COLLAR[side], :3, :3]
    local = rotation_from_vector(pose.body_pose[:, SHOULDER[side] - 1])
    body_pose = pose.body_pose.clone()
    moved = vector_from_rotation(parent.mT @ rotation_from_vector(turn) @ parent @ local)
    body_pose[:, SHOULDER[side] - 1] = torch.where(turn.norm(dim=-1, keepdim=True) > 1e-5, moved, body_pose[:, SHOULDER[side] - 1])
    return BodyPose(pose.global_orient, body_pose, pose.transl)


def _slabs(joint: int, low: float, high: float, points: Float[Tensor, "N 3"]) -> list[tuple]:
    """Ellipses of a part between two heights."""
    rows = []
    count = max(1, round((high - low) / SLAB))
    for k in range(count if high > low else 0):
        bottom, top = low + (high - low) * k / count, low + (high - low) * (k + 1) / count
        slice_points = points[(points[:, 1] >= bottom) & (points[:, 1] < top)][:, [0, 2]]
        if len(slice_points) < 8:
            continue
        middle = (slice_points.quantile(1 - EDGE, dim=0) + slice_points.quantile(EDGE, dim=0)) / 2
        half = (slice_points - middle).abs().quantile(EDGE, dim=0)
        rows.append((joint, bottom, top, middle, half))
    return rows
