"""Levenberg-Marquardt over all frames of a clip: dense within a frame, a band in time, and a few parameters shared by all.

Axes: F frames, D parameters of a frame, Q shared parameters, n residuals of a frame. The normal equations have the shape of
an arrow: blocks [D, D] along the diagonal, time coupling between a frame and the next two (diagonal in D), and Q dense
columns for what all frames share (arrow.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.fitting.arrow import ArrowMatrix

MAX_DAMPING = 1e8  # beyond it a step is too small to matter: the point is a minimum


@dataclass
class NormalEquations:
    """A local quadratic model of the objective: cost + g d + d H d / 2. Terms add themselves to it.

    Attributes:
        cost: what each frame costs; shared terms are in `shared_cost`.
        H, g: of each frame's own parameters.
        H_mixed: between a frame's and the shared parameters.
        H_shared, g_shared: of the shared ones.
        next_one, next_two: coupling of a frame with the next and the one after, diagonal.
        next_block: further coupling of the next frame's parameters (rows) with a frame's (columns), dense.
    """

    cost: Float[Tensor, "F"]
    H: Float[Tensor, "F D D"]
    g: Float[Tensor, "F D"]
    H_mixed: Float[Tensor, "F D Q"]
    H_shared: Float[Tensor, "Q Q"]
    g_shared: Float[Tensor, "Q"]
    next_one: Float[Tensor, "F D"]
    next_two: Float[Tensor, "F D"]
    next_block: Float[Tensor, "F D D"]
    shared_cost: Tensor

    @staticmethod
    def zero(num_frames: int, num_own: int, num_shared: int, dtype: torch.dtype) -> NormalEquations:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype)

        F, D, Q = num_frames, num_own, num_shared
        return NormalEquations(
            zeros(F), zeros(F, D, D), zeros(F, D), zeros(F, D, Q), zeros(Q, Q), zeros(Q), zeros(F, D), zeros(F, D),
            zeros(F, D, D), zeros(),
        )

    @property
    def total(self) -> float:
        """The objective, a number."""
        return float(self.cost.sum() + self.shared_cost)

    def add(
        self,
        residuals: Float[Tensor, "F n"],
        by_own: Float[Tensor, "F n D"],
        weights: Float[Tensor, "F n"],
        cost: Float[Tensor, "F"],
        by_shared: Float[Tensor, "F n q"] | None = None,
        columns: Int[Tensor, "q"] | None = None,
    ) -> None:
        """Add weighted residuals.

        Args:
            cost: theirs (of the robust kernel, where the weights come from one).
            columns: the shared parameters that `by_shared` speaks of, where it does not of all; the others do not move them.
        """
        weighted = by_own * weights[..., None]
        self.H += weighted.mT @ by_own
        self.g += (weighted.mT @ residuals[..., None]).squeeze(-1)
        self.cost += cost
        if by_shared is not None and by_shared.shape[-1]:
            scaled = (by_shared * weights[..., None]).flatten(0, 1)
            columns = torch.arange(by_shared.shape[-1]) if columns is None else columns
            self.H_mixed[..., columns] += weighted.mT @ by_shared
            self.H_shared[columns[:, None], columns] += scaled.mT @ by_shared.flatten(0, 1)
            self.g_shared[columns] += scaled.mT @ residuals.flatten()

    def add_between(
        self,
        residuals: Float[Tensor, "F-1 n"],
        by_first: Float[Tensor, "F-1 n D"],
        by_second: Float[Tensor, "F-1 n D"],
        weights: Float[Tensor, "F-1 n"],
        cost: Float[Tensor, "F-1"],
        by_shared: Float[Tensor, "F-1 n Q"] | None = None,
    ) -> None:
        """Add weighted residuals that each depend on two frames that follow each other; their cost is the first one's."""
        for rows, by_own in ((slice(0, -1), by_first), (slice(1, None), by_second)):
            weighted = by_own * weights[..., None]
            self.H[rows] += weighted.mT @ by_own
            self.g[rows] += (weighted.mT @ residuals[..., None]).squeeze(-1)
            if by_shared is not None and by_shared.shape[-1]:
                self.H_mixed[rows] += weighted.mT @ by_shared
        self.next_block[:-1] += (by_second * weights[..., None]).mT @ by_first
        self.cost[:-1] += cost
        if by_shared is not None and by_shared.shape[-1]:
            scaled = (by_shared * weights[..., None]).flatten(0, 1)
            self.H_shared += scaled.mT @ by_shared.flatten(0, 1)
            self.g_shared += scaled.mT @ residuals.flatten()

    def add_diagonal(self, residuals: Float[Tensor, "F k"], by_own: Float[Tensor, "F k"], start: int) -> None:
        """Add residuals that each depend on one parameter of their frame: those from `start` on."""
        span = slice(start, start + residuals.shape[1])
        self.H.diagonal(dim1=1, dim2=2)[:, span] += by_own**2
        self.g[:, span] += by_own * residuals
        self.cost += 0.5 * (residuals**2).sum(-1)

    def add_shared(self, residuals: Float[Tensor, "k"], inverse_spread: Float[Tensor, "k"], start: int) -> None:
        """Add residuals that each depend on one shared parameter: those from `start` on."""
        span = slice(start, start + residuals.shape[0])
        self.H_shared.diagonal()[span] += inverse_spread**2
        self.g_shared[span] += inverse_spread * residuals
        self.shared_cost = self.shared_cost + 0.5 * (residuals**2).sum()


class Problem(Protocol):
    """What the solver needs: a quadratic model at a point, and a way to step."""

    def linearise(self, state: State) -> NormalEquations: ...
    def step(self, state: State, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> State: ...


State = TypeVar("State")


def solve_arrow(model: NormalEquations, damping: float) -> tuple[Float[Tensor, "F D"], Float[Tensor, "Q"]] | None:
    """The step to the damped model's minimum, or None where the model is not convex enough to have one."""
    matrix = ArrowMatrix.of(model, damping)
    return None if matrix is None else matrix.solve(-model.g, -model.g_shared)


def minimise(
    problem: Problem,
    state: State,
    *,
    steps: int,
    damping: float = 1e-3,
    tolerance: float = 1e-4,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[State, float]:
    """Take up to `steps` damped Gauss-Newton steps over all frames and the shared parameters together.

    Args:
        damping: at the start; it falls after every good step and rises after every refused one.
        tolerance: the run ends when a step improves the objective by a smaller share than this.

    Returns:
        The best state and its objective; never worse than the start.

    Raises:
        ValueError: the objective is no finite number at the start, as where two frames have the same time.
    """
    model = problem.linearise(state)
    if not math.isfinite(model.total):
        raise ValueError(f"expected an objective that can be minimised, it is {model.total} at the start; look for times, points or poses that are no numbers")
    for _ in range(steps):
        step = solve_arrow(model, damping)
        candidate = None if step is None else problem.step(state, *step)
        trial = None if candidate is None else problem.linearise(candidate)
        on_step()
        if trial is None or not trial.total < model.total:
            damping *= 8
            if damping > MAX_DAMPING:
                break
            continue
        gain = (model.total - trial.total) / max(model.total, 1e-12)
        state, model, damping = candidate, trial, max(damping / 4, 1e-7)
        if gain < tolerance:
            break
    return state, model.total


def minimise_each_frame(problem: Problem, state: State, choose: Callable[[Tensor, State, State], State], *, steps: int, damping: float = 1e-2) -> tuple[State, Float[Tensor, "F"]]:
    """Take damped steps in every frame by itself: time coupling is left out, shared parameters stay, damping is the frame's own.

    Args:
        choose: joins two states by a mask over frames (True takes the first).

    Returns:
        The states and each frame's cost.
    """
    model = problem.linearise(state)
    dampings = torch.full_like(model.cost, damping)
    zero = torch.zeros_like(model.g_shared)
    for _ in range(steps):
        diagonal = model.H.diagonal(dim1=1, dim2=2)
        H = model.H + torch.diag_embed(diagonal * dampings[:, None] + 1e-9)
        factor, failed = torch.linalg.cholesky_ex(H)
        own = -torch.cholesky_solve(model.g[..., None], factor).squeeze(-1)
        own = torch.where((failed > 0)[:, None] | ~own.isfinite(), torch.zeros_like(own), own)
        candidate = problem.step(state, own, zero)
        trial = problem.linearise(candidate)
        better = trial.cost < model.cost
        state = choose(better, candidate, state)
        model.cost = torch.where(better, trial.cost, model.cost)
        model.g = torch.where(better[:, None], trial.g, model.g)
        model.H = torch.where(better[:, None, None], trial.H, model.H)
        dampings = torch.where(better, dampings / 4, dampings * 8).clamp(1e-7, MAX_DAMPING)
    return state, model.cost
