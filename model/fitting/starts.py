"""Where the fit starts: the side of depth that each limb lies on is decided here, since no later step can change it.

Axes: F frames, K ways (hypotheses), 33 landmarks, J joints. A picture says nothing of the sign of a bone's slope in depth.
So for each limb several ways to stand are tried in every frame (as it is, upper bone mirrored in depth, lower bone mirrored,
both, and as the world landmarks say), each is settled by itself, and a dynamic program over time picks the cheapest path:
how well it fits, how likely the pose is, how far the limb would have to jump.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.fitting import terms
from model.fitting.kinematics import place, pose_skeleton
from model.fitting.objective import BodyFitProblem, FitBody, Spreads, direction_shares, landmark_shares
from model.fitting.observations import BONES, FitState, Observations, bone_mixtures
from model.fitting.rotations import rotation_between, unit, vector_from_rotation
from model.fitting.solver import minimise_each_frame

SETTLING_STEPS = 8  # of each hypothesis in each frame
SETTLED_AT_ONCE = 200  # frames whose Jacobians are held at a time
LIMB_SPEED = 2.0  # m/s, usual speed of a limb's joints beside the root
MAX_JUMP = 6.0  # cost at which a jump counts as a cut and costs no more
TORSO_RADIUS = (0.15, 0.10)  # m, half width and half depth of a trunk that arms do not enter
TORSO_DEPTH_SPREAD = 0.04  # m inside the trunk that cost one standard deviation
STRAIGHT = 0.25  # sine of the bend below which a limb does not say where its hinge is


@dataclass(frozen=True)
class Limb:
    """Two bones and a hinge.

    Attributes:
        joints: of the upper bone, of the hinge, at the end.
        hinge: axis about which the limb bends, rest pose.
        bones: rows of BONES of the upper and the lower bone.
        landmarks: that speak of it. turned: rows of body_pose that belong to it.
    """

    joints: tuple[int, int, int]
    hinge: tuple[float, float, float]
    bones: tuple[int, int]
    landmarks: tuple[int, ...]
    turned: tuple[int, ...]


LIMBS = (
    Limb((16, 18, 20), (0.0, -1.0, 0.0), (3, 4), (13, 15, 17, 19, 21), (12, 15, 17, 19)),
    Limb((17, 19, 21), (0.0, 1.0, 0.0), (5, 6), (14, 16, 18, 20, 22), (13, 16, 18, 20)),
    Limb((1, 4, 7), (1.0, 0.0, 0.0), (7, 8), (25, 27, 29, 31), (0, 3, 6)),
    Limb((2, 5, 8), (1.0, 0.0, 0.0), (9, 10), (26, 28, 30, 32), (1, 4, 7)),
)


def upright_start(body: FitBody, seen: Observations) -> FitState:
    """Everybody stands at rest, upright, turned as hips and shoulders of the world landmarks say, at a plausible distance."""
    F, dtype = len(seen.times), seen.points.dtype
    left = seen.directions[:, 0] + seen.directions[:, 1]  # rows of BONES: right to left hip, right to left shoulder
    yaw = torch.atan2(left[:, 2], left[:, 0])
    yaw = _fill(yaw, seen.seen)
    num_betas = body.skeleton.joints_by_beta.shape[-1]
    rest_height = float(body.surface.vertices[:, 1].max() - body.surface.vertices[:, 1].min())
    depth = seen.focal_px * rest_height / (1.05 * seen.height_px)  # landmarks end below the crown
    hips = seen.points[:, [23, 24]].mean(1)
    hips = torch.stack([_fill_linear(hips[:, k], seen.seen, seen.times) for k in range(2)], -1)
    place_ = torch.cat([(hips - torch.tensor(seen.principal, dtype=dtype)) / seen.focal_px * depth, torch.full((F, 1), depth, dtype=dtype)], -1)
    return FitState(
        betas=torch.zeros(num_betas, dtype=dtype),
        root=upright_rotation(yaw),
        transl=place_ - body.skeleton.joints[0],
        body_pose=body.prior.mean.expand(F, -1, -1).clone(),
        offsets=torch.zeros(33, 3, dtype=dtype),
        log_focal=torch.zeros((), dtype=dtype),
        tilt=torch.zeros(2, dtype=dtype),
        camera_height=torch.zeros((), dtype=dtype),
        lean=torch.zeros(3, dtype=dtype),
    )


def upright_rotation(yaw: Float[Tensor, "F"]) -> Float[Tensor, "F 3 3"]:
    """An upright body whose left side points along (cos yaw, 0, sin yaw) of the camera; 0 faces the camera."""
    left = torch.stack([yaw.cos(), torch.zeros_like(yaw), yaw.sin()], -1)
    up = torch.tensor([0.0, -1.0, 0.0], dtype=yaw.dtype).expand_as(left)
    return torch.stack([left, up, torch.linalg.cross(left, up, dim=-1)], -1)


def _fill(angles: Float[Tensor, "F"], seen: Tensor) -> Float[Tensor, "F"]:
    """Angles of frames without landmarks: those of the nearest frame that has some."""
    rows = torch.nonzero(seen).squeeze(-1)
    nearest = (torch.arange(len(angles))[:, None] - rows).abs().argmin(1)
    return angles[rows[nearest]]


def _fill_linear(values: Float[Tensor, "F"], seen: Tensor, times: Float[Tensor, "F"]) -> Float[Tensor, "F"]:
    """Values of frames without landmarks, on the line between their neighbours that have some."""
    t, v = times[seen], values[seen]
    if len(t) == 1:
        return v.expand_as(times).clone()
    right = torch.searchsorted(t, times).clamp(1, len(t) - 1)
    share = ((times - t[right - 1]) / (t[right] - t[right - 1])).clamp(0, 1)
    return v[right - 1] + share * (v[right] - v[right - 1])


def cheapest_path(costs: Float[Tensor, "F K"], jumps: Float[Tensor, "F-1 K K"]) -> Int[Tensor, "F"]:
    """One way for each frame, such that their costs and the jumps between neighbours sum to the least (Viterbi)."""
    best, back = costs[0], []
    for t in range(1, len(costs)):
        through = best[:, None] + jumps[t - 1]
        best, came_from = through.min(0)
        best = best + costs[t]
        back.append(came_from)
    path = [int(best.argmin())]
    for came_from in reversed(back):
        path.append(int(came_from[path[-1]]))
    return torch.tensor(path[::-1])


def choose_heading(body: FitBody, seen: Observations, spreads: Spreads, state: FitState) -> FitState:
    """Settle which way the person faces in each frame: as the world landmarks say, or mirrored in depth, or turned round."""
    F = len(seen.times)
    left = state.root[:, :, 0]
    yaw = torch.atan2(left[:, 2], left[:, 0])
    ways = torch.stack([yaw, -yaw, yaw + torch.pi])
    starts = replace(state.repeat(3), root=upright_rotation(ways.flatten()))
    settled, cost = settle(body, seen.repeat(3), spreads, starts)
    heading = settled.root[:, :, 0].unflatten(0, (3, F)).transpose(0, 1)
    turned = torch.acos((heading[:-1, :, None] * heading[1:, None]).sum(-1).clamp(-1, 1))
    rate = turned / (seen.times[1:] - seen.times[:-1])[:, None, None]
    path = cheapest_path(cost.unflatten(0, (3, F)).T, (0.5 * (rate / 2.0) ** 2).clamp(max=20.0))
    return settled.frames(path * F + torch.arange(F))


def settle(body: FitBody, seen: Observations, spreads: Spreads, starts: FitState) -> tuple[FitState, Tensor]:
    """Let every start of every frame slide into its own minimum, some frames at a time.

    Args:
        starts: several ways after each other, each for all frames. seen: what each of them is held to, in the same order.

    Returns:
        The states in the same order, and what each costs.
    """
    settled, costs = [], []
    for rows in torch.arange(len(seen.times)).split(SETTLED_AT_ONCE):
        problem = BodyFitProblem(body, seen.frames(rows), spreads, smooth=False, only_motion=True)
        state, cost = minimise_each_frame(problem, starts.frames(rows), lambda mask, a, b: a.where(mask, b), steps=SETTLING_STEPS)
        settled.append(state)
        costs.append(cost)
    motion = {name: torch.cat([getattr(state, name) for state in settled]) for name in ("root", "transl", "body_pose")}
    return replace(starts, **motion), torch.cat(costs)


def aim_limb(body: FitBody, state: FitState, limb: Limb, upper: Float[Tensor, "F 3"], lower: Float[Tensor, "F 3"]) -> FitState:
    """Turn a limb so that its bones point along `upper` and `lower`, its hinge across both: always a bend that joints allow."""
    skeleton = body.skeleton
    posed = pose_skeleton(skeleton, state.betas, state.root, state.transl, state.body_pose)
    a, b, c = limb.joints
    rest = skeleton.joints + skeleton.joints_by_beta @ state.betas
    rest_upper, rest_lower = unit(rest[b] - rest[a]), unit(rest[c] - rest[b])
    hinge = torch.tensor(limb.hinge, dtype=rest.dtype)
    upper, lower = unit(upper), unit(lower)
    across = torch.linalg.cross(upper, lower, dim=-1)
    sure = (across.norm(dim=-1, keepdim=True) / STRAIGHT).clamp(max=1.0)
    present = rotation_between(posed.R[:, a] @ rest_upper, upper) @ posed.R[:, a] @ hinge
    across = sure * unit(across) + (1 - sure) * present

    def frame(bone: Tensor, axis: Tensor) -> Tensor:
        axis = unit(axis - (axis * bone).sum(-1, keepdim=True) * bone)
        return torch.stack([bone, axis, torch.linalg.cross(bone, axis, dim=-1)], -1)

    R_a = frame(upper, across) @ frame(rest_upper, hinge).mT
    R_b = rotation_between(R_a @ rest_lower, lower) @ R_a
    pose = state.body_pose.clone()
    pose[:, a - 1] = vector_from_rotation(posed.R[:, int(skeleton.parents[a])].mT @ R_a)
    pose[:, b - 1] = vector_from_rotation(R_a.mT @ R_b)
    return replace(state, body_pose=pose)


def mirror_in_depth(bone: Float[Tensor, "F 3"], tail: Float[Tensor, "F 3"]) -> Float[Tensor, "F 3"]:
    """The bone that looks the same from the camera and slopes the other way."""
    ray = unit(tail)
    return bone - 2 * (bone * ray).sum(-1, keepdim=True) * ray


Aim = tuple[Float[Tensor, "F 3"], Float[Tensor, "F 3"]]  # directions of a limb's upper and lower bone


def limb_aims(joints: Float[Tensor, "F J 3"], limb: Limb) -> tuple[Aim, list[Aim]]:
    """Where a limb points, and where with its upper bone mirrored in depth, its lower bone, and both."""
    a, b, c = (joints[:, j] for j in limb.joints)
    upper, lower = unit(b - a), unit(c - b)
    upper_mirrored, lower_mirrored = mirror_in_depth(upper, a), mirror_in_depth(lower, b)
    return (upper, lower), [(upper_mirrored, lower), (upper, lower_mirrored), (upper_mirrored, lower_mirrored)]


def limb_ways(body: FitBody, seen: Observations, state: FitState) -> list[FitState]:
    """The state with all four limbs as they are, mirrored in their upper, lower or both bones, or as the world landmarks say."""
    posed = pose_skeleton(body.skeleton, state.betas, state.root, state.transl, state.body_pose)
    ways = [state] * 5
    for limb in LIMBS:
        present, mirrored = limb_aims(posed.joints, limb)
        told = tuple(torch.where(seen.seen[:, None], seen.directions[:, k], d) for k, d in zip(limb.bones, present))
        for k, (up, low) in enumerate([*mirrored, told], 1):
            ways[k] = aim_limb(body, ways[k], limb, up, low)
    return ways


def limb_cost(body: FitBody, seen: Observations, spreads: Spreads, state: FitState, limb: Limb) -> tuple[Tensor, Tensor]:
    """What one limb costs in each frame, and where its two outer joints are beside the root."""
    posed = pose_skeleton(body.skeleton, state.betas, state.root, state.transl, state.body_pose)
    x = place(terms.with_offsets(body.landmarks, state.offsets), posed, state.betas)
    pixels, _ = terms.project(x, seen.focal_px * state.log_focal.exp(), seen.principal)
    marks = list(limb.landmarks)
    miss = ((pixels - seen.points)[:, marks] ** 2).sum(-1) / (spreads.landmark * seen.height_px) ** 2
    rho, _ = terms.robust_kernel(miss, spreads.radius / spreads.landmark)
    cost = (rho * seen.confidence[:, marks] * landmark_shares()[marks]).sum(-1)
    bones = list(limb.bones)
    heading = unit(bone_mixtures()[bones] @ x)
    rho, _ = terms.robust_kernel(((heading - seen.directions[:, bones]) ** 2).sum(-1) / spreads.direction**2, 3.0)
    cost = cost + (rho * seen.confidence[:, [BONES[k][1][0] for k in bones]] * direction_shares()[bones]).sum(-1)
    pose, prior, turned = state.body_pose[:, list(limb.turned)], body.prior, list(limb.turned)
    cost = cost + 0.5 * spreads.prior * (((pose - prior.mean[turned]) / prior.spread[turned]) ** 2).sum((1, 2))
    beyond = (pose - prior.highest[turned]).clamp_min(0) + (pose - prior.lowest[turned]).clamp_max(0)
    cost = cost + 0.5 * ((beyond / spreads.limit) ** 2).sum((1, 2))
    if limb.joints[0] in (16, 17):
        cost = cost + _inside_trunk(posed.R, posed.joints, limb)
    return cost, posed.joints[:, list(limb.joints[1:])] - posed.joints[:, :1]


def limb_jumps(joints: Float[Tensor, "F K 2 3"], times: Float[Tensor, "F"]) -> Float[Tensor, "F-1 K K"]:
    """What it costs a limb, whose two outer joints are given beside the root, to get from each way to each way of the next frame."""
    apart = ((joints[:-1, :, None] - joints[1:, None]) ** 2).sum((-1, -2))
    gaps = (times[1:] - times[:-1])[:, None, None]
    return (0.5 * apart / (LIMB_SPEED * gaps) ** 2).clamp(max=MAX_JUMP)


def _inside_trunk(R: Tensor, joints: Tensor, limb: Limb) -> Float[Tensor, "F"]:
    """What it costs that the forearm passes through the trunk: an elliptic column from the pelvis to the neck."""
    elbow, wrist = joints[:, limb.joints[1]], joints[:, limb.joints[2]]
    points = torch.stack([elbow + s * (wrist - elbow) for s in (0.4, 0.7, 1.0, 1.25)], 1)
    low, high = joints[:, 0], joints[:, 12]
    span = high - low
    along = ((points - low[:, None]) * span[:, None]).sum(-1) / (span**2).sum(-1, keepdim=True)
    local = (points - low[:, None] - along.clamp(0, 1)[..., None] * span[:, None]) @ R[:, 9]
    radius = ((local[..., 0] / TORSO_RADIUS[0]) ** 2 + (local[..., 2] / TORSO_RADIUS[1]) ** 2).clamp_min(1e-12).sqrt()
    deep = (1 - radius).clamp_min(0) * TORSO_RADIUS[1] * ((along > 0) & (along < 1))
    return 0.5 * ((deep / TORSO_DEPTH_SPREAD) ** 2).sum(-1)


def choose_limbs(
    body: FitBody, seen: Observations, spreads: Spreads, state: FitState, on_step: Callable[[], None] = lambda: None
) -> tuple[FitState, Int[Tensor, "4 F"]]:
    """Settle on which side of depth each limb lies in each frame.

    Returns:
        The state, and for each limb the way taken in each frame (0: as it was).
    """
    F = len(seen.times)
    ways = limb_ways(body, seen, state)
    K = len(ways)
    starts = replace(
        state,
        root=torch.cat([w.root for w in ways]),
        transl=torch.cat([w.transl for w in ways]),
        body_pose=torch.cat([w.body_pose for w in ways]),
    )
    many, pose, paths = seen.repeat(K), state.body_pose.clone(), []
    settled, _ = settle(body, many, spreads, starts)
    on_step()
    for limb in LIMBS:
        cost, joints = limb_cost(body, many, spreads, settled, limb)
        path = cheapest_path(cost.unflatten(0, (K, F)).T, limb_jumps(joints.unflatten(0, (K, F)).transpose(0, 1), seen.times))
        taken = settled.body_pose.unflatten(0, (K, F))[path, torch.arange(F)]
        turned = list(limb.turned)
        pose[:, turned] = taken[:, turned]
        paths.append(path)
    return replace(state, body_pose=pose), torch.stack(paths)
