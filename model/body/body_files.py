"""Reads body models from files: the open body that ships with the project, and a user's SMPL, SMPL-H or SMPL-X.

Axes: V vertices, T triangles, J joints, S shape coefficients, U uv coordinates. Lengths are metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from model.body.safe_pickle import load_body_pickle
from model.damaged_files import DAMAGED_NPZ

OPEN_BODY = Path(__file__).with_name("open_body.npz")
BODY_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
FINGER_JOINTS = tuple(f"{s}_{f}{i}" for s in ("left", "right") for f in ("index", "middle", "pinky", "ring", "thumb") for i in (1, 2, 3))
JOINT_NAMES = {
    24: (*BODY_JOINTS, "left_hand", "right_hand"),  # SMPL
    52: (*BODY_JOINTS, *FINGER_JOINTS),  # SMPL-H
    55: (*BODY_JOINTS, "jaw", "left_eye_smplhf", "right_eye_smplhf", *FINGER_JOINTS),  # SMPL-X
}
NUM_VERTICES = {24: 6890, 52: 6890, 55: 10475}
NUM_FACE_POINTS = 51  # landmarks of brows, nose, eyes and lips in SMPL-X's files
NUM_SHAPE_DIRECTIONS_SMPLX = 300  # SMPL-X keeps expression directions behind its 300 shape directions


class BodyFileError(ValueError):
    """A body model file that cannot be used; the message says what was expected and what came."""


@dataclass(frozen=True)
class BodyArrays:
    """What a body model file holds, in SMPL's terms."""

    name: str
    joint_names: tuple[str, ...]
    beta_names: tuple[str, ...]
    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray | None  # [V, 3, K]
    pose_basis: np.ndarray | None  # [P, K]: coefficients of posedirs by pose feature; None where K = P
    J_regressor: sparse.csr_matrix
    parents: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None
    uv_faces: np.ndarray | None
    points: dict[str, int]
    face_points: tuple[np.ndarray, np.ndarray] | None = None  # SMPL-X's 51 face landmarks: corners [51, 3] and their weights


def read_open_body(path: Path = OPEN_BODY) -> BodyArrays:
    """Read the body that ships with the project, baked by `bake_open_body`."""
    with np.load(path, allow_pickle=False) as data:
        num_vertices, num_joints = len(data["v_template"]), len(data["parents"])
        regressor = sparse.coo_matrix(
            (data["J_regressor_val"].astype(np.float64), (data["J_regressor_row"], data["J_regressor_col"].astype(np.int64))), shape=(num_joints, num_vertices)
        ).tocsr()
        weights = np.zeros((num_vertices, num_joints))
        value = data["weights_value"].astype(np.float64)
        np.put_along_axis(weights, data["weights_index"].astype(np.int64), value / value.sum(axis=1, keepdims=True), axis=1)
        return BodyArrays(
            name="open",
            joint_names=tuple(data["joint_names"].tolist()),
            beta_names=tuple(data["beta_names"].tolist()),
            v_template=data["v_template"].astype(np.float64),
            shapedirs=data["shapedirs"].astype(np.float64),
            posedirs=data["correctives"].astype(np.float64).transpose(1, 2, 0),
            pose_basis=data["corrective_coefficients"].astype(np.float64),
            J_regressor=regressor,
            parents=data["parents"],
            weights=weights,
            faces=data["faces"],
            uv=data["uv"],
            uv_faces=data["uv_faces"],
            points=dict(zip(data["point_names"].tolist(), data["point_ids"].tolist(), strict=True)),
        )


def read_body_file(
    path: Path, *, uv_path: Path | None, num_betas: int, num_expressions: int, extra_vertex_ids: Mapping[str, Mapping[str, int]]
) -> BodyArrays:
    """Read a user's SMPL, SMPL-H or SMPL-X file; which one it is shows in its number of joints.

    `extra_vertex_ids` names surface points by topology ("smplh", which is SMPL's too, and "smplx").

    Raises:
        BodyFileError: see `load_body_model`.
    """
    data = read_arrays(path)
    missing = [k for k in ("v_template", "shapedirs", "J_regressor", "kintree_table", "weights", "f") if k not in data]
    if missing:
        raise BodyFileError(f"{path} is no SMPL-family model: it lacks {', '.join(missing)} (it has {', '.join(sorted(data)) or 'nothing'})")
    num_joints = data["weights"].shape[-1]
    if num_joints not in JOINT_NAMES:
        raise BodyFileError(f"{path} has {num_joints} joints; expected 24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X)")
    if data["v_template"].shape != (NUM_VERTICES[num_joints], 3):
        raise BodyFileError(f"{path} has vertices {data['v_template'].shape}; a model of {num_joints} joints has ({NUM_VERTICES[num_joints]}, 3)")
    shapedirs = np.asarray(data["shapedirs"], dtype=np.float64)
    if num_expressions and num_joints != 55:
        raise BodyFileError(f"{path} has no expressions (only SMPL-X does); set num_expressions to 0")
    first_expression = NUM_SHAPE_DIRECTIONS_SMPLX if shapedirs.shape[-1] > NUM_SHAPE_DIRECTIONS_SMPLX else 10
    expressions = shapedirs[..., first_expression : first_expression + num_expressions]
    shape = shapedirs[..., : min(num_betas, shapedirs.shape[-1])]
    parents = np.asarray(data["kintree_table"])[0].astype(np.int64)
    parents[0] = -1
    uv, uv_faces = read_uv(uv_path) if uv_path is not None else uv_of_arrays(data)
    faces = np.asarray(data["f"]).astype(np.int64)
    if uv_faces is not None and len(uv_faces) != len(faces):
        raise BodyFileError(f"the UV layout has {len(uv_faces)} triangles but {path} has {len(faces)}; it belongs to another model")
    return BodyArrays(
        name=path.stem,
        joint_names=JOINT_NAMES[num_joints],
        beta_names=tuple(f"beta{i}" for i in range(shape.shape[-1])) + tuple(f"expression{i}" for i in range(expressions.shape[-1])),
        v_template=np.asarray(data["v_template"], dtype=np.float64),
        shapedirs=np.concatenate([shape, expressions], axis=-1),
        posedirs=np.asarray(data["posedirs"], dtype=np.float64) if "posedirs" in data else None,
        pose_basis=None,
        J_regressor=sparse.csr_matrix(data["J_regressor"], dtype=np.float64),
        parents=parents,
        weights=np.asarray(data["weights"], dtype=np.float64),
        faces=faces,
        uv=uv,
        uv_faces=uv_faces,
        points=dict(extra_vertex_ids["smplx" if num_joints == 55 else "smplh"]),
        face_points=face_points_of(data, faces),
    )


def face_points_of(data: Mapping[str, np.ndarray], faces: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The 51 face landmarks that SMPL-X's files name by triangle (`lmk_faces_idx`, `lmk_bary_coords`); None without them."""
    if "lmk_faces_idx" not in data or "lmk_bary_coords" not in data:
        return None
    triangles, weights = np.asarray(data["lmk_faces_idx"]).astype(np.int64), np.asarray(data["lmk_bary_coords"], dtype=np.float64)
    return (faces[triangles], weights) if triangles.shape == (NUM_FACE_POINTS,) and weights.shape == (NUM_FACE_POINTS, 3) else None


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Named arrays of a .npz or .pkl. What is pickled in a .npz is left out (SMPL-X's hold such tables beside the arrays); classes in a .pkl are refused."""
    if path.is_dir():
        raise BodyFileError(f"{path} is a folder; give the model file itself, such as {path}/SMPL_NEUTRAL.pkl")
    if not path.exists():
        raise BodyFileError(f'there is no body model at {path}; give the path of an SMPL or SMPL-X file (.npz or .pkl), or "open"')
    if path.suffix == ".pkl":
        return load_body_pickle(path)
    if path.suffix != ".npz":
        raise BodyFileError(f"{path} ends in {path.suffix or 'nothing'}; body models are .npz or .pkl")
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: array for name in data.files if (array := _plain_array(data, name)) is not None}
    except DAMAGED_NPZ as error:
        raise BodyFileError(f"{path} cannot be read as a .npz of plain arrays: {error}") from error


def _plain_array(data: np.lib.npyio.NpzFile, name: str) -> np.ndarray | None:
    """An array of an open .npz, None where it is pickled."""
    try:
        return data[name]
    except ValueError as error:
        if "allow_pickle" in str(error):
            return None
        raise


def uv_of_arrays(data: Mapping[str, np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """UV from a model file's own `vt` and `ft` (SMPL-X has them), v turned to run down; (None, None) without them."""
    if "vt" not in data or "ft" not in data:
        return None, None
    return np.asarray(data["vt"], dtype=np.float64)[:, :2] * [1, -1] + [0, 1], np.asarray(data["ft"]).astype(np.int64)


def read_uv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """UV coordinates and triangles from an .obj or from an .npz with `vt` and `ft`, v turned to run down."""
    if not path.is_file():
        raise BodyFileError(f"there is no UV file at {path}; expected an .obj, or an .npz with vt and ft")
    if path.suffix == ".npz":
        uv, uv_faces = uv_of_arrays(read_arrays(path))
        if uv is None:
            raise BodyFileError(f"{path} lacks vt and ft")
        return uv, uv_faces
    uv, uv_faces = [], []
    for line in path.read_text(errors="replace").splitlines():
        head, *rest = line.split() or [""]
        try:
            if head == "vt":
                uv.append([float(rest[0]), 1 - float(rest[1])])
            elif head == "f":
                a, b, c = (int(corner.split("/")[1]) - 1 for corner in rest)
                uv_faces.append([a, b, c])
        except (IndexError, ValueError) as error:
            raise BodyFileError(f"{path} must hold texture coordinates (vt u v) and triangles that name theirs (f v/vt v/vt v/vt); it has: {line}") from error
    if not uv or not uv_faces:
        raise BodyFileError(f"{path} holds no texture coordinates")
    return np.array(uv), np.array(uv_faces)
