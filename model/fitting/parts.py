"""A hand or a face as its fit sees it: joints that hang from one joint of the body, the few angles that move them, and the
points that a detector marks on them.

Axes: F frames, A joints of the part (parents first), P points, D angles, E expression coefficients, M = D + E numbers of a
frame. Lengths are metres, angles radians. Points live in the axes of the joint that holds the part (wrist or head), from
its place. A joint's rotation vector is linear in the angles, so a finger bends about its own hinge and no joint has a
freedom that it lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model.body.body_model import BodyModel
from model.fitting.rotations import rotation_from_vector, unit

FINGERS = ("thumb", "index", "middle", "ring", "pinky")  # in the detector's order
# usual, spread, lowest, highest angle, rad: a loosely closed hand, and ranges of anatomy textbooks, rounded
BEND = ((0.30, 0.50, -0.40, 1.60), (0.45, 0.55, -0.05, 1.90), (0.25, 0.35, -0.10, 1.40))  # knuckle, middle, last joint
SPREAD = (0.0, 0.12, -0.35, 0.35)  # of a finger beside the others
THUMB_ROOT = (0.0, 0.25, -0.70, 0.70)  # about each axis
THUMB_BEND = ((0.15, 0.30, -0.30, 1.00), (0.20, 0.40, -0.30, 1.40))
NEXT_FINGER = 0.6  # correlation of neighbouring fingers' bends
ALONG_FINGER = ((1.0, 0.4, 0.3), (0.4, 1.0, 0.7), (0.3, 0.7, 1.0))  # and of a finger's own: the last joint hardly bends alone
JAW = ((0.03, 0.12, -0.02, 0.60), (0.0, 0.02, -0.10, 0.10), (0.0, 0.02, -0.10, 0.10))  # opening; aside about y and z
EXPRESSION = (0.0, 1.0, -3.0, 3.0)  # coefficients have a unit of one standard deviation

# The face points (of MediaPipe's 468) that lie where the 51 landmarks of an SMPL-X file lie (iBUG's 17 to 67): brows, nose, eyes, lips
FACE_POINTS = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What can move of a hand or a face, and how.

    Attributes:
        name: "left hand", "right hand" or "face".
        root: the joint of the body that holds it.
        joints: the joints of the body that it moves. parents: of each, by place in `joints`; -1 is the root.
        places: of the joints at rest. points: of the landmarks at rest, and their change with each expression coefficient.
        shares: of the root (first) and of each joint in each point.
        basis: rotation vectors of all joints by angle.
        usual, lowest, highest: of the angles, then of the coefficients. precision: inverse covariance around the usual.
        length: by which its size in the picture is told.
    """

    name: str
    root: int
    joints: tuple[int, ...]
    parents: tuple[int, ...]
    places: Float[Tensor, "A 3"]
    points: Float[Tensor, "P 3"]
    points_by_expression: Float[Tensor, "P 3 E"]
    shares: Float[Tensor, "P A+1"]
    basis: Float[Tensor, "A 3 D"]
    usual: Float[Tensor, "M"]
    lowest: Float[Tensor, "M"]
    highest: Float[Tensor, "M"]
    precision: Float[Tensor, "M M"]
    length: float

    @property
    def num_angles(self) -> int:
        return self.basis.shape[-1]

    def rotations(self, values: Float[Tensor, "*F M"]) -> Float[Tensor, "*F A 3"]:
        """Each joint's rotation vector."""
        return torch.einsum("axd,...d->...ax", self.basis, values[..., : self.num_angles])

    def place(self, values: Float[Tensor, "M"]) -> Float[Tensor, "P 3"]:
        """Where the points are, in the root's axes. Differentiable; one frame, `vmap` does many."""
        turns = rotation_from_vector(self.rotations(values))
        R, at = [torch.eye(3, dtype=values.dtype)], [torch.zeros(3, dtype=values.dtype)]
        for a, parent in enumerate(self.parents):
            from_place = self.places[parent] if parent >= 0 else torch.zeros(3, dtype=values.dtype)
            at.append(at[parent + 1] + R[parent + 1] @ (self.places[a] - from_place))
            R.append(R[parent + 1] @ turns[a])
        rest = self.points + self.points_by_expression @ values[self.num_angles :]
        places = torch.cat([torch.zeros(1, 3, dtype=values.dtype), self.places])
        moved = torch.einsum("axy,pay->pax", torch.stack(R), rest[:, None] - places) + torch.stack(at)
        return (self.shares[..., None] * moved).sum(1)


def parts_of(model: BodyModel, betas: Float[Tensor, "S"]) -> list[Part]:
    """The hands and the face of a body of this shape, as far as the model has joints for them; float64."""
    model = model.to(dtype=torch.float64)
    vertices, joints = model.rest(betas.double())
    hands = [make_hand(model, vertices, joints, side) for side in ("left", "right") if f"{side}_index1" in model.joint_names]
    face = [make_face(model, vertices, joints)] if "jaw" in model.joint_names and model.face_weights is not None else []
    return hands + face


def make_hand(model: BodyModel, vertices: Float[Tensor, "V 3"], joints: Float[Tensor, "J 3"], side: str) -> Part:
    """The fifteen finger joints of one hand with the twenty-one points of a hand detector."""
    number = model.joint_names.index
    wrist = joints[number(f"{side}_wrist")]
    ids = tuple(number(f"{side}_{finger}{k}") for finger in FINGERS for k in (1, 2, 3))
    at = (joints[list(ids)] - wrist).unflatten(0, (5, 3))
    tips = torch.stack([finger_tip(vertices, joints, model.lbs_weights[:, last], ids[3 * f + 1], last) for f, last in enumerate(ids[2::3])]) - wrist
    back = unit(torch.linalg.cross(at[1, 0], at[4, 0])) * (1 if side == "left" else -1)  # out of the back of the hand
    bones = torch.cat([at[:, 1:], tips[:, None]], 1) - at
    columns, table = [], []
    for f in range(1, 5):
        for k in range(3):
            columns.append((3 * f + k, unit(torch.linalg.cross(bones[f, k], -back))))
            table.append(BEND[k])
    for f in range(1, 5):
        columns.append((3 * f, back))
        table.append(SPREAD)
    columns += [(0, axis) for axis in torch.eye(3, dtype=torch.float64)]
    table += [THUMB_ROOT] * 3
    for k in (1, 2):
        columns.append((k, unit(torch.linalg.cross(bones[0, k], at[4, 0] - at[0, k]))))
        table.append(THUMB_BEND[k - 1])
    basis = torch.zeros(15, 3, len(columns), dtype=torch.float64)
    for d, (joint, axis) in enumerate(columns):
        basis[joint, :, d] = axis
    order = torch.arange(4, dtype=torch.float64)
    bends = torch.kron(NEXT_FINGER ** (order[:, None] - order).abs(), torch.tensor(ALONG_FINGER, dtype=torch.float64))
    correlation = torch.block_diag(bends, torch.eye(len(table) - 12, dtype=torch.float64))
    points, shares = [torch.zeros(3, dtype=torch.float64)], [0]
    for f in range(5):
        points += [*at[f], tips[f]]
        shares += [3 * f + 1, 3 * f + 2, 3 * f + 3, 3 * f + 3]
    return Part(
        name=f"{side} hand", root=number(f"{side}_wrist"), joints=ids, parents=tuple(a - 1 if a % 3 else -1 for a in range(15)),
        places=at.flatten(0, 1), points=torch.stack(points), points_by_expression=torch.zeros(21, 3, 0, dtype=torch.float64),
        shares=torch.nn.functional.one_hot(torch.tensor(shares), 16).double(), basis=basis, **_priors(table, correlation),
        length=float(at[2, 0].norm()),
    )  # fmt: skip


def finger_tip(vertices: Float[Tensor, "V 3"], joints: Float[Tensor, "J 3"], share: Float[Tensor, "V"], before: int, last: int) -> Float[Tensor, "3"]:
    """The point of a finger's last part that lies farthest along it."""
    own = (share >= 0.5 * share.max()).nonzero()[:, 0]
    along = (vertices[own] - joints[last]) @ unit(joints[last] - joints[before])
    return vertices[own[along.argmax()]]


def make_face(model: BodyModel, vertices: Float[Tensor, "V 3"], joints: Float[Tensor, "J 3"]) -> Part:
    """The jaw, and expressions where the model was loaded with them, with the 51 landmarks that its file names."""
    head, jaw = model.joint_names.index("head"), model.joint_names.index("jaw")
    marks = model.face_weights
    picked = lambda values: torch.einsum("pk,pk...->p...", marks.vertex_weights, values[marks.ids])  # noqa: E731
    expressions = [i for i, name in enumerate(model.beta_names) if name.startswith("expression")]
    share = picked(model.lbs_weights[:, [jaw]])
    table = [*JAW, *[EXPRESSION] * len(expressions)]
    points = picked(vertices) - joints[head]
    brows, chin_side = points[:10].mean(0), points[31:51].mean(0)
    return Part(
        name="face", root=head, joints=(jaw,), parents=(-1,), places=(joints[jaw] - joints[head])[None], points=points,
        points_by_expression=picked(model.shapedirs[..., expressions]), shares=torch.cat([1 - share, share], 1),
        basis=torch.eye(3, dtype=torch.float64)[None], **_priors(table, torch.eye(len(table), dtype=torch.float64)),
        length=float((brows - chin_side).norm()),
    )  # fmt: skip


def _priors(table: list[tuple[float, float, float, float]], correlation: Float[Tensor, "M M"]) -> dict[str, Tensor]:
    usual, spread, lowest, highest = torch.tensor(table, dtype=torch.float64).unbind(1)
    return {"usual": usual, "lowest": lowest, "highest": highest, "precision": torch.linalg.inv(spread[:, None] * correlation * spread)}
