"""Arms stay out of the trunk and the thighs: solids that follow single joints, and a force on what lies inside of them.

Axes: F frames, B solids, P pairs of an arm's point and a solid, J joints, S shape coefficients, D motion parameters, Q shared
ones. Lengths are metres. A solid is a round pillar lying along y of its joint's rest axes,

    n(u) = ((u_x^2 / r_x^2 + u_z^2 / r_z^2)^2 + (u_y / r_y)^4)^(1/4),     inside where n < 1

u being a point's place in the joint's axes from the solid's middle. Middle and radii r lie halfway between the outermost
vertices that the joint moves, so both are linear in the shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.fitting.kinematics import BlendedPoints, Posed, Skeleton, SurfacePoints, concatenate, place, point_slopes, points_of_joints
from model.fitting.observations import FitState
from model.fitting.solver import NormalEquations

SOLIDS = ((0,), (3,), (6, 9), (1,), (2,))  # joints whose vertices make one: hips, belly, chest, thighs
OUTERMOST = 0.03  # share of a solid's vertices beyond its faces: skin that bulges, and a neighbour's
ARMS = ((16, 18, 20), (17, 19, 21))  # shoulder, elbow, wrist
UPPER_POINTS = ((0.8, 0.035),)  # place along the upper arm, 0 shoulder, 1 elbow; half thickness of the arm there, m
FOREARM_POINTS = ((0.05, 0.035), (0.35, 0.035), (0.65, 0.03), (0.95, 0.02), (1.2, 0.01), (1.45, 0.005))  # 1: wrist; beyond: the hand


@dataclass(frozen=True)
class Collisions:
    """Every point of an arm against every solid.

    Attributes:
        solids: the joint whose axes each pair's solid follows.
        gaps: from the solid's middle to the arm's point.
        radii, radii_by_beta: of the solid, the arm's own thickness added, at betas 0, and their change with each coefficient.
        depth: m that n = 0 lies below n = 1: the smallest radius at betas 0.
    """

    solids: Int[Tensor, "P"]
    gaps: BlendedPoints
    radii: Float[Tensor, "P 3"]
    radii_by_beta: Float[Tensor, "P 3 S"]
    depth: Float[Tensor, "P"]

    def __getitem__(self, rows: Tensor) -> Collisions:
        return Collisions(self.solids[rows], self.gaps[rows], self.radii[rows], self.radii_by_beta[rows], self.depth[rows])


def make_collisions(skeleton: Skeleton, surface: SurfacePoints) -> Collisions:
    """Measure the solids on the body at rest and pair them with the arms."""
    joints, mover = points_of_joints(skeleton), surface.lbs_weights.argmax(1)
    middles, radii, radii_by_beta = [], [], []
    for owners in SOLIDS:
        low, high, low_by_beta, high_by_beta = _faces(surface, torch.isin(mover, torch.tensor(owners)))
        weights = joints.weights[owners[-1] :][:1]
        middle, by_beta = (low + high) / 2, (low_by_beta + high_by_beta) / 2
        middles.append(BlendedPoints(weights, weights[..., None] * middle, weights[..., None, None] * by_beta))
        radii.append((high - low) / 2)
        radii_by_beta.append((high_by_beta - low_by_beta) / 2)
    mixture, thickness = _arm_points(len(skeleton.parents), joints.weights.dtype)
    everything = concatenate(joints.mix(mixture), *middles)
    points, solids = torch.meshgrid(torch.arange(len(thickness)), torch.arange(len(SOLIDS)), indexing="ij")
    points, solids = points.flatten(), solids.flatten()
    eye = torch.eye(len(everything.weights), dtype=mixture.dtype)
    radii, radii_by_beta = torch.stack(radii)[solids] + thickness[points, None], torch.stack(radii_by_beta)[solids]
    follows = torch.tensor([owners[-1] for owners in SOLIDS])[solids]
    gaps = everything.mix(eye[points] - eye[len(thickness) + solids])
    return Collisions(follows, gaps, radii, radii_by_beta, radii.amin(-1))


def _faces(surface: SurfacePoints, picked: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The coordinates between which most of some vertices lie, x y z, and how they change with the shape."""
    rows = torch.nonzero(picked).squeeze(-1)
    rank = int(OUTERMOST * (len(rows) - 1))
    order = rows[surface.vertices[rows].argsort(0)]  # [n, 3]: one order for each coordinate
    axis = torch.arange(3)
    found = []
    for values in (surface.vertices, surface.vertices_by_beta):
        found += [values[order[rank], axis], values[order[len(rows) - 1 - rank], axis]]
    return tuple(found)


def _arm_points(num_joints: int, dtype: torch.dtype) -> tuple[Float[Tensor, "n J"], Float[Tensor, "n"]]:
    """Points along both arms as mixtures of joints, and how thick the arm is there."""
    rows, thickness = [], []
    for shoulder, elbow, wrist in ARMS:
        for start, end, points in ((shoulder, elbow, UPPER_POINTS), (elbow, wrist, FOREARM_POINTS)):
            for along, thick in points:
                row = torch.zeros(num_joints, dtype=dtype)
                row[start], row[end] = 1 - along, along
                rows.append(row)
                thickness.append(thick)
    return torch.stack(rows), torch.tensor(thickness, dtype=dtype)


def level(u: Float[Tensor, "*B 3"], radii: Float[Tensor, "*#B 3"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B 3"]]:
    """n(u) of a solid, and how it changes with u; with the radii it changes by -u / r of that."""
    squared = (u / radii) ** 2
    parts = torch.stack([squared[..., 0] + squared[..., 2], squared[..., 1]], -1)
    n = (parts**2).sum(-1).clamp_min(1e-12) ** 0.25
    return n, parts[..., [0, 1, 0]] * u / radii**2 / n[..., None] ** 3


def depths_inside(collisions: Collisions, posed: Posed, betas: Float[Tensor, "S"]) -> Float[Tensor, "F P"]:
    """How deep each arm point lies in each solid, m; 0 outside."""
    u = (posed.R[:, collisions.solids].mT @ place(collisions.gaps, posed, betas)[..., None]).squeeze(-1)
    n, _ = level(u, collisions.radii + collisions.radii_by_beta @ betas)
    return (1 - n).clamp_min(0) * collisions.depth


def add_collisions(
    model: NormalEquations, skeleton: Skeleton, collisions: Collisions, state: FitState, posed: Posed, *, spread: float, only_motion: bool = False
) -> None:
    """Arms leave what they lie inside of.

    Args:
        spread: depth inside that costs one standard deviation, m.
    """
    touched = (depths_inside(collisions, posed, state.betas) > 0).any(0).nonzero()[:, 0]
    if not len(touched):
        return
    some = collisions[touched]
    gap = place(some.gaps, posed, state.betas)
    R, radii = posed.R[:, some.solids], some.radii + some.radii_by_beta @ state.betas
    u = (R.mT @ gap[..., None]).squeeze(-1)
    n, by_u = level(u, radii)
    by_u = -by_u * (some.depth / spread * (n < 1))[..., None]
    along = (R @ by_u[..., None]).squeeze(-1)
    by_own, by_beta = point_slopes(skeleton, some.gaps, posed, state.betas, along)
    # u lies in the solid's axes: where their joint turns by o, the gap seems to turn by -o
    twist = torch.linalg.cross(gap, along, dim=-1)
    turns = torch.einsum("fpx,fjxa->fpja", twist, posed.turn_axes) * skeleton.below[:, some.solids].T[..., None]
    by_own = by_own - torch.cat([turns[:, :, 0], torch.zeros_like(along), turns[:, :, 1:].flatten(2)], -1)
    residuals = (1 - n).clamp_min(0) * some.depth / spread
    by_shared = columns = None
    if not only_motion:
        by_shared = by_beta - torch.einsum("fpx,pxs->fps", by_u * u / radii, some.radii_by_beta)
        columns = torch.arange(by_shared.shape[-1])
    model.add(residuals, by_own, torch.ones_like(residuals), 0.5 * (residuals**2).sum(-1), by_shared, columns)
