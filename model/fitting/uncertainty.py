"""How surely each joint's place is known: what the objective's curvature at the fit lets it move, made honest by a generated person.

Axes: F frames, D motion parameters of a frame, Q shared parameters, J joints. Lengths are metres, camera axes.

At the fit the objective is nearly quadratic, cost = d^T H d / 2, and where its terms are the logarithms of likelihoods H^-1 is the
covariance of all parameters (Laplace's approximation). A joint's place x with the Jacobian G then has the covariance
G H^-1 G^T. It contains what the camera does not see (depth), what was hidden, and what frames around tell; it does not contain
that landmarks err together for seconds on end, nor that a limb may lie on the wrong side of depth. What is missing is one factor,
from the true errors of a generated person (`python -m benchmarks.joint_uncertainty` says how well it does on another).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from model.fitting.arrow import factorise
from model.fitting.fit import OUTLINE_RADII, Silhouettes, pair_outlines, pose_state
from model.fitting.kinematics import jacobian
from model.fitting.objective import BodyFitProblem, FitBody, Spreads
from model.fitting.observations import FitState, Observations
from model.fitting.solver import NormalEquations

JITTER = 1e-9  # share of the diagonal that keeps a matrix invertible which rounding left without
UNDERSTATED = 2.0  # true error over the predicted one, root mean squares, of a generated person (not the demo's): landmarks err together


def joint_spread(
    body: FitBody, seen: Observations, silhouettes: Silhouettes | None, spreads: Spreads, state: FitState
) -> Float[Tensor, "F J"]:
    """How far each joint is expected to lie from its true place when the roots are laid on each other, m (root mean square)."""
    return calibrated(joint_covariance(body, seen, silhouettes, spreads, state))


def calibrated(covariance: Float[Tensor, "F J 3 3"]) -> Float[Tensor, "F J"]:
    """The expected distance that a covariance stands for, m."""
    variance = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    return UNDERSTATED * variance.sqrt()


def joint_covariance(
    body: FitBody, seen: Observations, silhouettes: Silhouettes | None, spreads: Spreads, state: FitState
) -> Float[Tensor, "F J 3 3"]:
    """Covariance of every joint's place beside the root at the fit, m^2, as the objective has it."""
    pulls = None if silhouettes is None else pair_outlines(body, seen, silhouettes, state, OUTLINE_RADII[-1] * seen.height_px)
    model = BodyFitProblem(body, seen, spreads, pulls=pulls).linearise(state)
    _, by_own, by_beta = jacobian(body.skeleton, body.joints, pose_state(body, state), state.betas)
    by_own, by_beta = by_own - by_own[:, :1], by_beta - by_beta[:, :1]
    by_shared = torch.nn.functional.pad(by_beta, (0, model.g_shared.numel() - by_beta.shape[-1]))
    own, coupling, shared = covariances(model)
    through = by_shared - torch.einsum("fjxd,fdq->fjxq", by_own, coupling)  # the frame's own parameters settle for a shared one
    known = torch.einsum("fjxd,fjyd->fjxy", torch.einsum("fjxd,fde->fjxe", by_own, own), by_own)
    return known + torch.einsum("fjxq,fjyq->fjxy", through @ shared, through)


def covariances(model: NormalEquations) -> tuple[Float[Tensor, "F D D"], Float[Tensor, "F D Q"], Float[Tensor, "Q Q"]]:
    """Parts of the inverse of the whole matrix, which is an arrow [[A, B], [B^T, C]].

    Returns:
        The diagonal blocks of A^-1 (each frame's covariance were the shared parameters known), A^-1 B, and the shared
        parameters' covariance (C - B^T A^-1 B)^-1.
    """
    band = factorise(model, JITTER)
    assert band is not None, "the prior makes every frame's block positive definite"
    coupling = band.solve(model.H_mixed)
    shared = model.H_shared - torch.einsum("fdq,fdp->qp", model.H_mixed, coupling)
    return band.inverse_blocks(), coupling, torch.linalg.inv(shared + torch.diag(JITTER * shared.diagonal().abs()))
