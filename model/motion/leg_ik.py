"""Legs that reach given footholds: the smallest change of hip, knee and ankle that puts each ankle where it must be.

A knee is a hinge about the x axis of SMPL's shin. With thigh t and shin s in the world, their parts along the hinge t|, s|
and across it t_, s_, and a wanted hip-to-ankle distance d, the angle K between t_ and s_ obeys

    d^2 = |t|^2 + |s|^2 + 2 (t| s| + |t_| |s_| cos K).

So the knee is turned about its hinge until d fits, then the whole leg is swung by the smallest rotation that carries the
present hip-to-ankle direction to the wanted one, then the foot gets its wanted orientation back. A leg that already reaches
is left as it is, to rounding.

Axes: F frames, J joints. Lengths are metres; sides are 0 left, 1 right. Inside everything is float64.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from model.fitting.rotations import rotation_between, rotation_from_vector, vector_from_rotation
from model.motion.skeleton import ANKLE, HIP, KNEE, Skeleton
from model.pose import BodyPose

STRETCH = 0.9995  # a leg is never asked for more than this share of its length: a knee that locks would jerk
SAME = 1e-6  # m; a leg this near to its goal is not touched


def reach_with_legs(
    skeleton: Skeleton,
    pose: BodyPose,
    ankles: Float[Tensor, "F 2 3"],
    foot_turns: Float[Tensor, "F 2 3 3"],
) -> BodyPose:
    """Bend the legs so that both ankles stand at `ankles`, each foot turned as `foot_turns` says (world).

    What lies out of reach is approached as far as a nearly straight leg goes. The root and all else stay as they are.
    """
    exact = BodyPose(*(part.double() for part in (pose.global_orient, pose.body_pose, pose.transl)))
    skeleton = skeleton.to(torch.float64)
    transforms = skeleton.transforms(exact)
    joints = skeleton.joints(exact)
    body_pose = exact.body_pose.clone()
    for side in (0, 1):
        hip, knee, ankle = (joints[:, chain[side]] for chain in (HIP, KNEE, ANKLE))
        root_turn = transforms[:, 0, :3, :3]
        thigh_turn, shin_turn = transforms[:, HIP[side], :3, :3], transforms[:, KNEE[side], :3, :3]
        thigh, shin, wanted = knee - hip, ankle - knee, ankles[:, side].double() - hip
        bend = _knee_bend(thigh, shin, wanted.norm(dim=-1), shin_turn[..., 0])
        swing = rotation_between(thigh + (bend @ shin[..., None])[..., 0], wanted)
        new_thigh, new_shin = swing @ thigh_turn, swing @ bend @ shin_turn
        for joint, turn in (
            (HIP[side], root_turn.mT @ new_thigh),
            (KNEE[side], new_thigh.mT @ new_shin),
            (ANKLE[side], new_shin.mT @ foot_turns[:, side].double()),
        ):
            body_pose[:, joint - 1] = vector_from_rotation(turn)
    return BodyPose(pose.global_orient, body_pose.to(pose.body_pose), pose.transl)


def _knee_bend(
    thigh: Float[Tensor, "F 3"], shin: Float[Tensor, "F 3"], distance: Float[Tensor, "F"], hinge: Float[Tensor, "F 3"]
) -> Float[Tensor, "F 3 3"]:
    """The rotation of the shin about the hinge after which the ankle is `distance` from the hip."""
    thigh_along, shin_along = (thigh * hinge).sum(-1), (shin * hinge).sum(-1)
    thigh_across, shin_across = thigh - thigh_along[:, None] * hinge, shin - shin_along[:, None] * hinge
    present = torch.atan2((torch.linalg.cross(thigh_across, shin_across) * hinge).sum(-1), (thigh_across * shin_across).sum(-1))
    lengths = thigh.square().sum(-1) + shin.square().sum(-1)
    along, across = thigh_along * shin_along, thigh_across.norm(dim=-1) * shin_across.norm(dim=-1)
    longest = STRETCH * (lengths + 2 * along + 2 * across).sqrt()
    cosine = ((torch.minimum(distance, longest).square() - lengths) / 2 - along) / across.clamp_min(1e-9)
    reaches = ((thigh + shin).norm(dim=-1) - distance).abs() < SAME
    change = torch.where(reaches, torch.zeros_like(present), torch.acos(cosine.clamp(-1, 1)) - present)
    return rotation_from_vector(hinge * change[:, None])


def lower_to_reach(skeleton: Skeleton, pose: BodyPose, ankles: Float[Tensor, "F 2 3"]) -> Float[Tensor, "F"]:
    """How far the root must come down for both legs to reach their ankles, metres; 0 where they do."""
    exact = BodyPose(*(part.double() for part in (pose.global_orient, pose.body_pose, pose.transl)))
    skeleton = skeleton.to(torch.float64)
    offset = skeleton.joints(exact)[:, list(HIP)] - ankles.double()
    longest = torch.stack([_longest_leg(skeleton, side) for side in (0, 1)])
    highest = (longest.square() - offset[..., [0, 2]].square().sum(-1)).clamp_min(0).sqrt()  # of the hip above the ankle
    return (offset[..., 1] - highest).amax(dim=1).clamp_min(0)


def _longest_leg(skeleton: Skeleton, side: int) -> Float[Tensor, ""]:
    """From hip to ankle with the knee straightened about its hinge, which is the x axis, metres."""
    at = skeleton.joints_rest
    thigh, shin = at[KNEE[side]] - at[HIP[side]], at[ANKLE[side]] - at[KNEE[side]]
    return STRETCH * torch.stack([thigh[0] + shin[0], thigh[1:].norm() + shin[1:].norm()]).norm()
