"""Tracks of another topology: 3-D keypoints in camera axes, onto which a body is fitted by least squares.

Axes: F frames, N keypoints, J joints, S shape coefficients. Camera axes, metres.

SAM 3D Body speaks of MHR's skeleton and 18,439 vertices, whose correspondence to SMPL's surface is not published with it.
Its 70 named keypoints are: nose, eyes, ears, shoulders, elbows, hips, knees, ankles, heels, toes and wrists lie where this
project's landmarks lie, so the body is fitted to those. What keypoints cannot see (the twist of a limb) is left to the pose
prior, and time is kept smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.body.body_model import BodyModel
from model.body.landmarks import LANDMARK_NAMES
from model.body.track_import.imported import TrackFormatError, intrinsics
from model.body.track_import.place import PlacedTrack
from model.body.track_import.smpl_formats import Beside, Size, _frame_number, array, keyed
from model.fitting.prior import anatomical_prior
from model.fitting.rotations import vector_from_rotation
from model.metrics import fit_similarity

# MHR's 70 keypoints (sam_3d_body/metadata/mhr70.py) that are landmarks here, and how near they lie, m
MHR70 = {
    "nose": (0, 0.02), "left_eye": (1, 0.02), "right_eye": (2, 0.02), "left_ear": (3, 0.03), "right_ear": (4, 0.03),
    "left_shoulder": (5, 0.02), "right_shoulder": (6, 0.02), "left_elbow": (7, 0.015), "right_elbow": (8, 0.015),
    "left_hip": (9, 0.04), "right_hip": (10, 0.04), "left_knee": (11, 0.015), "right_knee": (12, 0.015),
    "left_ankle": (13, 0.015), "right_ankle": (14, 0.015), "left_foot_index": (15, 0.02), "left_heel": (17, 0.02),
    "right_foot_index": (18, 0.02), "right_heel": (20, 0.02), "right_wrist": (41, 0.015), "left_wrist": (62, 0.015),
}  # fmt: skip
TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
MHR_VERTICES = 18439
SHAPE_SPREAD, SMOOTH_SPREAD = 0.5, 0.15  # of a coefficient; of the second difference of a rotation between frames, rad
PRIOR_STRENGTH = 0.3
ROOT_UNIT, TRANSL_UNIT = 0.05, 0.02  # rad, m
PARTS, STEPS = 3, 30


@dataclass(frozen=True)
class KeypointTrack:
    """One person's keypoints.

    Attributes:
        source: name of the format.
        points: camera axes, metres. names: which of our landmarks each is. spreads: how near it lies, m.
        K: intrinsics of the source picture. frame_ids: source frame of each row, or None. person: the file's own name.
    """

    source: str
    points: Float[np.ndarray, "F N 3"]
    names: tuple[str, ...]
    spreads: tuple[float, ...]
    K: Float[np.ndarray, "3 3"]
    frame_ids: Int[np.ndarray, "F"] | None
    person: str


def sam3d_people(content: object) -> list[tuple[int, int, Mapping[str, object]]]:
    """(frame, person, output) of SAM 3D Body's results: a list of people, or a list or mapping of such lists."""
    if isinstance(content, np.ndarray) and content.dtype == object:
        content = content.item() if content.shape == () else list(content)
    if keyed(content, "pred_cam_t", "focal_length"):
        return [(0, 0, content)] if np.ndim(content["pred_cam_t"]) == 1 else _stacked(content)
    frames = list(content.items()) if isinstance(content, Mapping) else list(enumerate(content)) if isinstance(content, list) else []
    if isinstance(content, list) and any(keyed(person, "pred_cam_t") for person in content):
        frames = [(0, content)]
    found = []
    for i, (name, people) in enumerate(frames):
        number = name if isinstance(name, int) else _frame_number(str(name), i)
        people = list(people) if isinstance(people, list | np.ndarray) else [people] if keyed(people, "pred_cam_t") else []
        found += [(number, place, person) for place, person in enumerate(people) if keyed(person, "pred_cam_t", "focal_length")]
    return found


def _stacked(content: Mapping[str, object]) -> list[tuple[int, int, Mapping[str, object]]]:
    """Arrays with the frames in front (an npz of a whole clip) as one record a frame."""
    rows = len(np.asarray(content["pred_cam_t"]))
    ids = np.asarray(content["frame_ids"]).reshape(-1) if "frame_ids" in content else np.arange(rows)
    return [
        (int(ids[row]), 0, {name: value[row] if np.ndim(value) and len(value) == rows else value for name, value in content.items()})
        for row in range(rows)
    ]


def read_sam3d(content: object, beside: Beside, size: Size) -> list[KeypointTrack]:
    """Keypoints of each person; `pred_keypoints_3d` are relative to `pred_cam_t`, which stands in camera axes."""
    name, rows = "SAM 3D Body", {}
    for number, place, person in sam3d_people(content):
        if "pred_keypoints_3d" not in person:
            vertices = f"its {MHR_VERTICES} vertices (pred_vertices) are MHR's, and which of them is which of SMPL's is not in the file"
            raise TrackFormatError(f"{name}: expected pred_keypoints_3d (70 points) for each person; {vertices}. Save the estimator's whole output")
        points = array(person["pred_keypoints_3d"]).reshape(-1, 3)
        if len(points) < 70:
            raise TrackFormatError(f"{name}: {len(points)} keypoints, expected 70")
        rows.setdefault(place, []).append((number, points + array(person["pred_cam_t"]).reshape(3), float(array(person["focal_length"]).mean())))
    tracks = []
    for place, found in rows.items():
        found = sorted(found, key=lambda row: row[0])
        columns = [index for index, _ in MHR70.values()]
        focals = np.array([row[2] for row in found])
        points = np.stack([row[1][columns] for row in found])
        focal = float(np.median(focals))
        points[..., 2] += points[..., 2].mean(1, keepdims=True) * (focal / focals - 1)[:, None]  # one focal length, seen nearly alike
        tracks.append(
            KeypointTrack(
                name, points, tuple(MHR70), tuple(spread for _, spread in MHR70.values()), intrinsics(focal, size[0] / 2, size[1] / 2),
                np.array([row[0] for row in found]), str(place),
            )
        )  # fmt: skip
    return tracks


def fit_keypoints(model: BodyModel, track: KeypointTrack, *, on_progress: Callable[[float], None] = lambda share: None) -> tuple[PlacedTrack, float]:
    """Fit shape and motion to the keypoints: L-BFGS from each frame's upright torso.

    Returns:
        The fitted track, and how far its landmarks lie from the keypoints in the root mean square, m.
    """
    ids = [LANDMARK_NAMES.index(name) for name in track.names]
    body = model.subset(model.landmark_weights.vertex_ids).to(dtype=torch.float64)
    targets = torch.from_numpy(track.points)
    spreads = torch.tensor(track.spreads, dtype=torch.float64)
    prior = anatomical_prior(model.joint_names)
    none = torch.zeros(model.num_betas, dtype=torch.float64)
    first_root, first_transl = _torso_start(body, none, track, ids)
    starts = (none, first_root, prior.mean.expand(len(targets), -1, 3), first_transl)
    units = (SHAPE_SPREAD, ROOT_UNIT, prior.spread, TRANSL_UNIT)  # in which all unknowns are of one size
    variables = [torch.zeros_like(start).requires_grad_(True) for start in starts]
    optimiser = torch.optim.LBFGS(variables, lr=1.0, max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

    def state() -> list[Tensor]:
        return [start + unit * value for start, unit, value in zip(starts, units, variables, strict=True)]

    def misses(betas: Tensor, root: Tensor, pose: Tensor, transl: Tensor) -> Tensor:
        posed = body.pose(betas, root, pose, transl)
        return (body.landmarks(posed.vertices, posed.joints)[:, ids] - targets).norm(dim=-1)

    def cost() -> Tensor:
        optimiser.zero_grad()
        betas, root, pose, transl = state()
        data = torch.log1p((misses(betas, root, pose, transl) / spreads / 3) ** 2).mul(9).sum()
        likely = (PRIOR_STRENGTH * ((pose - prior.mean) / prior.spread) ** 2).sum()
        likely = likely + (((pose - prior.highest).clamp(min=0) + (prior.lowest - pose).clamp(min=0)) / 0.15).square().sum()
        bent = ((pose[2:] - 2 * pose[1:-1] + pose[:-2]) / SMOOTH_SPREAD).square().sum() if len(pose) > 2 else 0.0
        total = data + likely + bent + (betas / SHAPE_SPREAD).square().sum()
        total.backward()
        return total

    for part in range(PARTS):
        optimiser.step(cost)
        on_progress((part + 1) / PARTS)
    with torch.no_grad():
        values = state()
        miss = float(misses(*values).square().mean().sqrt())
    return PlacedTrack(values[0], values[1], values[2], values[3], own_shape=True), miss


def _torso_start(body: BodyModel, betas: Tensor, track: KeypointTrack, ids: list[int]) -> tuple[Float[Tensor, "F 3"], Float[Tensor, "F 3"]]:
    """Root rotation and translation that lay the rest torso on each frame's."""
    vertices, joints = body.rest(betas)
    rest = body.landmarks(vertices, joints)[ids]
    torso = [track.names.index(name) for name in TORSO]
    roots, places = [], []
    for points in torch.from_numpy(track.points):
        found = fit_similarity(rest[torso], points[torso])
        roots.append(found.rotation)
        places.append(points[torso].mean(0) - found.rotation @ (rest[torso].mean(0) - joints[0]) - joints[0])
    return vector_from_rotation(torch.stack(roots)), torch.stack(places)
