"""What the fit has seen of the person, and what it looks for: the two ends of the objective.

Axes: F frames, 33 BlazePose landmarks, B bones whose direction BlazePose guesses, J joints, S shape coefficients, Q shared
parameters = S + 99 + 1 + 2 + 1 + 3. Camera axes are the world (OpenCV: x right, y down, z away). Pixels, metres, radians, seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.fitting.rotations import rotation_from_vector, unit

NUM_LANDMARKS = 33
# bones between landmarks (mean of the first group to the mean of the second) whose direction the world landmarks tell
BONES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((24,), (23,)), ((12,), (11,)), ((23, 24), (11, 12)),
    ((11,), (13,)), ((13,), (15,)), ((12,), (14,)), ((14,), (16,)),
    ((23,), (25,)), ((25,), (27,)), ((24,), (26,)), ((26,), (28,)), ((8,), (7,)),
)  # fmt: skip
LEG_BONES = (7, 8, 9, 10)  # rows of BONES


def bone_mixtures(dtype: torch.dtype = torch.float64) -> Float[Tensor, "B 33"]:
    """Rows that take 33 landmarks to the B bone vectors."""
    mixtures = torch.zeros(len(BONES), NUM_LANDMARKS, dtype=dtype)
    for row, (tail, head) in enumerate(BONES):
        mixtures[row, list(tail)] -= 1 / len(tail)
        mixtures[row, list(head)] += 1 / len(head)
    return mixtures


@dataclass(frozen=True)
class Observations:
    """One clip as the fit sees it.

    Attributes:
        points: px; zeros where missing.
        confidence: 0 where missing.
        directions: unit vectors of BONES in camera axes; zeros where missing.
        times: s, increasing.
        height_px: typical height of the person in the picture.
        focal_px, focal_spread: guess of the focal length, px, and the spread of its logarithm.
        principal: cx, cy, px.
    """

    points: Float[Tensor, "F 33 2"]
    confidence: Float[Tensor, "F 33"]
    directions: Float[Tensor, "F B 3"]
    times: Float[Tensor, "F"]
    height_px: float
    focal_px: float
    focal_spread: float
    principal: tuple[float, float]

    @property
    def seen(self) -> Bool[Tensor, "F"]:
        """Frames with any landmark."""
        return self.confidence.sum(-1) > 0

    def repeat(self, times: int) -> Observations:
        """Every frame `times` over, whole clips one after another."""
        parts = {name: getattr(self, name).repeat(times, *[1] * (getattr(self, name).ndim - 1)) for name in _PER_FRAME}
        return replace(self, **parts)

    def frames(self, rows: Tensor | slice) -> Observations:
        """Some of the frames."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _PER_FRAME})


_PER_FRAME = ("points", "confidence", "directions", "times")


def observe(
    points: Float[np.ndarray, "F 33 2"],
    confidence: Float[np.ndarray, "F 33"],
    points_world: Float[np.ndarray, "F 33 3"],
    times: Float[np.ndarray, "F"],
    *,
    focal_px: float,
    focal_spread: float,
    principal: tuple[float, float],
) -> Observations:
    """Gather what was detected; frames whose confidence is all zero count as missing."""
    as_tensor = lambda a: torch.as_tensor(np.ascontiguousarray(a), dtype=torch.float64)  # noqa: E731
    points, confidence, world = as_tensor(points), as_tensor(confidence), as_tensor(points_world)
    seen = confidence.sum(-1) > 0
    if not seen.any():
        raise ValueError("no frame has any landmark")
    points = torch.where(seen[:, None, None], points, torch.zeros_like(points))
    directions = unit(bone_mixtures() @ world)
    directions = torch.where(seen[:, None, None], directions, torch.zeros_like(directions))
    heights = points[seen][..., 1].amax(-1) - points[seen][..., 1].amin(-1)
    return Observations(
        points, confidence, directions, as_tensor(times), float(heights.quantile(0.9)), focal_px, focal_spread, principal
    )


@dataclass(frozen=True)
class FitState:
    """Everything that is being solved for.

    Attributes:
        betas: the person's shape.
        root: root rotation, body to camera.
        transl: SMPL's translation, metres.
        body_pose: rotation vectors of the other joints.
        offsets: how far each of BlazePose's landmarks lies from the body model's, in the rest body, metres; one per person.
        log_focal: logarithm of focal length over its guess.
        tilt: which way is up, (0, -1, 0) + (tilt_0, 0, tilt_1) made a unit vector: how the camera leans to its side and nods.
        camera_height: above the floor, metres.
        lean: small turn (rotation vector, camera axes) that takes BlazePose's world axes to the camera's: the network half levels them.
    """

    betas: Float[Tensor, "S"]
    root: Float[Tensor, "F 3 3"]
    transl: Float[Tensor, "F 3"]
    body_pose: Float[Tensor, "F J-1 3"]
    offsets: Float[Tensor, "33 3"]
    log_focal: Float[Tensor, ""]
    tilt: Float[Tensor, "2"]
    camera_height: Float[Tensor, ""]
    lean: Float[Tensor, "3"]

    @property
    def num_shared(self) -> int:
        return self.betas.numel() + self.offsets.numel() + 1 + self.tilt.numel() + 1 + self.lean.numel()

    @property
    def focal_column(self) -> int:
        """Where the focal length stands among the shared parameters; tilt, camera height and lean follow."""
        return self.betas.numel() + self.offsets.numel()

    @property
    def tilt_columns(self) -> slice:
        """Where the tilt stands among the shared parameters."""
        return slice(self.focal_column + 1, self.focal_column + 1 + self.tilt.numel())

    @property
    def floor_column(self) -> int:
        """Where the camera's height stands among the shared parameters."""
        return self.tilt_columns.stop

    @property
    def lean_columns(self) -> slice:
        """Where the lean stands among the shared parameters: at the end."""
        return slice(self.floor_column + 1, self.num_shared)

    def moved(self, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> FitState:
        """The state after a step, in the parameters' order of kinematics.py."""
        S, at = self.betas.numel(), self.focal_column
        return FitState(
            betas=self.betas + shared[:S],
            root=rotation_from_vector(own[:, :3]) @ self.root,
            transl=self.transl + own[:, 3:6],
            body_pose=self.body_pose + own[:, 6:].reshape(self.body_pose.shape),
            offsets=self.offsets + shared[S:at].reshape(self.offsets.shape),
            log_focal=self.log_focal + shared[at],
            tilt=self.tilt + shared[self.tilt_columns],
            camera_height=self.camera_height + shared[self.floor_column],
            lean=self.lean + shared[self.lean_columns],
        )

    def where(self, mask: Bool[Tensor, "F"], other: FitState) -> FitState:
        """This state's motion in the frames of `mask`, the other's elsewhere."""
        return replace(
            self,
            root=torch.where(mask[:, None, None], self.root, other.root),
            transl=torch.where(mask[:, None], self.transl, other.transl),
            body_pose=torch.where(mask[:, None, None], self.body_pose, other.body_pose),
        )

    def frames(self, rows: Tensor | slice) -> FitState:
        """Some of the frames."""
        return replace(self, root=self.root[rows], transl=self.transl[rows], body_pose=self.body_pose[rows])

    def repeat(self, times: int) -> FitState:
        """Every frame `times` over, whole clips one after another."""
        return replace(
            self,
            root=self.root.repeat(times, 1, 1),
            transl=self.transl.repeat(times, 1),
            body_pose=self.body_pose.repeat(times, 1, 1),
        )
