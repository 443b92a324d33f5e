"""Carries MakeHuman's person from the A-pose to SMPL's T-pose and its 104 bones to SMPL's 24 joints.

Used by `bake_open_body` only. With the rotations taken once from the mean person, posing is linear in the shape.

Axes: V vertices, J joints. Lengths are metres; y up, facing +z, the left hand towards +x.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.spatial.transform import Rotation

from model.body import makehuman_data as makehuman
from model.body.makehuman_data import BaseMesh
from model.body.makehuman_surface import adjacency

JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

# Each SMPL joint as a blend of MakeHuman's bone heads; `.s` is this side, `.o` the other. The hip centres lie lower
# and nearer the middle than MakeHuman's (SMPL and anatomy agree), the spine is divided in SMPL's proportions.
JOINT_FROM_BONES = {
    "pelvis": {"spine05": 0.6, "spine03": 0.4},
    "hip": {"upperleg01.s": 0.81, "upperleg01.o": 0.13, "lowerleg01.s": 0.06},
    "knee": {"lowerleg01.s": 1.0},
    "ankle": {"foot.s": 1.0},
    "foot": {"foot.s": 0.15, "toe1-1.s": 0.425, "toe3-1.s": 0.425},
    "spine1": {"spine03": 0.86, "spine02": 0.14},
    "spine2": {"spine02": 0.55, "spine01": 0.45},
    "spine3": {"spine02": 0.19, "spine01": 0.81},
    "neck": {"neck01": 1.0},
    "head": {"neck01": 0.3, "head": 0.7},
    "collar": {"clavicle.s": 0.4, "shoulder01.s": 0.6},
    "shoulder": {"upperarm01.s": 1.0},
    "elbow": {"lowerarm01.s": 1.0},
    "wrist": {"wrist.s": 1.0},
    "hand": {"wrist.s": 0.2, "finger2-1.s": 0.3, "finger3-1.s": 0.25, "finger4-1.s": 0.25},
}

# The bone at which each SMPL joint's part begins; deeper bones belong to it until another entry takes over.
JOINT_OF_BONE = {
    "root": "pelvis", "pelvis": "pelvis", "upperleg01": "hip", "lowerleg01": "knee", "foot": "ankle",
    "toe1-1": "foot", "toe2-1": "foot", "toe3-1": "foot", "toe4-1": "foot", "toe5-1": "foot",
    "spine04": "spine1", "spine02": "spine2", "spine01": "spine3", "breast": "spine3", "neck01": "neck", "head": "head",
    "clavicle": "collar", "upperarm01": "shoulder", "lowerarm01": "elbow", "wrist": "wrist",
    "finger2-1": "hand", "finger3-1": "hand", "finger4-1": "hand", "finger5-1": "hand",
}  # fmt: skip


def rotation_between(source_a, source_b, target_a, target_b) -> np.ndarray:
    """The rotation that takes direction a exactly, and b as nearly as it can, to their targets."""

    def frame(a, b):
        a = a / np.linalg.norm(a)
        b = b - a * (a @ b)
        b = b / np.linalg.norm(b)
        return np.stack([a, b, np.cross(a, b)], axis=1)

    return frame(np.asarray(target_a, float), np.asarray(target_b, float)) @ frame(source_a, source_b).T


def twist_about_x(R: np.ndarray, share: float) -> np.ndarray:
    """Rotation about x by a share of the twist about x that R holds."""
    x, _, _, w = Rotation.from_matrix(R).as_quat()
    return Rotation.from_euler("x", share * 2 * np.arctan2(x, w)).as_matrix()


def t_pose_rotations(heads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """World rotations of the bones that leave MakeHuman's A-pose; bones that are not named follow their parents."""
    # SMPL stands with the trunk a little back and the head forward of it; rotations about x, degrees.
    bent = {bone: Rotation.from_euler("x", a, degrees=True).as_matrix() for bone, a in
            (("spine04", -1.5), ("spine03", -3.0), ("spine02", -4.0), ("spine01", -5.0), ("neck01", 0.0))}  # fmt: skip
    turned = dict(bent)
    for side, sign in (("L", 1.0), ("R", -1.0)):
        at = lambda name: heads[f"{name}.{side}"]  # noqa: B023, E731
        along, forward = np.array([sign, 0, 0]), np.array([0, 0, 1.0])
        turn = lambda degrees: Rotation.from_euler("z", sign * degrees, degrees=True).as_matrix()  # noqa: B023, E731
        turned[f"clavicle.{side}"] = turn(6) @ bent["spine01"]
        turned[f"shoulder01.{side}"] = turn(14) @ bent["spine01"]

        upper, fore = at("lowerarm01") - at("upperarm01"), at("wrist") - at("lowerarm01")
        hinge = np.cross(upper, fore)
        elbow = np.cross(along, forward)
        R_upper = rotation_between(upper, hinge, along, elbow)
        R_fore = rotation_between(fore, hinge, along, elbow)
        lift = Rotation.align_vectors(along[None], upper[None] / np.linalg.norm(upper))[0].as_matrix()
        turned[f"upperarm01.{side}"] = twist_about_x(R_upper @ lift.T, 0.5) @ lift
        turned[f"upperarm02.{side}"] = R_upper
        palm = at("finger3-1") - at("wrist")
        R_hand = rotation_between(palm, at("finger2-1") - at("finger5-1"), along, forward)
        turned[f"lowerarm01.{side}"] = twist_about_x(R_hand @ R_fore.T, 0.2) @ R_fore
        turned[f"lowerarm02.{side}"] = twist_about_x(R_hand @ R_fore.T, 0.7) @ R_fore
        turned[f"wrist.{side}"] = R_hand

        thigh, shin, foot = at("lowerleg01") - at("upperleg01"), at("foot") - at("lowerleg01"), at("toe3-1") - at("foot")
        sideways = np.array([1.0, 0, 0])
        lean = lambda out, back: np.array([sign * out, -1.0, -back])  # noqa: B023, E731
        turned[f"upperleg01.{side}"] = rotation_between(thigh, sideways, lean(0.03, 0.01), sideways)
        turned[f"lowerleg01.{side}"] = rotation_between(shin, sideways, lean(-0.02, 0.115), sideways)
        yaw = np.arctan2(sign * np.tan(np.radians(9)), 1.0) - np.arctan2(foot[0], foot[2])
        turned[f"foot.{side}"] = Rotation.from_euler("y", yaw).as_matrix()
    return turned


class Rig:
    """MakeHuman's bones, posed into the T-pose with rotations taken once from the mean person."""

    def __init__(self, root: Path, mesh: BaseMesh, mean: np.ndarray) -> None:
        self.names, self.parents, self.head_ids = makehuman.load_rig(root, mesh)
        self.weights = makehuman.load_weights(root, self.names, len(mesh.vertices))
        body = np.unique(mesh.quads["body"])
        self.weights[body] = smooth_weights(self.weights, mesh.quads["body"], steps=6)[body]  # else unbent elbows crease
        turned = t_pose_rotations(dict(zip(self.names, self.heads(mean), strict=True)))
        self.rotations: list[np.ndarray] = []
        for name, parent in zip(self.names, self.parents, strict=True):
            self.rotations.append(turned.get(name, self.rotations[parent] if parent >= 0 else np.eye(3)))

    def heads(self, vertices: np.ndarray) -> np.ndarray:
        return np.stack([vertices[ids].mean(axis=0) for ids in self.head_ids])

    def t_pose(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and bone heads in the T-pose: linear in the vertices."""
        heads = self.heads(vertices)
        posed = np.empty_like(heads)
        out = np.zeros_like(vertices)
        for bone, (parent, R) in enumerate(zip(self.parents, self.rotations, strict=True)):
            posed[bone] = heads[bone] if parent < 0 else posed[parent] + self.rotations[parent] @ (heads[bone] - heads[parent])
            rows = np.flatnonzero(self.weights[:, bone])
            out[rows] += self.weights[rows, bone, None] * ((vertices[rows] - heads[bone]) @ R.T + posed[bone])
        return out, posed

    def smpl_joints(self, posed_heads: np.ndarray) -> np.ndarray:
        """SMPL's 24 joints from posed bone heads."""
        joints = []
        for name in JOINT_NAMES:
            side, _, part = name.rpartition("_")
            this, other = ("L", "R") if side == "left" else ("R", "L")
            blend = JOINT_FROM_BONES[part]
            joints.append(sum(w * posed_heads[self.names.index(b.replace(".s", f".{this}").replace(".o", f".{other}"))] for b, w in blend.items()))
        return np.stack(joints)

    def smpl_weights(self) -> np.ndarray:
        """Weights [V, 24]: each bone's share goes to the SMPL joint whose part it lies in."""
        merged = np.zeros((len(self.weights), 24))
        joint_of: list[int] = []
        for bone, name in enumerate(self.names):
            stem, _, side = name.partition(".")
            if stem in JOINT_OF_BONE:
                part = JOINT_OF_BONE[stem]
                joint = part if part in JOINT_NAMES else f"{'left' if side == 'L' else 'right'}_{part}"
                joint_of.append(JOINT_NAMES.index(joint))
            else:
                joint_of.append(joint_of[self.parents[bone]])
            merged[:, joint_of[bone]] += self.weights[:, bone]
        return merged


def spine_weights(weights: np.ndarray, vertices: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Divide the trunk's share anew, between SMPL's spine joints, by the height along the spine.

    Each joint hands over to the next with a smooth step centred a little above the joint.
    """
    trunk = [JOINT_NAMES.index(name) for name in ("pelvis", "spine1", "spine2", "spine3")]
    share = weights[:, trunk].sum(axis=1)
    y = vertices[:, 1]
    out = weights.copy()
    above = np.ones_like(y)
    levels = []
    for joint, half in zip(trunk[1:], (0.055, 0.06, 0.06), strict=True):
        t = np.clip((y - joints[joint, 1] + half) / (2 * half), 0, 1)
        levels.append(t * t * (3 - 2 * t))
    for column, (lower, upper) in zip(trunk, zip([above, *levels], [*levels, np.zeros_like(y)], strict=True), strict=True):
        out[:, column] = share * np.clip(lower - upper, 0, None)
    return out / out.sum(axis=1, keepdims=True)


def smooth_weights(weights: np.ndarray, faces: np.ndarray, steps: int) -> np.ndarray:
    """Average weights with the neighbours' a few times: no seams between parts."""
    graph = adjacency(faces, len(weights))
    mean = sparse.diags(1 / np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1)) @ graph
    for _ in range(steps):
        weights = 0.5 * weights + 0.5 * (mean @ weights)
    return weights


def keep_largest(weights: np.ndarray, count: int) -> np.ndarray:
    """Only the largest influences of each vertex, summing to 1."""
    order = np.argsort(-weights, axis=1)[:, :count]
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, np.take_along_axis(weights, order, axis=1), axis=1)
    return kept / kept.sum(axis=1, keepdims=True)


# The bone whose rotation into the T-pose stands for each SMPL joint's, for leaving the T-pose again.
MAIN_BONE = {
    "spine1": "spine03", "spine2": "spine02", "spine3": "spine01", "neck": "neck01", "head": "head", "hip": "upperleg01.s",
    "knee": "lowerleg01.s", "ankle": "foot.s", "foot": "foot.s", "collar": "shoulder01.s", "shoulder": "upperarm02.s",
    "elbow": "lowerarm02.s", "wrist": "wrist.s", "hand": "wrist.s", "pelvis": "root",
}  # fmt: skip
CORRECTED = ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow")
CORRECTIVE_REACH = 0.16  # m around a joint


def pose_correctives(template, joints, weights, faces, rig: Rig, a_pose: np.ndarray, a_joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What skinning loses when the arms go down, learnt from the pose that MakeHuman's artists modelled.

    MakeHuman's own rest pose has the arms lowered and the elbows bent. Skinned back from the T-pose, our body should
    look like it; the difference, undone to the T-pose, is the corrective of that rotation. SMPL's correctives are
    linear in R - I; with M = R_A - I of the artists' pose, split into even and odd parts, the corrective grows as

        k(R) = e <R - I, M_even> / |M_even|^2 + o <R - I, M_odd> / |M_odd|^2

    With e = 0.3 and o = 0.5 it is 0.8 at R_A, about 1.4 where the arms hang straight down (a full corrective at R_A
    would overshoot there: boxy shoulders), and -0.2 with the arms raised as far.

    Returns:
        Displacements [K, V, 3], metres, and coefficients [207, K] on SMPL's pose features.
    """
    turned = []
    for name in JOINT_NAMES:
        side, _, part = name.rpartition("_")
        bone = MAIN_BONE[part].replace(".s", ".L" if side == "left" else ".R")
        turned.append(rig.rotations[rig.names.index(bone)].T)
    R = np.stack(turned)
    blended = np.einsum("vj,jab->vab", weights, R)
    lowered = np.einsum("vab,vb->va", blended, template) + weights @ (a_joints - np.einsum("jab,jb->ja", R, joints))
    lost = np.linalg.solve(blended + 1e-6 * np.eye(3), (a_pose - lowered)[..., None])[..., 0]

    numbers = [JOINT_NAMES.index(name) for name in CORRECTED]
    distance = np.linalg.norm(template[:, None] - joints[numbers], axis=-1)
    near = np.clip(1 - (distance / CORRECTIVE_REACH) ** 2, 0, None) ** 2
    share = near / np.maximum(near.sum(axis=1, keepdims=True), 1e-9) * np.minimum(1, 1.8 * near.max(axis=1, keepdims=True))
    graph = adjacency(faces, len(template))
    mean = sparse.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph
    displacements, coefficients = [], np.zeros((207, len(numbers)))
    for k, j in enumerate(numbers):
        displacement = share[:, k, None] * lost
        for _ in range(6):
            displacement = 0.5 * displacement + 0.5 * (mean @ displacement)
        displacements.append(displacement)
        M = R[PARENTS[j]].T @ R[j] - np.eye(3)
        even, odd = (M + M.T) / 2, (M - M.T) / 2
        coefficients[9 * (j - 1) : 9 * j, k] = (0.3 * even / (even**2).sum() + 0.5 * odd / (odd**2).sum()).ravel()
    return np.stack(displacements), coefficients
