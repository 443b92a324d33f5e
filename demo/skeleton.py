"""The generated person's bones: rest joints, forward kinematics, and legs that reach given footholds.

Axes: F frames, J = 24 joints in SMPL's order. Metres and radians; y up, the rest pose faces +z, left is +x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

PELVIS, SPINE1, SPINE2, SPINE3, NECK, HEAD = 0, 3, 6, 9, 12, 15
HIP, KNEE, ANKLE, TOES = (1, 2), (4, 5), (7, 8), (10, 11)  # left, right
CLAVICLE, SHOULDER, ELBOW, WRIST, HAND = (13, 14), (16, 17), (18, 19), (20, 21), (22, 23)
STRETCH = 0.9985  # a leg never gets longer than this share of its bones: a locked knee would jerk


@dataclass(frozen=True)
class Skeleton:
    """Bones at rest.

    Attributes:
        joints: rest positions, metres.
        parents: parent of each joint, -1 for the root.
        ankle_height: how far the ankles stand above the floor when the soles lie flat, metres.
    """

    joints: Float[np.ndarray, "J 3"]
    parents: Int[np.ndarray, "J"]
    ankle_height: float


def joint_transforms(
    skeleton: Skeleton, global_orient: np.ndarray, body_pose: np.ndarray, transl: np.ndarray
) -> tuple[Float[np.ndarray, "F J 4 4"], Float[np.ndarray, "F J 3"]]:
    """Pose the bones: rest-to-posed transforms, and where the joints are in the world, metres (SMPL's convention)."""
    frames, count = len(transl), len(skeleton.parents)
    local = Rotation.from_rotvec(np.concatenate([global_orient[:, None], body_pose], 1).reshape(-1, 3)).as_matrix()
    local = local.reshape(frames, count, 3, 3)
    turns, places = np.empty((frames, count, 3, 3)), np.empty((frames, count, 3))
    for j, parent in enumerate(skeleton.parents):
        if parent < 0:
            turns[:, j], places[:, j] = local[:, j], skeleton.joints[j] + transl
        else:
            turns[:, j] = turns[:, parent] @ local[:, j]
            places[:, j] = places[:, parent] + turns[:, parent] @ (skeleton.joints[j] - skeleton.joints[parent])
    transforms = np.tile(np.eye(4), (frames, count, 1, 1))
    transforms[..., :3, :3] = turns
    transforms[..., :3, 3] = places - np.einsum("fjab,jb->fja", turns, skeleton.joints)
    return transforms, places


@dataclass(frozen=True)
class Leg:
    """Local rotations of one leg, [F, 3, 3] each, and how the knee bends, rad."""

    hip: np.ndarray
    knee: np.ndarray
    ankle: np.ndarray
    flexion: np.ndarray


def reach_with_leg(
    skeleton: Skeleton, side: int, pelvis: np.ndarray, pelvis_turn: np.ndarray, ankle: np.ndarray, foot_turn: np.ndarray,
    knee_towards: np.ndarray,
) -> Leg:  # fmt: skip
    """Bend hip, knee and ankle so that the foot is where it must be (two bones, one hinge).

    Args:
        side: 0 left, 1 right.
        pelvis, pelvis_turn: root joint in the world: [F, 3] m, [F, 3, 3].
        ankle, foot_turn: wanted ankle and orientation of the foot in the world: [F, 3] m, [F, 3, 3].
        knee_towards: [F, 3] direction that the knee points to.
    """
    at = skeleton.joints
    thigh, shin = at[KNEE[side]] - at[HIP[side]], at[ANKLE[side]] - at[KNEE[side]]
    long, short = np.linalg.norm(thigh), np.linalg.norm(shin)
    hip = pelvis + pelvis_turn @ (at[HIP[side]] - at[PELVIS])
    line = ankle - hip
    distance = np.linalg.norm(line, axis=1, keepdims=True)
    along = line / distance
    distance = np.minimum(distance, STRETCH * (long + short))
    hinge = _unit(np.cross(knee_towards, along))
    cosine = np.clip((long**2 + distance**2 - short**2) / (2 * long * distance), -1, 1)
    knee = hip + long * (cosine * along + np.sqrt(1 - cosine**2) * np.cross(along, hinge))
    reached = hip + distance * along
    thigh_turn = _frame(_unit(knee - hip), hinge) @ _frame(_unit(thigh)[None], np.array([[1.0, 0, 0]])).transpose(0, 2, 1)
    shin_turn = _frame(_unit(reached - knee), hinge) @ _frame(_unit(shin)[None], np.array([[1.0, 0, 0]])).transpose(0, 2, 1)
    flexion = np.arccos(np.clip((_unit(knee - hip) * _unit(reached - knee)).sum(1), -1, 1))
    return Leg(
        hip=pelvis_turn.transpose(0, 2, 1) @ thigh_turn,
        knee=thigh_turn.transpose(0, 2, 1) @ shin_turn,
        ankle=shin_turn.transpose(0, 2, 1) @ foot_turn,
        flexion=flexion,
    )


def highest_pelvis(skeleton: Skeleton, side: int, pelvis: np.ndarray, pelvis_turn: np.ndarray, ankle: np.ndarray) -> Float[np.ndarray, "F"]:
    """The greatest height of the pelvis at which the leg still reaches its foothold, metres."""
    at = skeleton.joints
    length = STRETCH * (np.linalg.norm(at[KNEE[side]] - at[HIP[side]]) + np.linalg.norm(at[ANKLE[side]] - at[KNEE[side]]))
    offset = pelvis_turn @ (at[HIP[side]] - at[PELVIS])
    flat = (pelvis + offset - ankle)[:, [0, 2]]
    rise = np.sqrt(np.maximum(length**2 - (flat**2).sum(1), 1e-4))
    return ankle[:, 1] + rise - offset[:, 1]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Orthonormal axes, in columns: `first`, `second` made perpendicular to it, and their cross product."""
    second = _unit(second - (first * second).sum(-1, keepdims=True) * first)
    return np.stack([first, second, np.cross(first, second)], axis=-1)
