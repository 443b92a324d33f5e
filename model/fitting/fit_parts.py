"""The fit of a hand or a face: all frames together, from the points that a detector marked, on a body that does not move.

Axes: F frames, P points, M numbers of a frame that move the part (parts.py), D = M + 6: they, then how the part as a whole is
turned and shifted against the body in the picture. The body's wrist is off by some ten degrees and some centimetres, and
fingers must not bend to make up for it: turn and shift are solved for, and then left aside.

The depths that the detector guesses are left out: with them fingers came out worse (docs/body-fit.md).

A frame without the part is held by its neighbours and by what is usual, so a hand that is lost relaxes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.fitting.arrow import one_thread
from model.fitting.parts import Part
from model.fitting.rotations import rotation_from_vector
from model.fitting.solver import NormalEquations, minimise
from model.fitting.terms import project, robust_kernel

STAGES = ((4.0, 5), (1.0, 12))  # how much wider the robust radius is, and steps: a wrist that is far off is found first


@dataclass(frozen=True)
class PartSpreads:
    """How strong each term of the fit is: one standard deviation.

    Attributes:
        point: of a detected point, share of the part's length in the picture; radius: beyond it a point pulls less and less.
        prior: strength of what is usual in each frame, 0..1. limit: beyond a joint limit, rad.
        speed: of what moves, rad (or coefficients) per root second.
        turn, shift: of the part as a whole against the body, rad and m; depth: of its distance from the camera, share.
        offset: of the face's points from the model's, which all frames share, m.
    """

    point: float
    radius: float
    prior: float
    limit: float
    speed: float
    turn: float
    shift: float
    depth: float
    offset: float


@dataclass(frozen=True)
class SeenPart:
    """One part through a clip, and the body that holds it.

    Attributes:
        points: px. there: whether the part was found.
        root_rotation, root_place: of the joint that holds it, camera axes, m.
        focal_px, principal: of the camera. times: s.
    """

    points: Float[Tensor, "F P 2"]
    there: Bool[Tensor, "F"]
    root_rotation: Float[Tensor, "F 3 3"]
    root_place: Float[Tensor, "F 3"]
    focal_px: float
    principal: tuple[float, float]
    times: Float[Tensor, "F"]


@dataclass(frozen=True)
class PartState:
    """What is solved for: the part's own numbers, its turn and shift in each frame, and offsets of its points [P, 3], m."""

    values: Float[Tensor, "F M"]
    loose: Float[Tensor, "F 6"]
    offsets: Float[Tensor, "P 3"]


class PartProblem:
    """The sum of all terms, as normal equations. Offsets are solved for the face only: it is someone's own."""

    def __init__(self, part: Part, seen: SeenPart, spreads: PartSpreads) -> None:
        self.part, self.seen, self.spreads = part, seen, spreads
        self.num_own = part.usual.numel() + 6
        self.num_shared = part.points.numel() if part.name == "face" else 0
        self.length_px = seen.focal_px * part.length / seen.root_place[:, 2]
        turn, shift = [1 / spreads.turn] * 3, [1 / spreads.shift] * 2
        self.inverse_loose = torch.tensor([*turn, *shift, 1 / spreads.depth], dtype=torch.float64)

    def start(self) -> PartState:
        frames = self.seen.times.numel()
        zeros = lambda *shape: torch.zeros(*shape, dtype=torch.float64)  # noqa: E731
        return PartState(self.part.usual.expand(frames, -1).clone(), zeros(frames, 6), zeros(*self.part.points.shape))

    def step(self, state: PartState, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> PartState:
        count = self.part.usual.numel()
        offsets = state.offsets + shared.unflatten(0, (-1, 3)) if self.num_shared else state.offsets
        return PartState(state.values + own[:, :count], state.loose + own[:, count:], offsets)

    def linearise(self, state: PartState) -> NormalEquations:
        model = NormalEquations.zero(self.seen.times.numel(), self.num_own, self.num_shared, torch.float64)
        self._add_points(model, state)
        self._add_usual(model, state)
        self._add_slowness(model, state)
        if self.num_shared:
            inverse = torch.full((self.num_shared,), 1 / self.spreads.offset, dtype=torch.float64)
            model.add_shared(state.offsets.flatten() * inverse, inverse, 0)
        return model

    def in_camera(self, own: Float[Tensor, "D"], offsets: Float[Tensor, "P 3"], root: Float[Tensor, "3 3"], at: Float[Tensor, "3"]) -> Float[Tensor, "P 3"]:
        """Where the points of one frame are, camera axes, m."""
        values, turn, shift, depth = own[:-6], own[-6:-3], own[-3:-1], own[-1]
        points = (self.part.place(values) + offsets) @ (root @ rotation_from_vector(turn)).mT
        return points + at * depth.exp() + torch.nn.functional.pad(shift, (0, 1))

    def _add_points(self, model: NormalEquations, state: PartState) -> None:
        """The points fall where they were seen."""
        rows = self.seen.there.nonzero()[:, 0]
        if not len(rows):
            return
        own, root, at = torch.cat([state.values, state.loose], 1)[rows], self.seen.root_rotation[rows], self.seen.root_place[rows]
        wanted = (0, 1) if self.num_shared else (0,)
        slopes = torch.func.vmap(torch.func.jacfwd(self.in_camera, wanted), (0, None, 0, 0))(own, state.offsets, root, at)
        points = torch.func.vmap(self.in_camera, (0, None, 0, 0))(own, state.offsets, root, at)
        pixels, by_point = project(points, torch.tensor(self.seen.focal_px, dtype=torch.float64), self.seen.principal)
        scale = (1 / (self.spreads.point * self.length_px[rows]))[:, None, None]
        residuals = (pixels - self.seen.points[rows]) * scale
        cost, weight = robust_kernel(residuals.square().sum(-1), self.spreads.radius / self.spreads.point)

        def whole(values: Tensor) -> Tensor:
            return torch.zeros(model.cost.shape[0], *values.shape[1:], dtype=torch.float64).index_copy(0, rows, values)

        model.add(
            whole(residuals.flatten(1)), whole((by_point @ slopes[0] * scale[..., None]).flatten(1, 2)),
            whole(weight.repeat_interleave(2, dim=1)), whole(cost.sum(1)),
            whole((by_point @ slopes[1].flatten(-2) * scale[..., None]).flatten(1, 2)) if self.num_shared else None,
        )  # fmt: skip

    def _add_usual(self, model: NormalEquations, state: PartState) -> None:
        """Hands are loosely closed, joints stay inside their limits, the part where the body has it."""
        part, count = self.part, self.part.usual.numel()
        pull = self.spreads.prior * part.precision
        off = state.values - part.usual
        model.H[:, :count, :count] += pull
        model.g[:, :count] += off @ pull
        model.cost += 0.5 * ((off @ pull) * off).sum(1)
        beyond = (state.values - part.highest).clamp_min(0) + (state.values - part.lowest).clamp_max(0)
        model.add_diagonal(beyond / self.spreads.limit, (beyond != 0).double() / self.spreads.limit, 0)
        model.add_diagonal(state.loose * self.inverse_loose, self.inverse_loose.expand_as(state.loose), count)

    def _add_slowness(self, model: NormalEquations, state: PartState) -> None:
        """Nothing moves without need: a step costs by its square over the time that it took."""
        if self.seen.times.numel() < 2:
            return
        spreads = torch.full((self.num_own,), self.spreads.speed, dtype=torch.float64)
        spreads[-6:] = self.spreads.speed / self.spreads.turn / self.inverse_loose  # turn and shift drift alike, in their own units
        own = torch.cat([state.values, state.loose], 1)
        weight = 1 / (spreads**2 * self.seen.times.diff().clamp_min(1e-3)[:, None])
        step = own.diff(dim=0)
        diagonal = model.H.diagonal(dim1=1, dim2=2)
        for rows, sign in ((slice(0, -1), -1), (slice(1, None), 1)):
            diagonal[rows] += weight
            model.g[rows] += sign * weight * step
        model.next_one[:-1] -= weight
        model.cost[:-1] += 0.5 * (weight * step**2).sum(1)


@one_thread()
def fit_part(part: Part, seen: SeenPart, spreads: PartSpreads) -> PartState:
    """Solve for one part over a clip. Deterministic; limits are kept exactly in the answer."""
    state = PartProblem(part, seen, spreads).start()
    for widening, steps in STAGES:
        problem = PartProblem(part, seen, replace(spreads, radius=widening * spreads.radius))
        state, _ = minimise(problem, state, steps=steps, tolerance=1e-3)
    return PartState(state.values.clamp(part.lowest, part.highest), state.loose, state.offsets)


def misses_px(part: Part, seen: SeenPart, spreads: PartSpreads, state: PartState) -> Float[Tensor, "F P"]:
    """How far the fitted points lie from the seen ones, turn and shift included; NaN in frames without the part."""
    problem = PartProblem(part, seen, spreads)
    own = torch.cat([state.values, state.loose], 1)
    points = torch.func.vmap(problem.in_camera, (0, None, 0, 0))(own, state.offsets, seen.root_rotation, seen.root_place)
    pixels, _ = project(points, torch.tensor(seen.focal_px, dtype=torch.float64), seen.principal)
    missed = (pixels - seen.points).norm(dim=-1)
    return torch.where(seen.there[:, None], missed, torch.full_like(missed, float("nan")))
