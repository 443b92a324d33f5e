"""A body track as another program left it, once its array layout is understood and before it is put on our body.

Axes: F rows, K joints beside the root (SMPL 23, SMPL-X 54, or only the 21 of the body), C cameras (1 or F). Lengths are
metres unless `scale` says otherwise, rotations axis-angle radians, cameras OpenCV (x right, y down, z forward).

Programs differ in what their translation means. With p the rest pelvis and R the root's rotation, the pelvis stands at

    p + t       anchor "transl":  SMPL's own convention, the root turns about the pelvis
    R p + t     anchor "origin":  EasyMocap's Rh and Th, the root turns about the body's origin
    t           anchor "pelvis":  the pelvis itself is given
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

Family = Literal["smpl", "smplx"]
# Rest pelvis of the neutral bodies at betas 0, m: what a body file would say, for who has none. It moves by a few centimetres
# with the betas, which is why a track on another body is settled on the masks afterwards.
MEAN_PELVIS = {"smpl": (-0.0018, -0.2233, 0.0282), "smplx": (0.0031, -0.3514, 0.0120)}
BODY_JOINTS = 21  # joints beside the root that SMPL and SMPL-X share, in one order
SMPLX_JOINTS = 54
OFF_CENTRE = 0.05  # of the picture's size: how far a calibrated principal point may lie from its middle


class TrackFormatError(ValueError):
    """A track whose content cannot be used; the message says what was expected and what came."""


@dataclass(frozen=True)
class ImportedTrack:
    """One person of one file.

    Attributes:
        source: name of the format.
        family: whose joints and betas these are.
        global_orient: root rotation in the file's world.
        body_pose: rotations of the other joints, in the family's order; at least the body's 21.
        transl, anchor: see above.
        betas: of the family's neutral body, unless the user knows better; None where the file has none.
        K: intrinsics of the source picture, px; None where the file has none.
        w2c: from the file's world to each row's camera; one, or one a row.
        scale: world units a metre of the body takes up, in each row; the body is scaled before it is moved.
        frame_ids: source frame of each row, counted from 0; None where the file does not say.
        width, height: of the picture that K speaks of; None: the source video's.
        person: the file's own name for this person.
        named: whether that stays theirs; else it is a place in each frame's list, which may be another person's in the next frame.
        betas_of_rows: a row's own, of a track that is not `named`: whoever is put together of several takes theirs along.
        notes: what a user should know.
    """

    source: str
    family: Family
    global_orient: Float[np.ndarray, "F 3"]
    body_pose: Float[np.ndarray, "F K 3"]
    transl: Float[np.ndarray, "F 3"]
    betas: Float[np.ndarray, "S"] | None
    K: Float[np.ndarray, "3 3"] | None
    w2c: Float[np.ndarray, "C 4 4"]
    anchor: Literal["transl", "origin", "pelvis"] = "transl"
    scale: Float[np.ndarray, "F"] | None = None
    frame_ids: Int[np.ndarray, "F"] | None = None
    width: int | None = None
    height: int | None = None
    person: str = ""
    named: bool = True
    betas_of_rows: Float[np.ndarray, "F S"] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.transl)
        shapes = {
            "global_orient": (self.global_orient.shape, (rows, 3)),
            "transl": (self.transl.shape, (rows, 3)),
            "body_pose": (self.body_pose.shape, (rows, self.body_pose.shape[1] if self.body_pose.ndim == 3 else -1, 3)),
        }
        for name, (came, wanted) in shapes.items():
            if came != wanted:
                raise TrackFormatError(f"{self.source}: {name} has shape {came}, expected {wanted}")
        if rows == 0:
            raise TrackFormatError(f"{self.source}: the track has no row")
        if self.body_pose.shape[1] < BODY_JOINTS:
            raise TrackFormatError(f"{self.source}: body_pose turns {self.body_pose.shape[1]} joints, expected at least the body's {BODY_JOINTS}")
        if self.w2c.shape not in ((1, 4, 4), (rows, 4, 4)):
            raise TrackFormatError(f"{self.source}: cameras have shape {self.w2c.shape}, expected one 4 x 4 matrix or {rows}")
        for name in ("global_orient", "body_pose", "transl", "w2c", "K", "betas", "scale"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                raise TrackFormatError(f"{self.source}: {name} holds a number that is not finite")
        if self.frame_ids is not None and len(self.frame_ids) != rows:
            raise TrackFormatError(f"{self.source}: {len(self.frame_ids)} frame numbers for {rows} rows")
        if self.scale is not None and (self.scale.shape != (rows,) or (self.scale <= 0).any()):
            raise TrackFormatError(f"{self.source}: scale must be one positive number a row")


@dataclass(frozen=True)
class CameraPoses:
    """A track in its camera's axes, in which our pipeline's world lies.

    Attributes:
        global_orient: root rotation, camera axes.
        body_pose: as in the file.
        pelvis: where the pelvis stands, camera axes, metres of the file's body.
    """

    global_orient: Float[np.ndarray, "F 3"]
    body_pose: Float[np.ndarray, "F K 3"]
    pelvis: Float[np.ndarray, "F 3"]


def in_camera(track: ImportedTrack, rest_pelvis: Float[np.ndarray, "3"]) -> CameraPoses:
    """Fold moving cameras and the world's scale into the poses: afterwards one still camera at the origin sees the same.

    With w2c = (C, c) and scale s the body X = s (R (v - p) + p) + t is seen at C X + c. A picture does not show a common
    factor, so all is divided by s: the root turns to C R and the pelvis stands at (C P + c) / s, P being its place.
    """
    R = Rotation.from_rotvec(track.global_orient)
    scale = np.ones(len(track.transl)) if track.scale is None else track.scale
    offset = {"transl": np.broadcast_to(rest_pelvis, track.transl.shape), "origin": R.apply(rest_pelvis), "pelvis": np.zeros_like(track.transl)}
    place = scale[:, None] * offset[track.anchor] + track.transl
    C, c = track.w2c[:, :3, :3], track.w2c[:, :3, 3]
    pelvis = (np.einsum("fij,fj->fi", np.broadcast_to(C, (len(place), 3, 3)), place) + c) / scale[:, None]
    return CameraPoses((Rotation.from_matrix(C) * R).as_rotvec(), track.body_pose, pelvis)


def carry_joints(body_pose: Float[np.ndarray, "F K 3"], num_joints: int) -> Float[np.ndarray, "F J 3"]:
    """The same pose for a body of `num_joints` joints beside the root: SMPL's 23, SMPL-H's 51 or SMPL-X's 54.

    The 21 body joints are common. What one body lacks is dropped, what the other lacks stays unbent: SMPL's hands (22, 23)
    and SMPL-X's jaw, eyes and fingers.
    """
    if body_pose.shape[1] == num_joints:
        return body_pose.copy()
    carried = np.zeros((len(body_pose), num_joints, 3))
    carried[:, :BODY_JOINTS] = body_pose[:, :BODY_JOINTS]
    return carried


def vectors(rotations: Float[np.ndarray, "*B 3 3"]) -> Float[np.ndarray, "*B 3"]:
    """Rotation matrices as axis-angle. They may be slightly off, as networks' outputs are; mirrors are refused."""
    flat = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
    if np.abs(flat @ flat.transpose(0, 2, 1) - np.eye(3)).max() > 0.05 or (np.linalg.det(flat) < 0).any():
        raise TrackFormatError("expected rotation matrices, came matrices that are none")
    return Rotation.from_matrix(flat).as_rotvec().reshape(*np.shape(rotations)[:-2], 3)


def intrinsics(focal_px: float, cx: float, cy: float) -> Float[np.ndarray, "3 3"]:
    """A camera of square pixels."""
    return np.array([[focal_px, 0.0, cx], [0.0, focal_px, cy], [0.0, 0.0, 1.0]])


def picture_around(K: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> dict[str, int]:
    """`width` and `height` of the picture whose middle K looks through, for programs that take it to and that read smaller copies.

    Args:
        size: of the video, px; a camera that looks nearly through its middle is the video's own, calibrated, and nothing is said.

    Raises:
        TrackFormatError: K looks through no picture.
    """
    width, height = 2 * float(K[0, 2]), 2 * float(K[1, 2])
    if not (width >= 1 and height >= 1):
        raise TrackFormatError(f"expected a principal point inside of the picture, came {K[0, 2]:g}, {K[1, 2]:g}")
    if abs(width / size[0] - 1) < OFF_CENTRE and abs(height / size[1] - 1) < OFF_CENTRE:
        return {}
    return {"width": round(width), "height": round(height)}


def still() -> Float[np.ndarray, "1 4 4"]:
    """A camera at the world's origin: the file speaks in camera axes."""
    return np.eye(4)[None]


def one_shape(betas: object) -> Float[np.ndarray, "S"]:
    """One person's betas from one row or from a row a frame (their median: single frames err)."""
    values = np.asarray(betas, dtype=np.float64)
    values = values.reshape(-1, values.shape[-1])
    return np.median(values, axis=0)[:10]
