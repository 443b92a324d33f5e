"""Levenberg-Marquardt over all frames of a clip: dense within a frame, a band in time, and a few parameters shared by all.

Axes: F frames, D parameters of a frame, Q shared parameters, n residuals of a frame. The normal equations have the shape of
an arrow: blocks [D, D] along the diagonal, time coupling between a frame and the next two (diagonal in D), and Q dense
columns for what all frames share. A banded Cholesky factorisation solves 120 frames of 75 parameters in some 40 ms.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeVar

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float, Int
from threadpoolctl import ThreadpoolController
from torch import Tensor

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
        by_shared: Float[Tensor, "F n C"] | None = None,
        columns: Int[Tensor, "C"] | None = None,
    ) -> None:
        """Add weighted residuals.

        Args:
            cost: theirs (of the robust kernel, where the weights come from one).
            by_shared: how they change with the shared parameters named by `columns`; with all of them where it is None.
        """
        weighted = by_own * weights[..., None]
        self.H += weighted.mT @ by_own
        self.g += (weighted.mT @ residuals[..., None]).squeeze(-1)
        self.cost += cost
        if by_shared is not None and by_shared.shape[-1]:
            columns = torch.arange(self.g_shared.numel()) if columns is None else columns
            self.H_mixed[..., columns] += weighted.mT @ by_shared
            scaled = (by_shared * weights[..., None]).flatten(0, 1)
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


def _banded(model: NormalEquations, damping: float) -> np.ndarray:
    """The frames' part of the matrix in LAPACK's lower band storage: entry (i, j) at [i - j, j]."""
    F, D = model.g.shape
    band = np.zeros((2 * D + 1, F * D))
    rows, columns = np.tril_indices(D)
    blocks = model.H.numpy()
    for frame in range(F):
        band[rows - columns, frame * D + columns] = blocks[frame][rows, columns]
    band[0] *= 1 + damping
    band[D] = model.next_one.numpy().ravel()
    band[2 * D] = model.next_two.numpy().ravel()
    if model.next_block.any():
        i, j = (index.ravel() for index in np.indices((D, D)))
        couplings = model.next_block.numpy()
        for frame in range(F - 1):
            band[D + i - j, frame * D + j] += couplings[frame][i, j]
    return band


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread() -> contextlib.AbstractContextManager:
    """BLAS on one core: the blocks of a band are so small that handing them to a second costs several times what they do."""
    return _threads().limit(limits=1, user_api="blas")


class ArrowMatrix:
    """The damped matrix of normal equations, factored once; it solves for many sides and multiplies.

    Raises:
        LinAlgError (numpy's or torch's): the model is not convex enough to have a minimum.
    """

    def __init__(self, model: NormalEquations, damping: float) -> None:
        self.model, self.damping = model, damping
        with _one_thread():
            self.factor = scipy.linalg.cholesky_banded(_banded(model, damping), lower=True, overwrite_ab=True, check_finite=False)
        self.mixed = model.H_mixed.flatten(0, 1)
        if self.num_shared:
            self.solved_mixed = self._solve_frames(self.mixed)
            self.shared = model.H_shared + torch.diag(damping * model.H_shared.diagonal())
            self.schur = torch.linalg.cholesky(self.shared - self.mixed.T @ self.solved_mixed)

    @property
    def num_shared(self) -> int:
        return self.model.g_shared.numel()

    def _solve_frames(self, sides: Float[Tensor, "FD n"]) -> Float[Tensor, "FD n"]:
        with _one_thread():
            return torch.from_numpy(scipy.linalg.cho_solve_banded((self.factor, True), sides.numpy(), check_finite=False))

    def solve(self, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> tuple[Float[Tensor, "F D"], Float[Tensor, "Q"]]:
        """The vector that the matrix takes to (own, shared)."""
        frames = self._solve_frames(own.reshape(-1, 1))[:, 0]
        if not self.num_shared:
            return frames.reshape(own.shape), shared
        found = torch.cholesky_solve((shared - self.mixed.T @ frames)[:, None], self.schur)[:, 0]
        return (frames - self.solved_mixed @ found).reshape(own.shape), found

    def apply(self, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> tuple[Float[Tensor, "F D"], Float[Tensor, "Q"]]:
        """The matrix times (own, shared)."""
        m = self.model
        out = (m.H @ own[..., None]).squeeze(-1) + self.damping * m.H.diagonal(dim1=1, dim2=2) * own
        for gap, coupling in ((1, m.next_one), (2, m.next_two)):
            out[:-gap] += coupling[:-gap] * own[gap:]
            out[gap:] += coupling[:-gap] * own[:-gap]
        out[1:] += (m.next_block[:-1] @ own[:-1, :, None]).squeeze(-1)
        out[:-1] += (m.next_block[:-1].mT @ own[1:, :, None]).squeeze(-1)
        if not self.num_shared:
            return out, shared
        return out + m.H_mixed @ shared, self.mixed.T @ own.flatten() + self.shared @ shared


def solve_arrow(model: NormalEquations, damping: float) -> tuple[Float[Tensor, "F D"], Float[Tensor, "Q"]] | None:
    """The step to the damped model's minimum, or None where the model is not convex enough to have one."""
    try:
        return ArrowMatrix(model, damping).solve(-model.g, -model.g_shared)
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError):
        return None


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
    """
    model = problem.linearise(state)
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
