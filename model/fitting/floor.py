"""The floor: level, and there is one for the whole clip. Soles do not sink into it, and somebody nearly always stands on it.

Seen from a camera at eye level, a foot that is further away stands higher in the picture; so the floor tells how far away feet are,
which way the camera looks, and how both go together with the focal length.

Axes: F frames, P = 4 sole points (heel and ball of the left foot, then of the right one), Q shared parameters. Lengths are metres.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from model.fitting.kinematics import BlendedPoints, Posed, Skeleton, SurfacePoints, concatenate, jacobian, place, points_of_vertices
from model.fitting.observations import FitState
from model.fitting.solver import NormalEquations
from model.fitting.terms import robust_kernel, up_direction

FEET = ((7, 10), (8, 11))  # ankle and ball of each
SOLE = 0.015  # m above a rest foot's lowest point that still belong to its sole
NEAR = 0.05  # m; a sole point of a foot that rests, but higher than this, rests on its other end
JUMP = 0.1  # m; a person who is higher than this jumps, or stands on something


def sole_points(surface: SurfacePoints, skeleton: Skeleton) -> BlendedPoints:
    """Heel and ball of each foot: the means of its sole's vertices behind the ankle and before the ball's joint."""
    found = []
    for ankle, ball in FEET:
        foot = surface.lbs_weights[:, [ankle, ball]].sum(1) > 0.5
        low = foot & (surface.vertices[:, 1] < surface.vertices[foot, 1].min() + SOLE)
        depth = surface.vertices[:, 2]
        for part in (low & (depth < skeleton.joints[ankle, 2]), low & (depth > skeleton.joints[ball, 2])):
            vertices = points_of_vertices(surface.vertices[part], surface.vertices_by_beta[part], surface.lbs_weights[part])
            found.append(vertices.mix(torch.full((1, int(part.sum())), 1 / int(part.sum()), dtype=depth.dtype)))
    return concatenate(*found)


def camera_height(soles: BlendedPoints, posed: Posed, state: FitState) -> Float[Tensor, ""]:
    """How high the camera hangs above the floor on which the person stands in most frames."""
    up, _ = up_direction(state.tilt)
    return -(place(soles, posed, state.betas) @ up).amin(1).median()


def add_floor(
    model: NormalEquations, state: FitState, skeleton: Skeleton, soles: BlendedPoints, posed: Posed, rests: Float[Tensor, "F 2"], *,
    spread: float, only_motion: bool = False,
) -> None:  # fmt: skip
    """Feet that rest are on the floor, and so is the lowest sole point of each frame; none is below.

    Args:
        rests: how surely each foot stands still, 0..1.
        spread: of a sole point's height above the floor, m.
    """
    x, by_motion, by_beta = jacobian(skeleton, soles, posed, state.betas)
    up, up_by_tilt = up_direction(state.tilt)
    height = x @ up + state.camera_height
    binds = (height < 0) | (height == height.amin(1, keepdim=True))
    residuals = height / spread
    rho, kernel = robust_kernel(residuals**2, torch.where(binds, JUMP, NEAR) / spread)
    by_shared = None
    if not only_motion:
        by_shared = torch.zeros(*height.shape, model.g_shared.numel(), dtype=x.dtype)
        by_shared[..., : by_beta.shape[-1]] = torch.einsum("fpxs,x->fps", by_beta, up)
        by_shared[..., state.tilt_columns] = x @ up_by_tilt
        by_shared[..., state.floor_column] = 1
        by_shared = by_shared / spread
    trust = torch.where(binds, torch.ones_like(height), rests.repeat_interleave(2, dim=1))
    model.add(residuals, torch.einsum("fpxd,x->fpd", by_motion, up) / spread, trust * kernel, (trust * rho).sum(-1), by_shared)
