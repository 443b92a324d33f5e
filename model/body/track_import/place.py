"""An imported track on a body model: rotations carry over, shape coefficients only to the body they belong to.

Axes: F frames, J joints, S shape coefficients. Camera axes are the world (OpenCV), metres.

SMPL, SMPL-X and the open body share joints, their order and their rest pose, so a rotation means the same on each. Betas are
coefficients of one body's own shape space and mean nothing on another: there the shape starts at the mean and is settled on
the masks (`settle`). The pelvis keeps its place in either case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model.body.body_model import BodyModel
from model.body.track_import.imported import MEAN_PELVIS, Family, ImportedTrack, carry_joints, in_camera

FAMILY_OF_JOINTS = {24: "smpl", 52: "smplh", 55: "smplx"}


@dataclass(frozen=True)
class PlacedTrack:
    """A motion of one body in front of a still camera at the origin.

    Attributes:
        betas: of that body. global_orient, body_pose, transl: SMPL's meaning, camera axes.
        own_shape: whether the betas are the file's own; else they are the mean body's and need settling.
    """

    betas: Float[Tensor, "S"]
    global_orient: Float[Tensor, "F 3"]
    body_pose: Float[Tensor, "F J-1 3"]
    transl: Float[Tensor, "F 3"]
    own_shape: bool


def family_of(model: BodyModel) -> Family | str | None:
    """Whose betas a body takes: "smpl", "smplx", ...; None for the open body."""
    return None if model.name == "open" else FAMILY_OF_JOINTS.get(model.num_joints)


def place_on_body(track: ImportedTrack, model: BodyModel) -> PlacedTrack:
    """Put a track on a body model, float64."""
    model = model.to(dtype=torch.float64)
    own_shape = track.betas is not None and family_of(model) == track.family
    betas = torch.zeros(model.num_betas, dtype=torch.float64)
    if own_shape:
        for i, value in enumerate(track.betas):
            if f"beta{i}" in model.beta_names:
                betas[model.beta_names.index(f"beta{i}")] = float(value)
    rest_pelvis = model.rest(betas)[1][0].numpy()
    poses = in_camera(track, rest_pelvis if own_shape else np.array(MEAN_PELVIS[track.family]))
    return PlacedTrack(
        betas=betas,
        global_orient=torch.from_numpy(poses.global_orient),
        body_pose=torch.from_numpy(carry_joints(poses.body_pose, model.num_joints - 1)),
        transl=torch.from_numpy(poses.pelvis - rest_pelvis),
        own_shape=own_shape,
    )
