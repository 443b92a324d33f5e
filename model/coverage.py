"""Which parts of the body the camera saw, and in how many frames.

Axes: F frames, V vertices, T triangles, H x W pixels. Lengths are metres. A vertex of the fitted body counts as seen in a
frame where it turns to the camera, lies inside the picture and on the person's mask, and nothing of the body is before it.
Turned to the camera means what model/unseen.py means: a patch shows at least SEEN_SHARE of its own area.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial.transform import Rotation
from torch import Tensor

from model.body.body_model import BodyModel, canonical_pose
from model.body.track import BodyTrack
from model.fitting.outline import render_faces
from model.unseen import SEEN_SHARE
from model.uv.atlas import vertex_normals
from model.uv.visibility import seen_from_outside

LAYER = 4.0  # px, as a length at its distance, that a vertex may lie behind the surface found in its pixel: on a slant it does
MASK_SLACK = 0.01  # of the picture's width by which a mask may be too small
ARMPIT = 0.16  # m around a shoulder joint
TORSO, LEG, FOOT, ARM = ("pelvis", "spine", "collar"), ("hip", "knee"), ("ankle", "foot"), ("shoulder", "elbow")
HEAD = ("head", "jaw", "eye")


@dataclass(frozen=True)
class FrameView:
    """What one frame shows: which vertices it sees, and how the body's outline lies on the mask."""

    seen: Bool[np.ndarray, "V"]
    iou: float


@dataclass(frozen=True)
class BodyPart:
    """Vertices of one part of the body, and of those the left and the right ones; None for parts in the middle."""

    name: str
    vertices: Bool[np.ndarray, "V"]
    sides: tuple[Bool[np.ndarray, "V"], Bool[np.ndarray, "V"]] | None = None


def look_at_body(body: BodyModel, track: BodyTrack, row: int, mask: UInt8[np.ndarray, "H W"]) -> FrameView:
    """What the camera sees of the body in one row of a track, by the row's mask (255 = person)."""
    with torch.no_grad():
        posed = body.pose(track.betas, track.global_orient[row], track.body_pose[row], track.transl[row])
    points = track.camera.to_camera(posed.vertices)
    height, width = mask.shape
    pixels = track.camera.resize(width, height).project(posed.vertices).double().numpy()
    points, faces = points.double().numpy(), body.faces.numpy()
    owner, nearest = render_faces(pixels, points[:, 2], faces, height, width)
    pixel = points[:, 2] * track.width / width / float(track.K[0, 0])
    seen = _seen_vertices(points, pixels, faces, nearest + LAYER * pixel.mean(), mask)
    person, drawn = mask > 127, owner >= 0
    return FrameView(seen, float((person & drawn).sum() / max((person | drawn).sum(), 1)))


def _seen_vertices(
    points: Float[np.ndarray, "V 3"], pixels: Float[np.ndarray, "V 2"], faces: Int[np.ndarray, "T 3"],
    deepest: Float[np.ndarray, "H W"], mask: UInt8[np.ndarray, "H W"],
) -> Bool[np.ndarray, "V"]:  # fmt: skip
    """Which vertices (camera axes and px) face the camera, on the mask, no deeper than `deepest` in their pixel."""
    height, width = mask.shape
    towards = -points / np.linalg.norm(points, axis=1, keepdims=True)
    facing = (vertex_normals(points, faces) * towards).sum(1) > SEEN_SHARE
    inside = (points[:, 2] > 0) & (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
    column, row = (np.clip(pixels[:, k], 0, size - 1).astype(int) for k, size in ((0, width), (1, height)))
    reach = 2 * round(MASK_SLACK * width) + 1
    person = cv2.dilate(mask, np.ones((reach, reach), np.uint8)) > 127
    return facing & inside & person[row, column] & (points[:, 2] < deepest[row, column])


def outer_area(body: BodyModel, betas: Float[Tensor, "S"]) -> Float[np.ndarray, "V"]:
    """The area that each vertex stands for on the body at rest, m^2; 0 inside the mouth and behind the eyes."""
    betas = betas.to(body.dtype)
    rest, faces = body.rest(betas)[0].numpy(), body.faces.numpy()
    still = torch.zeros(3, dtype=body.dtype)
    outside = seen_from_outside(body.pose(betas, still, canonical_pose(body), still).vertices.numpy(), faces)
    A, B, C = (rest[faces[:, k]] for k in range(3))
    thirds = np.where(outside, np.linalg.norm(np.cross(B - A, C - A), axis=1) / 6, 0.0)
    area = np.zeros(len(rest))
    for k in range(3):
        np.add.at(area, faces[:, k], thirds)
    return area


def body_parts(body: BodyModel, betas: Float[Tensor, "S"]) -> list[BodyPart]:
    """The parts of a body, by the joint that moves each vertex most and by where it looks at rest (y up, +z ahead, +x left)."""
    rest, joints = (t.numpy() for t in body.rest(betas.to(body.dtype)))
    normals = vertex_normals(rest, body.faces.numpy())
    names = np.array(body.joint_names)[body.lbs_weights.argmax(1).numpy()]
    left = rest[:, 0] > 0

    def moved_by(words: tuple[str, ...]) -> Bool[np.ndarray, "V"]:
        return np.array([any(word in name for word in words) for name in names])

    def paired(name: str, vertices: Bool[np.ndarray, "V"]) -> BodyPart:
        return BodyPart(name, vertices, (vertices & left, vertices & ~left))

    head, torso, foot, arm, leg = (moved_by(words) for words in (HEAD, TORSO, FOOT, ARM, LEG))
    hand = ~(head | torso | foot | arm | leg | moved_by(("neck",)))
    shoulders = joints[[body.joint_names.index(f"{side}_shoulder") for side in ("left", "right")]]
    near_shoulder = (np.linalg.norm(rest[:, None] - shoulders, axis=-1) < ARMPIT).any(1)
    crown, sole = head & (normals[:, 1] > 0.7), foot & (normals[:, 1] < -0.7)
    ahead = normals[:, 2] > 0
    return [
        BodyPart("head, front", head & ~crown & ahead),
        BodyPart("head, back", head & ~crown & ~ahead),
        BodyPart("crown", crown),
        BodyPart("neck", moved_by(("neck",))),
        BodyPart("torso, front", torso & ahead),
        BodyPart("torso, back", torso & ~ahead),
        paired("arms", arm),
        paired("armpits", (arm | torso) & near_shoulder & (normals[:, 1] < -0.3)),
        paired("hands", hand),
        paired("legs", leg),
        paired("feet", foot & ~sole),
        paired("soles", sole),
    ]


def share_seen(frames: Int[np.ndarray, "V"], area: Float[np.ndarray, "V"], part: Bool[np.ndarray, "V"], *, at_least: int = 1) -> float:
    """Share of a part's area that so many frames or more saw, 0..1."""
    total = area[part].sum()
    return float(area[part & (frames >= at_least)].sum() / total) if total > 0 else 0.0


def turned_by(facing: Float[np.ndarray, "F"]) -> float:
    """How much of a full turn the directions in which the person faced (rad) take up: 2 pi less the widest gap between them."""
    if len(facing) < 2:
        return 0.0
    angles = np.sort(np.mod(facing, 2 * np.pi))
    return float(2 * np.pi - np.diff(np.r_[angles, angles[0] + 2 * np.pi]).max())


def facing_camera(track: BodyTrack) -> Float[np.ndarray, "F"]:
    """Where the pelvis faces in each frame, as an angle about the vertical, rad: 0 faces the camera, +-pi shows the back."""
    ahead = Rotation.from_rotvec(track.global_orient.numpy()).apply([0.0, 0.0, 1.0]) @ track.w2c[:3, :3].numpy().T
    return np.arctan2(ahead[:, 0], -ahead[:, 2])
