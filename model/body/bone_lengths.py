"""Bone lengths as further shape coefficients: what a learnt or baked shape space cannot say about one person's proportions.

A coefficient of 1 makes its bones a tenth longer. The change is linear in the coefficient, so a body with these directions
is fitted, posed and saved like any other. With rest joints J_k, a bone b from joint j to its child c, and skinning weights w:

    joints that hang from b move by b;  a vertex moves by  sum_j w_vj (D_j + t_v b),   t_v = clip((v - J_j) b / |b|^2, 0, 1)

D_j being how far joint j itself moves. Joint axis J, vertex axis V, metres.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

LENGTHENING = 0.1  # of a bone, for a coefficient of 1
# the child joint at the end of each bone that a coefficient lengthens; left and right go together
BONE_LENGTHS: dict[str, tuple[str, ...]] = {
    "upper_arm_length": ("left_elbow", "right_elbow"),
    "forearm_length": ("left_wrist", "right_wrist"),
    "thigh_length": ("left_knee", "right_knee"),
    "shin_length": ("left_ankle", "right_ankle"),
    "foot_length": ("left_foot", "right_foot"),
    "spine_length": ("spine1", "spine2", "spine3"),
    "neck_length": ("neck", "head"),
    "collar_length": ("left_shoulder", "right_shoulder"),
}


def bone_length_directions(
    vertices: Float[Tensor, "V 3"],
    joints: Float[Tensor, "J 3"],
    parents: Int[Tensor, "J"],
    lbs_weights: Float[Tensor, "V J"],
    joint_names: tuple[str, ...],
) -> tuple[Float[Tensor, "V 3 S"], Float[Tensor, "J 3 S"], tuple[str, ...]]:
    """How surface and joints move with each bone length that this skeleton has.

    Returns:
        Change of vertices and of joints per unit coefficient, metres, and the coefficients' names.
    """
    names = tuple(name for name, ends in BONE_LENGTHS.items() if all(end in joint_names for end in ends))
    by_vertex, by_joint = [], []
    for name in names:
        ends = [joint_names.index(end) for end in BONE_LENGTHS[name]]
        bones = {end: LENGTHENING * (joints[end] - joints[parents[end]]) for end in ends}
        moved = torch.zeros_like(joints)
        for k in range(1, len(joints)):  # parents come before their children
            moved[k] = moved[parents[k]] + bones.get(k, 0)
        change = lbs_weights @ moved
        for end, bone in bones.items():
            start = int(parents[end])
            whole = joints[end] - joints[start]
            along = ((vertices - joints[start]) @ whole / (whole @ whole)).clamp(0, 1)
            change = change + (lbs_weights[:, start] * along)[:, None] * bone
        by_vertex.append(change)
        by_joint.append(moved)
    empty = vertices.new_zeros(0)
    stack = lambda parts, like: torch.stack(parts, -1) if parts else empty.expand(*like.shape, 0)  # noqa: E731
    return stack(by_vertex, vertices), stack(by_joint, joints), names
