"""Linear algebra of an arrow: a symmetric matrix [[A, B], [B^T, C]] whose A couples a frame with the next two only.

Axes: F frames, D parameters of a frame, Q shared parameters, K = ceil(F / 2) pairs of frames, E = 2 D, R right-hand sides.
Two frames together make A block-tridiagonal, and a Cholesky factorisation goes from pair to pair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from model.fitting.solver import NormalEquations


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one core: the blocks are so small that handing them to a second costs more than they do, far more on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class BandFactor:
    """A factorised band A: what is left of each pair's block after the pairs before it, and the couplings.

    Attributes:
        factors: lower Cholesky factors of A_k - G_{k-1} E_{k-1}^T.
        gains: G_k = E_k S_k^-1, S_k the block that `factors` holds; E_k couples pair k + 1 (rows) with pair k.
        num_frames: F.
    """

    factors: list[Float[Tensor, "E E"]]
    gains: list[Float[Tensor, "E E"]]
    num_frames: int

    @one_thread()
    def solve(self, sides: Float[Tensor, "F D R"]) -> Float[Tensor, "F D R"]:
        """A^-1 times some columns."""
        odd, D = self.num_frames % 2, sides.shape[1]
        columns = list(torch.nn.functional.pad(sides, (0, 0, 0, 0, 0, odd)).reshape(-1, 2 * D, sides.shape[2]).unbind(0))
        for k, gain in enumerate(self.gains):
            columns[k + 1] = columns[k + 1] - gain @ columns[k]
        solved = [torch.cholesky_solve(columns[-1], self.factors[-1])]
        for k in range(len(self.gains) - 1, -1, -1):
            solved.append(torch.cholesky_solve(columns[k], self.factors[k]) - self.gains[k].mT @ solved[-1])
        return torch.stack(solved[::-1]).reshape(-1, D, sides.shape[2])[: self.num_frames]

    @one_thread()
    def inverse_blocks(self) -> Float[Tensor, "F D D"]:
        """The blocks of A^-1 on its diagonal: the covariance of each frame's parameters."""
        inverse = torch.cholesky_inverse(self.factors[-1])
        blocks = [inverse]
        for k in range(len(self.gains) - 1, -1, -1):
            inverse = torch.cholesky_inverse(self.factors[k]) + self.gains[k].mT @ inverse @ self.gains[k]
            blocks.append(inverse)
        D = inverse.shape[0] // 2
        pairs = torch.stack(blocks[::-1])
        return torch.stack([pairs[:, :D, :D], pairs[:, D:, D:]], 1).flatten(0, 1)[: self.num_frames]


@dataclass(frozen=True)
class ArrowMatrix:
    """The damped matrix of normal equations, factorised: it solves and multiplies.

    Attributes:
        model, damping: what it was made from.
        band: A's factors.
        solved_mixed: A^-1 B.
        shared, schur: C, and the lower Cholesky factor of C - B^T A^-1 B.
    """

    model: NormalEquations
    damping: float
    band: BandFactor
    solved_mixed: Float[Tensor, "F D Q"]
    shared: Float[Tensor, "Q Q"]
    schur: Float[Tensor, "Q Q"]

    @staticmethod
    def of(model: NormalEquations, damping: float) -> ArrowMatrix | None:
        """Factorise, with every diagonal raised by a share of itself; None where that is not positive definite."""
        band = factorise(model, damping)
        if band is None:
            return None
        if not model.g_shared.numel():
            return ArrowMatrix(model, damping, band, model.H_mixed, model.H_shared, model.H_shared)
        solved = band.solve(model.H_mixed)
        shared = model.H_shared + torch.diag(damping * model.H_shared.diagonal())
        schur, failed = torch.linalg.cholesky_ex(shared - model.H_mixed.flatten(0, 1).T @ solved.flatten(0, 1))
        return None if failed else ArrowMatrix(model, damping, band, solved, shared, schur)

    def solve(self, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> tuple[Float[Tensor, "F D"], Float[Tensor, "Q"]]:
        """The vector that the matrix takes to (own, shared)."""
        frames = self.band.solve(own[..., None]).squeeze(-1)
        if not shared.numel():
            return frames, shared
        left = shared - torch.einsum("fdq,fd->q", self.model.H_mixed, frames)
        found = torch.cholesky_solve(left[:, None], self.schur).squeeze(-1)
        return frames - self.solved_mixed @ found, found

    def apply(self, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> tuple[Float[Tensor, "F D"], Float[Tensor, "Q"]]:
        """The matrix times (own, shared)."""
        m = self.model
        out = (m.H @ own[..., None]).squeeze(-1) + self.damping * m.H.diagonal(dim1=1, dim2=2) * own + m.H_mixed @ shared
        for gap, coupling in ((1, m.next_one), (2, m.next_two)):
            out[:-gap] += coupling[:-gap] * own[gap:]
            out[gap:] += coupling[:-gap] * own[:-gap]
        out[1:] += (m.next_block[:-1] @ own[:-1, :, None]).squeeze(-1)
        out[:-1] += (m.next_block[:-1].mT @ own[1:, :, None]).squeeze(-1)
        return out, torch.einsum("fdq,fd->q", m.H_mixed, own) + self.shared @ shared


@one_thread()
def factorise(model: NormalEquations, damping: float) -> BandFactor | None:
    """Factorise A with its diagonal raised by a share of itself; None where it is not positive definite."""
    diagonal, below = _pairs_of_frames(model, damping)
    reduced, factors, gains = diagonal[0], [], []
    for k in range(len(diagonal)):
        factor, failed = torch.linalg.cholesky_ex(reduced)
        if failed:
            return None
        factors.append(factor)
        if k + 1 < len(diagonal):
            gains.append(torch.cholesky_solve(below[k].mT, factor).mT)
            reduced = diagonal[k + 1] - gains[k] @ below[k].mT
    return BandFactor(factors, gains, len(model.g))


def _pairs_of_frames(model: NormalEquations, damping: float) -> tuple[Float[Tensor, "K E E"], Float[Tensor, "K-1 E E"]]:
    """The blocks of two frames each on the diagonal and below it; a last frame without a partner gets one that stands alone."""
    F, D = model.g.shape
    odd = F % 2
    pad = lambda values: torch.nn.functional.pad(values, (0, 0) * (values.ndim - 1) + (0, odd))  # noqa: E731
    H, next_two, next_one = pad(model.H), pad(model.next_two), pad(model.next_block + torch.diag_embed(model.next_one))
    H = H + torch.diag_embed(damping * H.diagonal(dim1=1, dim2=2))
    if odd:
        H[-1] = torch.eye(D, dtype=H.dtype)
    diagonal = H.new_empty(len(H) // 2, 2 * D, 2 * D)
    diagonal[:, :D, :D], diagonal[:, D:, D:] = H[0::2], H[1::2]
    diagonal[:, D:, :D], diagonal[:, :D, D:] = next_one[0::2], next_one[0::2].mT
    below = H.new_zeros(len(diagonal) - 1, 2 * D, 2 * D)
    below[:, :D, :D] = torch.diag_embed(next_two[0:-2:2])
    below[:, :D, D:] = next_one[1:-1:2]
    below[:, D:, D:] = torch.diag_embed(next_two[1:-1:2])
    return diagonal, below
