"""How deep the arms of a posed body lie inside its trunk and thighs, by its own mesh: what the fit's solids only approximate.

Axes: F frames, V vertices, T triangles, N points. Lengths are metres. A vertex of a forearm or a hand is inside where the winding
number of the surface of trunk, hips and thighs around it is above one half (Jacobson et al. 2013; the surface is open at neck,
shoulders and knees).
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from model.body.body_model import BodyModel
from model.body.track import BodyTrack

ARMS = ("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand")
TRUNK = ("pelvis", "spine1", "spine2", "spine3", "left_hip", "right_hip")
TOUCH = 0.01  # m; what lies less deep than this touches and does not pass through
INSIDE = 0.5  # winding number


@numba.njit(cache=True, fastmath=True)
def winding_numbers(points: Float[np.ndarray, "N 3"], corners: Float[np.ndarray, "T 3 3"]) -> Float[np.ndarray, "N"]:
    """How often a surface winds around each point: the sum of its triangles' solid angles over 4 pi (van Oosterom 1983)."""
    winding = np.zeros(len(points))
    for i in range(len(points)):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        total = 0.0
        for t in range(len(corners)):
            ax, ay, az = corners[t, 0, 0] - px, corners[t, 0, 1] - py, corners[t, 0, 2] - pz
            bx, by, bz = corners[t, 1, 0] - px, corners[t, 1, 1] - py, corners[t, 1, 2] - pz
            cx, cy, cz = corners[t, 2, 0] - px, corners[t, 2, 1] - py, corners[t, 2, 2] - pz
            a, b, c = np.sqrt(ax * ax + ay * ay + az * az), np.sqrt(bx * bx + by * by + bz * bz), np.sqrt(cx * cx + cy * cy + cz * cz)
            volume = ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)
            ab, bc, ca = ax * bx + ay * by + az * bz, bx * cx + by * cy + bz * cz, cx * ax + cy * ay + cz * az
            total += 2 * np.arctan2(volume, a * b * c + ab * c + bc * a + ca * b)
        winding[i] = total / (4 * np.pi)
    return winding


def depths_inside(model: BodyModel, track: BodyTrack) -> Float[np.ndarray, "F"]:
    """How deep the deepest vertex of forearms and hands lies inside trunk or thighs in each frame, m; 0 where none does."""
    faces, arms, trunk = _parts(model)
    depths = np.zeros(track.num_frames)
    for frame in range(track.num_frames):
        posed = model.pose(track.betas, track.global_orient[frame], track.body_pose[frame], track.transl[frame])
        vertices = posed.vertices.double().numpy()
        low, high = vertices[trunk].min(0), vertices[trunk].max(0)
        points = vertices[arms]
        points = points[((points > low) & (points < high)).all(1)]
        points = points[winding_numbers(points, vertices[faces]) > INSIDE]
        if len(points):
            depths[frame] = below_surface(points, vertices[faces]).max()
    return depths


def below_surface(points: Float[np.ndarray, "N 3"], corners: Float[np.ndarray, "T 3 3"]) -> Float[np.ndarray, "N"]:
    """How far points lie behind the plane of the triangle whose middle is nearest, m."""
    middles, normals = corners.mean(1), np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    nearest = ((points[:, None] - middles) ** 2).sum(-1).argmin(1)
    normals = normals[nearest] / np.linalg.norm(normals[nearest], axis=1, keepdims=True)
    return ((middles[nearest] - points) * normals).sum(1).clip(0)


def _parts(model: BodyModel) -> tuple[Int[np.ndarray, "T 3"], Bool[np.ndarray, "V"], Bool[np.ndarray, "V"]]:
    """Triangles of trunk and thighs, and which vertices are the arms' and theirs."""
    owner = model.lbs_weights.argmax(1)
    owned = lambda names: torch.isin(owner, torch.tensor([model.joint_names.index(n) for n in names if n in model.joint_names])).numpy()  # noqa: E731
    arms, trunk = owned(ARMS), owned(TRUNK)
    faces = model.faces.numpy()
    return faces[trunk[faces].all(1)], arms, trunk
