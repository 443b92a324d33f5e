"""Points of the posed body, and how they move with every parameter: the Jacobians of linear blend skinning, in closed form.

Axes: F frames, P points, J joints, S shape coefficients, D = 6 + 3 (J - 1) motion parameters of one frame, in this order:
a turn of the root in world axes, a shift of the root, the rotation vectors of the other joints. Lengths are metres.

A *blended point* is any fixed mixture of skinned rest vertices and joints: a landmark, a centre of mass, a vertex. With
skinning transforms (R_k, b_k) it is linear in two moments of its mixture,

    x = sum_k  R_k m_k + w_k b_k,      w_k = sum_v c_v w_vk,   m_k = sum_v c_v w_vk v^rest

so its cost does not depend on how many vertices it mixes. Turning joint j by a small world rotation o moves x by
o x c_j, where c_j = sum over the joints k below j of (R_k m_k + w_k b_k - w_k p_j), p_j being the joint's place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.fitting.rotations import left_jacobian, rotation_from_vector


@dataclass(frozen=True)
class Skeleton:
    """What the fit needs of a body model: a rest shape that is linear in betas, and a tree of joints.

    Attributes:
        parents: parent of each joint, the root's is -1.
        joints, joints_by_beta: rest joints and their change with each coefficient.
        below: 1 where joint k is j or hangs below it, at [j, k].
    """

    parents: Int[Tensor, "J"]
    joints: Float[Tensor, "J 3"]
    joints_by_beta: Float[Tensor, "J 3 S"]
    below: Float[Tensor, "J J"]


def make_skeleton(parents: Int[Tensor, "J"], joints: Float[Tensor, "J 3"], joints_by_beta: Float[Tensor, "J 3 S"]) -> Skeleton:
    """Work out who hangs below whom. Parents must come before their children."""
    num_joints = parents.numel()
    below = torch.eye(num_joints, dtype=joints.dtype)
    for k in range(num_joints - 1, 0, -1):
        below[int(parents[k])] += below[k]
    return Skeleton(parents, joints, joints_by_beta, below)


@dataclass(frozen=True)
class BlendedPoints:
    """Fixed mixtures of rest vertices and joints, by their moments.

    Attributes:
        weights: w_pk.
        moments, moments_by_beta: m_pk at betas 0, and its change with each coefficient.
    """

    weights: Float[Tensor, "P J"]
    moments: Float[Tensor, "P J 3"]
    moments_by_beta: Float[Tensor, "P J 3 S"]

    def __getitem__(self, rows: Tensor | slice) -> BlendedPoints:
        return BlendedPoints(self.weights[rows], self.moments[rows], self.moments_by_beta[rows])

    def mix(self, mixture: Float[Tensor, "Q P"]) -> BlendedPoints:
        """Mixtures of these points."""
        return BlendedPoints(
            mixture @ self.weights,
            torch.einsum("qp,pkx->qkx", mixture, self.moments),
            torch.einsum("qp,pkxs->qkxs", mixture, self.moments_by_beta),
        )


def concatenate(*parts: BlendedPoints) -> BlendedPoints:
    """All points of several sets, in order."""
    return BlendedPoints(*(torch.cat([getattr(p, name) for p in parts]) for name in ("weights", "moments", "moments_by_beta")))


def points_of_vertices(
    vertices: Float[Tensor, "P 3"], vertices_by_beta: Float[Tensor, "P 3 S"], lbs_weights: Float[Tensor, "P J"]
) -> BlendedPoints:
    """Vertices as blended points."""
    return BlendedPoints(
        lbs_weights, lbs_weights[:, :, None] * vertices[:, None], lbs_weights[:, :, None, None] * vertices_by_beta[:, None]
    )


def points_of_joints(skeleton: Skeleton) -> BlendedPoints:
    """The joints as blended points, each following itself."""
    eye = torch.eye(skeleton.joints.shape[0], dtype=skeleton.joints.dtype)
    return points_of_vertices(skeleton.joints, skeleton.joints_by_beta, eye)


@dataclass(frozen=True)
class Posed:
    """A body posed in some frames.

    Attributes:
        R, b: skinning transforms x = R x_rest + b.
        b_by_beta: change of b with each shape coefficient.
        joints: where the joints are.
        turn_axes: world axis about which each pose parameter turns its joint's subtree, one a column.
    """

    R: Float[Tensor, "F J 3 3"]
    b: Float[Tensor, "F J 3"]
    b_by_beta: Float[Tensor, "F J 3 S"]
    joints: Float[Tensor, "F J 3"]
    turn_axes: Float[Tensor, "F J 3 3"]


def pose_skeleton(
    skeleton: Skeleton,
    betas: Float[Tensor, "S"],
    root_rotation: Float[Tensor, "F 3 3"],
    transl: Float[Tensor, "F 3"],
    body_pose: Float[Tensor, "F J-1 3"],
) -> Posed:
    """Forward kinematics with the derivatives that `jacobian` needs."""
    rest = skeleton.joints + skeleton.joints_by_beta @ betas
    local = rotation_from_vector(body_pose)
    R, places, by_beta = [root_rotation], [rest[0] + transl], [skeleton.joints_by_beta[0].expand(transl.shape[0], -1, -1)]
    for k in range(1, rest.shape[0]):
        p = int(skeleton.parents[k])
        R.append(R[p] @ local[:, k - 1])
        places.append(places[p] + R[p] @ (rest[k] - rest[p]))
        by_beta.append(by_beta[p] + R[p] @ (skeleton.joints_by_beta[k] - skeleton.joints_by_beta[p]))
    R, joints = torch.stack(R, 1), torch.stack(places, 1)
    b = joints - (R @ rest[..., None]).squeeze(-1)
    b_by_beta = torch.stack(by_beta, 1) - R @ skeleton.joints_by_beta
    root_axes = torch.eye(3, dtype=R.dtype).expand(R.shape[0], 1, 3, 3)
    axes = torch.cat([root_axes, R[:, skeleton.parents[1:]] @ left_jacobian(body_pose)], 1)
    return Posed(R, b, b_by_beta, joints, axes)


def _moments_at(points: BlendedPoints, betas: Float[Tensor, "S"]) -> Float[Tensor, "P J 3"]:
    return points.moments + points.moments_by_beta @ betas


def _parts(points: BlendedPoints, posed: Posed, betas: Float[Tensor, "S"]) -> Float[Tensor, "F P J 3"]:
    """What each joint contributes to each point."""
    turned = torch.einsum("fkxy,pky->fpkx", posed.R, _moments_at(points, betas))
    return turned + points.weights[..., None] * posed.b[:, None]


def place(points: BlendedPoints, posed: Posed, betas: Float[Tensor, "S"]) -> Float[Tensor, "F P 3"]:
    """Where blended points are, metres."""
    return torch.einsum("fkxy,pky->fpx", posed.R, _moments_at(points, betas)) + torch.einsum("pk,fkx->fpx", points.weights, posed.b)


@dataclass(frozen=True)
class SurfacePoints:
    """Rest vertices that can be picked one by one in each frame.

    Attributes:
        vertices, vertices_by_beta: rest places at betas 0, and their change with each coefficient.
        lbs_weights: share of each joint in each vertex.
    """

    vertices: Float[Tensor, "V 3"]
    vertices_by_beta: Float[Tensor, "V 3 S"]
    lbs_weights: Float[Tensor, "V J"]


def jacobian(
    skeleton: Skeleton, points: BlendedPoints, posed: Posed, betas: Float[Tensor, "S"]
) -> tuple[Float[Tensor, "F P 3"], Float[Tensor, "F P 3 D"], Float[Tensor, "F P 3 S"]]:
    """Where blended points are, and how they move with each motion parameter and each shape coefficient."""
    parts = _parts(points, posed, betas)
    by_beta = torch.einsum("fkxy,pkys->fpxs", posed.R, points.moments_by_beta)
    by_beta = by_beta + torch.einsum("pk,fkxs->fpxs", points.weights, posed.b_by_beta)
    return parts.sum(2), _by_motion(skeleton, posed, parts, points.weights[None]), by_beta


def place_surface(
    surface: SurfacePoints, rows: Int[Tensor, "F P"], posed: Posed, betas: Float[Tensor, "S"]
) -> Float[Tensor, "F P 3"]:
    """Where some vertices are, other ones in each frame, metres."""
    rest, weights = surface.vertices[rows] + surface.vertices_by_beta[rows] @ betas, surface.lbs_weights[rows]
    R = (weights @ posed.R.flatten(2)).unflatten(-1, (3, 3))
    return (R @ rest[..., None]).squeeze(-1) + weights @ posed.b


def surface_slopes(
    skeleton: Skeleton, surface: SurfacePoints, rows: Int[Tensor, "F P"], posed: Posed, betas: Float[Tensor, "S"],
    along: Float[Tensor, "F P 3"],
) -> tuple[Float[Tensor, "F P D"], Float[Tensor, "F P S"]]:  # fmt: skip
    """How these vertices move along a direction each, with each motion parameter and each shape coefficient."""
    rest_by_beta, weights = surface.vertices_by_beta[rows], surface.lbs_weights[rows]
    rest = surface.vertices[rows] + rest_by_beta @ betas
    parts = weights[..., None] * (torch.einsum("fkxy,fpy->fpkx", posed.R, rest) + posed.b[:, None])
    R = (weights @ posed.R.flatten(2)).unflatten(-1, (3, 3))
    in_rest = (R.mT @ along[..., None]).mT
    by_beta = (in_rest @ rest_by_beta).squeeze(-2)
    by_beta = by_beta + ((weights @ posed.b_by_beta.flatten(2)).unflatten(-1, (3, -1)) * along[..., None]).sum(-2)
    return _slopes_by_motion(skeleton, posed, parts, weights, along), by_beta


def point_slopes(
    skeleton: Skeleton, points: BlendedPoints, posed: Posed, betas: Float[Tensor, "S"], along: Float[Tensor, "F P 3"]
) -> tuple[Float[Tensor, "F P D"], Float[Tensor, "F P S"]]:
    """The same for blended points."""
    by_beta = torch.einsum("fkxy,pkys,fpx->fps", posed.R, points.moments_by_beta, along)
    by_beta = by_beta + torch.einsum("pk,fkxs,fpx->fps", points.weights, posed.b_by_beta, along)
    return _slopes_by_motion(skeleton, posed, _parts(points, posed, betas), points.weights[None], along), by_beta


def _arms(skeleton: Skeleton, posed: Posed, parts: Float[Tensor, "F P J 3"], weights: Float[Tensor, "*F P J"]) -> Float[Tensor, "F P J 3"]:
    """From each joint to what of each point hangs below it: c_j of the equation above."""
    return torch.einsum("jk,fpkx->fpjx", skeleton.below, parts) - (weights @ skeleton.below.T)[..., None] * posed.joints[:, None]


def _slopes_by_motion(
    skeleton: Skeleton, posed: Posed, parts: Float[Tensor, "F P J 3"], weights: Float[Tensor, "*F P J"], along: Float[Tensor, "F P 3"]
) -> Float[Tensor, "F P D"]:
    """How points made of these parts move along a direction each: a . (o x c) = o . (c x a)."""
    torques = torch.linalg.cross(_arms(skeleton, posed, parts, weights), along[:, :, None].expand_as(parts), dim=-1)
    turns = torch.einsum("fpjx,fjxa->fpja", torques, posed.turn_axes)
    return torch.cat([turns[:, :, 0], along * weights.sum(-1, keepdim=True), turns[:, :, 1:].flatten(2)], -1)


def _by_motion(
    skeleton: Skeleton, posed: Posed, parts: Float[Tensor, "F P J 3"], weights: Float[Tensor, "*F P J"]
) -> Float[Tensor, "F P 3 D"]:
    """How points made of these parts move with each motion parameter."""
    arms = _arms(skeleton, posed, parts, weights)
    turns = torch.linalg.cross(posed.turn_axes.mT[:, None], arms[..., None, :], dim=-1)  # [F P J 3(parameter) 3(xyz)]
    shift = torch.eye(3, dtype=arms.dtype) * weights.sum(-1)[..., None, None]
    shift = shift.expand(*arms.shape[:2], 3, 3)
    return torch.cat([turns[:, :, 0].mT, shift, turns[:, :, 1:].flatten(2, 3).mT], -1)
