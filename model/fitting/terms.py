"""The terms of the body fit, each a set of residuals with its closed-form Jacobian added to the normal equations.

Axes: F frames, L = 33 landmarks, B bones, J joints, D motion parameters of a frame, S shape coefficients, Q shared ones.
Every residual is divided by its spread, so that a unit is "one standard deviation" and the terms need no other weights.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from model.fitting.kinematics import BlendedPoints, Posed
from model.fitting.observations import FitState, Observations
from model.fitting.prior import PosePrior
from model.fitting.rotations import left_jacobian, rotation_between, rotation_from_vector, vector_from_rotation
from model.fitting.solver import NormalEquations

NEAR_PLANE = 0.2  # m; points nearer to the camera are projected as if they lay there


def robust_kernel(squared: Float[Tensor, "*B"], radius: float | Float[Tensor, "*B"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """Geman-McClure: cost c^2 s / (2 (c^2 + s)) of a squared residual s, and the weight that gives its gradient."""
    c2 = radius**2
    share = c2 / (c2 + squared)
    return 0.5 * squared * share, share**2


def project(x: Float[Tensor, "F P 3"], focal: Tensor, principal: tuple[float, float]) -> tuple[Float[Tensor, "F P 2"], Float[Tensor, "F P 2 3"]]:
    """Pixels of camera points, and how they change with the point."""
    z = x[..., 2].clamp_min(NEAR_PLANE)
    flat = x[..., :2] / z[..., None]
    pixels = focal * flat + torch.tensor(principal, dtype=x.dtype)
    by_point = torch.cat([torch.eye(2, dtype=x.dtype).expand(*x.shape[:-1], 2, 2), -flat[..., None]], -1) * (focal / z)[..., None, None]
    return pixels, by_point


def with_offsets(landmarks: BlendedPoints, offsets: Float[Tensor, "L 3"]) -> BlendedPoints:
    """Landmarks moved in the rest body, each by its own offset."""
    return BlendedPoints(landmarks.weights, landmarks.moments + landmarks.weights[..., None] * offsets[:, None], landmarks.moments_by_beta)


def add_reprojection(
    model: NormalEquations,
    seen: Observations,
    state: FitState,
    landmarks: tuple[Tensor, Tensor, Tensor],
    turned: Float[Tensor, "F L 3 3"],
    *,
    spread_px: float,
    radius_px: float,
    share: Float[Tensor, "L"],
    only_motion: bool = False,
) -> None:
    """Landmarks fall where they were detected.

    Args:
        landmarks: their places and Jacobians, offsets included. turned: rotation of each one's offset, body to camera.
        spread_px: of a detection of full confidence.
        radius_px: of the robust kernel; a landmark further away pulls with less and less force.
        share: how much each landmark counts.
        only_motion: leave the shared parameters out.
    """
    x, by_motion, by_beta = landmarks
    focal = seen.focal_px * state.log_focal.exp()
    pixels, by_point = project(x, focal, seen.principal)
    residuals = (pixels - seen.points) / spread_px
    rho, kernel = robust_kernel((residuals**2).sum(-1), radius_px / spread_px)
    trust = seen.confidence * share
    weight = (trust * kernel)[..., None].expand_as(residuals)
    by_own = (by_point @ by_motion / spread_px).flatten(1, 2)
    by_shared = None
    if not only_motion:
        F, L = x.shape[:2]
        by_offset = torch.zeros(F, L, 2, L, 3, dtype=x.dtype)
        index = torch.arange(L)
        by_offset[:, index, :, index] = (by_point @ turned).transpose(0, 1)
        by_focal = pixels - torch.tensor(seen.principal, dtype=x.dtype)
        others = torch.zeros(F, L, 2, state.num_shared - state.tilt_columns.start, dtype=x.dtype)
        by_shared = torch.cat([by_point @ by_beta, by_offset.flatten(3), by_focal[..., None], others], -1).flatten(1, 2) / spread_px
    model.add(residuals.flatten(1), by_own, weight.flatten(1), (trust * rho).sum(-1), by_shared)


def add_directions(
    model: NormalEquations,
    seen: Observations,
    state: FitState,
    landmarks: tuple[Tensor, Tensor, Tensor],
    turned: Float[Tensor, "F L 3 3"],
    mixtures: Float[Tensor, "B L"],
    *,
    spread: float,
    share: Float[Tensor, "B"],
    radius: float = 3.0,
    only_motion: bool = False,
) -> None:
    """Bones point where the world landmarks say, weakly: the depth side of a limb is theirs to tell, not its angle.

    Args:
        landmarks, turned: as in add_reprojection.
        spread: of a direction, rad. share: how much each bone counts. radius: of the robust kernel, in spreads.
    """
    x, by_motion, by_beta = landmarks
    bones = mixtures @ x
    length = bones.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    heading = bones / length
    across = (torch.eye(3, dtype=x.dtype) - heading[..., :, None] * heading[..., None, :]) / length[..., None]
    told = seen.directions @ rotation_from_vector(state.lean[None])[0].T
    residuals = (heading - told) / spread
    trust = (mixtures.abs() > 0).to(x.dtype) @ seen.confidence[..., None]
    trust = share * trust.squeeze(-1) / (mixtures.abs() > 0).sum(-1)
    rho, kernel = robust_kernel((residuals**2).sum(-1), radius)
    by_own = across @ torch.einsum("bl,flxd->fbxd", mixtures, by_motion) / spread
    by_shared = None
    if not only_motion:
        by_beta = torch.einsum("bl,flxs->fbxs", mixtures, by_beta)
        by_offset = torch.einsum("bl,flxy->fbxly", mixtures, turned).flatten(3)
        by_shared = torch.zeros(*by_beta.shape[:3], state.num_shared, dtype=x.dtype)
        by_shared[..., : state.focal_column] = across @ torch.cat([by_beta, by_offset], -1)
        turns = left_jacobian(state.lean[None])[0].T  # world axes of the lean's parameters, one a row
        by_shared[..., state.lean_columns] = -torch.linalg.cross(turns.expand(*told.shape[:2], 3, 3), told[:, :, None].expand(-1, -1, 3, -1)).mT
        by_shared = (by_shared / spread).flatten(1, 2)
    weight = (trust * kernel)[..., None].expand_as(residuals).flatten(1)
    model.add(residuals.flatten(1), by_own.flatten(1, 2), weight, (trust * rho).sum(-1), by_shared)


def add_pose_prior(model: NormalEquations, prior: PosePrior, state: FitState, *, strength: float, limit_spread: float) -> None:
    """Joints stay near their usual pose, and inside their limits.

    Args:
        strength: share of a full Gaussian prior (frames are no independent draws).
        limit_spread: how far beyond a limit costs one standard deviation, rad.
    """
    scale = strength**0.5 / prior.spread
    model.add_diagonal(((state.body_pose - prior.mean) * scale).flatten(1), scale.expand_as(state.body_pose).flatten(1), 6)
    beyond = (state.body_pose - prior.highest).clamp_min(0) + (state.body_pose - prior.lowest).clamp_max(0)
    model.add_diagonal((beyond / limit_spread).flatten(1), ((beyond != 0).to(beyond.dtype) / limit_spread).flatten(1), 6)


def up_direction(tilt: Float[Tensor, "2"]) -> tuple[Float[Tensor, "3"], Float[Tensor, "3 2"]]:
    """Which way is up in camera axes, and how it changes with the tilt."""
    raw = torch.stack([tilt[0], -torch.ones_like(tilt[0]), tilt[1]])
    length = raw.norm()
    up = raw / length
    by_raw = (torch.eye(3, dtype=tilt.dtype) - up[:, None] * up) / length
    return up, by_raw[:, [0, 2]]


def level_axes(tilt: Float[Tensor, "2"]) -> Float[Tensor, "3 3"]:
    """Rotation from camera axes to those of a camera that stands level at the same place, by the shortest way."""
    up, _ = up_direction(tilt)
    return rotation_between(up, torch.tensor([0.0, -1.0, 0.0], dtype=tilt.dtype))


def add_upright(
    model: NormalEquations, state: FitState, posed: Posed, *, spread: float, radius: float = 2.0, only_motion: bool = False
) -> None:
    """The pelvis stands upright: its y axis points up, give or take `spread` rad."""
    axis = posed.R[:, 0, :, 1]
    up, up_by_tilt = up_direction(state.tilt)
    residuals = torch.linalg.cross(axis, up.expand_as(axis)) / spread
    eye = torch.eye(3, dtype=axis.dtype).expand(len(axis), 3, 3)
    turned = torch.linalg.cross(eye, axis[:, None, :].expand(-1, 3, 3), dim=-1)  # of the axis, one turn a row
    by_own = torch.zeros(*residuals.shape, model.g.shape[1], dtype=axis.dtype)
    by_own[..., :3] = torch.linalg.cross(turned, up.expand_as(turned), dim=-1).mT / spread
    by_tilt = torch.linalg.cross(axis[:, None].expand(-1, 2, 3), up_by_tilt.T.expand(len(axis), 2, 3), dim=-1).mT / spread
    rho, kernel = robust_kernel((residuals**2).sum(-1), radius)
    by_shared = None if only_motion else of_tilt(model, state, by_tilt)
    model.add(residuals, by_own, kernel[:, None].expand_as(residuals), rho, by_shared)


def of_tilt(model: NormalEquations, state: FitState, by_tilt: Float[Tensor, "F n 2"]) -> Float[Tensor, "F n Q"]:
    """Derivatives by all shared parameters of residuals that depend on the tilt alone of them."""
    by_shared = torch.zeros(*by_tilt.shape[:2], model.g_shared.numel(), dtype=by_tilt.dtype)
    by_shared[..., state.tilt_columns] = by_tilt
    return by_shared


def second_difference(times: Float[Tensor, "F"]) -> Float[Tensor, "F-2 3"]:
    """Coefficients of a second derivative at unevenly spaced times, 1/s^2: of the frame before, the frame, the frame after."""
    h1, h2 = times[1:-1] - times[:-2], times[2:] - times[1:-1]
    return torch.stack([2 / (h1 * (h1 + h2)), -2 / (h1 * h2), 2 / (h2 * (h1 + h2))], -1)


def add_smoothness(
    model: NormalEquations, state: FitState, times: Float[Tensor, "F"], spread: Float[Tensor, "D"], *, burst: float
) -> None:
    """Nothing accelerates without need; in 1/s^2, so that the frame rate does not matter.

    People are still for long and quick for a moment, so a joint's acceleration a is heavy-tailed: it costs
    burst^2 / 2 log(1 + |a|^2 / (3 burst^2)) per component, a in units of its spread (a Cauchy kernel).

    Args:
        spread: usual acceleration of each motion parameter, rad/s^2 or m/s^2.
        burst: spreads beyond which an acceleration costs ever less.
    """
    if times.numel() < 3:
        return
    c = second_difference(times)
    before, now, after = c.unbind(-1)
    turn = vector_from_rotation(state.root[1:] @ state.root[:-1].mT)  # from a frame to the next, world axes
    spin = after[:, None] * turn[1:] - before[:, None] * turn[:-1]
    others = torch.cat([state.transl, state.body_pose.flatten(1)], -1)
    rest = before[:, None] * others[:-2] + now[:, None] * others[1:-1] + after[:, None] * others[2:]
    residuals = torch.cat([spin, rest], -1) / spread
    size = residuals.unflatten(-1, (-1, 3)).square().mean(-1) / burst**2  # of each joint
    model.cost[1:-1] += 1.5 * burst**2 * torch.log1p(size).sum(-1)
    weight = (1 / (1 + size)).repeat_interleave(3, dim=-1)
    scaled = c[:, :, None] / spread
    diagonal = model.H.diagonal(dim1=1, dim2=2)
    for k, rows in enumerate((slice(0, -2), slice(1, -1), slice(2, None))):
        diagonal[rows] += weight * scaled[:, k] ** 2
        model.g[rows] += weight * scaled[:, k] * residuals
    model.next_one[:-2] += weight * scaled[:, 0] * scaled[:, 1]
    model.next_one[1:-1] += weight * scaled[:, 1] * scaled[:, 2]
    model.next_two[:-2] += weight * scaled[:, 0] * scaled[:, 2]
