"""Bundle adjustment of a moving body: motion, shape, camera and the places of surface points, all from one set of tracks.

A surface point that is followed through the clip ties the poses of many frames together, wherever on the body it is. So each
point's place in the rest body is an unknown too, and is eliminated: with normal equations

    [ A   B ] [ body   ]       [ g_body   ]
    [ B'  V ] [ shifts ]  =  - [ g_shifts ]          V block-diagonal, one 3 x 3 block a point

the body's step solves (A - B V^-1 B') body = -g_body + B V^-1 g_shifts. A is the arrow of solver.py; the reduced matrix is
dense in time, so it is solved by conjugate gradients with A as preconditioner (Triggs et al. 2000, section 6; Agarwal et al.
2010): some 10 to 20 products.

Without the shifts, points that a wrong motion has placed wrongly would hold that motion where it is.

Axes: F frames, P tracks of a frame, N surface points, D motion parameters of a frame, Q shared parameters, C of them that
tracks depend on. Lengths are metres, residuals are in their spreads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.fitting import terms
from model.fitting.arrow import ArrowMatrix
from model.fitting.kinematics import SurfacePoints, place_surface, pose_skeleton, surface_slopes
from model.fitting.objective import BodyFitProblem
from model.fitting.observations import FitState
from model.fitting.solver import NormalEquations

KERNEL_RADIUS = 4.0  # spreads; a track that misses by more is likely to follow something else
MAX_PRODUCTS, ENOUGH = 60, 1e-4  # conjugate gradients: products at most, and the share of the residual that may be left
WORST_DAMPING = 1e4


@dataclass(frozen=True)
class SurfaceTracks:
    """Where points of a surface are seen.

    Attributes:
        points: which ones.
        targets: where, px.
        sharpness: square root of the information about each target, 1/px; zero where there is none. A residual is
            sharpness (pixel - target).
    """

    points: Int[Tensor, "F P"]
    targets: Float[Tensor, "F P 2"]
    sharpness: Float[Tensor, "F P 2 2"]

    def restricted(self) -> tuple[Int[Tensor, "N"], SurfaceTracks]:
        """The points that are tracked at all, and the tracks counted in those."""
        points, places = torch.unique(self.points, return_inverse=True)
        return points, SurfaceTracks(places.reshape(self.points.shape), self.targets, self.sharpness)


@dataclass(frozen=True)
class BundleState:
    """The body, and how far each point lies from where the surface has it, in the rest body, metres."""

    body: FitState
    shifts: Float[Tensor, "N 3"]


@dataclass(frozen=True)
class BundleEquations:
    """Normal equations of body and points. `frames` is A and g_body with the tracks' share in them.

    Attributes:
        by_own, by_shared, by_shift: how each track's residuals change with its frame's motion, with the shared parameters of
            `columns`, and with its point's place. weights: of each residual.
        V, g_shifts: of the points.
    """

    frames: NormalEquations
    points: Int[Tensor, "F P"]
    columns: Int[Tensor, "C"]
    by_own: Float[Tensor, "F 2P D"]
    by_shared: Float[Tensor, "F 2P C"]
    by_shift: Float[Tensor, "F P 2 3"]
    weights: Float[Tensor, "F 2P"]
    V: Float[Tensor, "N 3 3"]
    g_shifts: Float[Tensor, "N 3"]

    def to_points(self, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> Float[Tensor, "N 3"]:
        """B' times a step of the body."""
        moved = (self.by_own @ own[..., None]).squeeze(-1) + self.by_shared @ shared[self.columns]
        pulled = self.by_shift.mT @ (moved * self.weights).unflatten(1, (-1, 2))[..., None]
        return _gather(pulled.squeeze(-1), self.points, len(self.V))

    def to_body(self, shifts: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "F D"], Float[Tensor, "Q"]]:
        """B times shifts of the points."""
        moved = (self.by_shift @ shifts[self.points][..., None]).squeeze(-1).flatten(1) * self.weights
        shared = torch.zeros_like(self.frames.g_shared)
        shared[self.columns] = torch.einsum("fnc,fn->c", self.by_shared, moved)
        return (self.by_own.mT @ moved[..., None]).squeeze(-1), shared


class BundleProblem:
    """All terms of the body fit, and the tracks."""

    def __init__(self, problem: BodyFitProblem, surface: SurfacePoints, tracks: SurfaceTracks, *, shift_spread: float) -> None:
        """Args: surface holds the tracked points, shift_spread how far they usually lie from where it has them, m."""
        self.problem, self.surface, self.tracks, self.shift_spread = problem, surface, tracks, shift_spread

    def linearise(self, state: BundleState) -> BundleEquations:
        """Cost, gradient and Gauss-Newton matrix."""
        body, seen, fit = self.problem.body, self.problem.seen, state.body
        frames = self.problem.linearise(fit)
        posed = pose_skeleton(body.skeleton, fit.betas, fit.root, fit.transl, fit.body_pose)
        moved = SurfacePoints(self.surface.vertices + state.shifts, self.surface.vertices_by_beta, self.surface.lbs_weights)
        tracks = self.tracks
        x = place_surface(moved, tracks.points, posed, fit.betas)
        pixels, by_point = terms.project(x, seen.focal_px * fit.log_focal.exp(), seen.principal)
        residuals = (tracks.sharpness @ (pixels - tracks.targets)[..., None]).squeeze(-1)
        rho, kernel = terms.robust_kernel(residuals.square().sum(-1), KERNEL_RADIUS)
        weights = kernel[..., None].expand_as(residuals).flatten(1)
        by_point = tracks.sharpness @ by_point
        by_focal = tracks.sharpness @ (pixels - torch.tensor(seen.principal, dtype=x.dtype))[..., None]
        both = tracks.points.repeat_interleave(2, dim=1)  # each point along the two directions that its residual knows
        by_own, by_beta = surface_slopes(body.skeleton, moved, both, posed, fit.betas, by_point.flatten(1, 2))
        by_shared = torch.cat([by_beta, by_focal.flatten(1, 2)], -1)
        columns = torch.tensor([*range(fit.betas.numel()), fit.focal_column])
        if self.problem.only_motion:
            by_shared, columns = by_shared[..., :0], columns[:0]
        frames.add(residuals.flatten(1), by_own, weights, rho.sum(-1), by_shared, columns)

        turned = torch.einsum("fpk,fkxy->fpxy", moved.lbs_weights[tracks.points], posed.R)
        by_shift = by_point @ turned
        weighted = by_shift * kernel[..., None, None]
        V = _gather(weighted.mT @ by_shift, tracks.points, len(state.shifts))
        g = _gather((weighted.mT @ residuals[..., None]).squeeze(-1), tracks.points, len(state.shifts))
        V = V + torch.eye(3, dtype=V.dtype) / self.shift_spread**2
        g = g + state.shifts / self.shift_spread**2
        frames.shared_cost = frames.shared_cost + 0.5 * state.shifts.square().sum() / self.shift_spread**2
        return BundleEquations(frames, tracks.points, columns, by_own, by_shared, by_shift, weights, V, g)


def _gather(values: Float[Tensor, "F P *S"], points: Int[Tensor, "F P"], count: int) -> Float[Tensor, "N *S"]:
    """Sums over the tracks of each point."""
    out = torch.zeros(count, *values.shape[2:], dtype=values.dtype)
    return out.index_add_(0, points.flatten(), values.flatten(0, 1))


def solve_bundle(
    equations: BundleEquations, damping: float
) -> tuple[Float[Tensor, "F D"], Float[Tensor, "Q"], Float[Tensor, "N 3"]] | None:
    """The step of motion, shared parameters and points to the damped model's minimum; None where it is not convex."""
    V = torch.linalg.inv(equations.V + damping * torch.diag_embed(equations.V.diagonal(dim1=1, dim2=2)))
    A = ArrowMatrix.of(equations.frames, damping)
    if A is None:
        return None

    def shrink(shifts: Tensor) -> Tensor:
        return (V @ shifts[..., None]).squeeze(-1)

    def reduced(own: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        through = equations.to_body(shrink(equations.to_points(own, shared)))
        return tuple(a - b for a, b in zip(A.apply(own, shared), through, strict=True))

    def dot(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
        return (a[0] * b[0]).sum() + (a[1] * b[1]).sum()

    side = equations.to_body(shrink(equations.g_shifts))
    left = (side[0] - equations.frames.g, side[1] - equations.frames.g_shared)
    step = (torch.zeros_like(left[0]), torch.zeros_like(left[1]))
    towards = solved = A.solve(*left)
    first = now = dot(left, solved)
    for _ in range(MAX_PRODUCTS):
        if not now > ENOUGH * first:
            break
        product = reduced(*towards)
        share = now / dot(towards, product)
        step = tuple(s + share * t for s, t in zip(step, towards, strict=True))
        left = tuple(a - share * p for a, p in zip(left, product, strict=True))
        solved = A.solve(*left)
        before, now = now, dot(left, solved)
        towards = tuple(s + now / before * t for s, t in zip(solved, towards, strict=True))
    return *step, -shrink(equations.g_shifts + equations.to_points(*step))


def adjust(problem: BundleProblem, state: BundleState, *, steps: int, damping: float = 1e-3, tolerance: float = 1e-4) -> BundleState:
    """Take up to `steps` damped Gauss-Newton steps over body and points together.

    Args:
        damping: at the start; it falls after every good step and rises after every refused one.
        tolerance: the run ends when a step improves the objective by a smaller share than this.

    Returns:
        The best state; never worse than the start.
    """
    equations = problem.linearise(state)
    for _ in range(steps):
        found = solve_bundle(equations, damping)
        if found is not None:
            own, shared, shifts = found
            candidate = BundleState(problem.problem.step(state.body, own, shared), state.shifts + shifts)
            trial = problem.linearise(candidate)
        if found is None or not trial.frames.total < equations.frames.total:
            damping *= 8
            if damping > WORST_DAMPING:
                break
            continue
        gain = 1 - trial.frames.total / max(equations.frames.total, 1e-12)
        state, equations, damping = candidate, trial, max(damping / 4, 1e-7)
        if gain < tolerance:
            break
    return state
