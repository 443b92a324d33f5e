"""Rotations as vectors and matrices, with the derivatives that the body fit needs.

Axes: *B leading axes. Angles are radians; a rotation vector is axis times angle. Small angles share one series, so that
every function and its derivatives hold at zero.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SMALL_ANGLE_SQUARED = 1e-8  # rad^2; below it the series is exact to float64


def cross_matrix(v: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """The matrix [v]x with [v]x w = v x w."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))


def _sinc_terms(theta: Float[Tensor, "*B 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """sin(a)/a, (1 - cos a)/a^2 and (a - sin a)/a^3 of the angle a of each rotation vector, shaped [*B 1 1]."""
    squared = (theta * theta).sum(-1)[..., None, None]
    small = squared < SMALL_ANGLE_SQUARED
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    second = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / safe)
    third = torch.where(small, 1 / 6 - squared / 120, (angle - angle.sin()) / (safe * angle))
    return first, second, third


def rotation_from_vector(theta: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Rodrigues' formula: R = 1 + sin(a)/a [theta]x + (1 - cos a)/a^2 [theta]x^2."""
    first, second, _ = _sinc_terms(theta)
    K = cross_matrix(theta)
    return torch.eye(3, dtype=theta.dtype, device=theta.device) + first * K + second * (K @ K)


def left_jacobian(theta: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """J with R(theta + d) = R(J d) R(theta) to first order: how a change of the vector turns the body."""
    _, second, third = _sinc_terms(theta)
    K = cross_matrix(theta)
    return torch.eye(3, dtype=theta.dtype, device=theta.device) + second * K + third * (K @ K)


def vector_from_rotation(R: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3"]:
    """The rotation vector of a matrix, its angle in 0..pi; stable near both ends (by way of the quaternion)."""
    m = R.flatten(-2)
    xx, yy, zz = m[..., 0], m[..., 4], m[..., 8]
    squares = torch.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1)
    largest = squares.argmax(-1)
    wx, wy, wz = m[..., 7] - m[..., 5], m[..., 2] - m[..., 6], m[..., 3] - m[..., 1]
    xy, xz, yz = m[..., 1] + m[..., 3], m[..., 2] + m[..., 6], m[..., 5] + m[..., 7]
    table = torch.stack(
        [
            torch.stack([squares[..., 0], wx, wy, wz], -1),
            torch.stack([wx, squares[..., 1], xy, xz], -1),
            torch.stack([wy, xy, squares[..., 2], yz], -1),
            torch.stack([wz, xz, yz, squares[..., 3]], -1),
        ],
        -2,
    )
    q = torch.take_along_dim(table, largest[..., None, None], -2).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    small = sine < 1e-7
    scale = torch.where(small, torch.full_like(sine, 2.0), 2 * torch.atan2(sine, q[..., :1]) / sine.clamp_min(1e-30))
    return q[..., 1:] * scale


def rotation_between(a: Float[Tensor, "*B 3"], b: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """The smallest rotation that carries direction `a` to direction `b`."""
    a, b = unit(a), unit(b)
    axis = torch.linalg.cross(a, b)
    sine, cosine = axis.norm(dim=-1, keepdim=True), (a * b).sum(-1, keepdim=True)
    side = torch.linalg.cross(a, torch.eye(3, dtype=a.dtype, device=a.device)[a.abs().argmin(-1)])  # any axis for a half turn
    axis = torch.where(sine < 1e-7, unit(side), axis / sine.clamp_min(1e-12))
    return rotation_from_vector(axis * torch.atan2(sine, cosine))


def unit(v: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """The direction of a vector."""
    return v / v.norm(dim=-1, keepdim=True).clamp_min(1e-12)
