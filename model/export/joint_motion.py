"""A motion as files want it: each joint's own turn as a quaternion, and the place of the root.

Axes: F frames, J joints (the root is joint 0). Lengths are metres, stage axes; quaternions are x y z w, w >= 0 at the start
and without jumps from frame to frame (q and -q are the same turn, but not half-way between them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from model.motion.motion import Motion


@dataclass(frozen=True)
class JointMotion:
    """What a skeleton does over time.

    Attributes:
        name: what it is called.
        quaternions: turn of each joint relative to its parent, of the root relative to the stage.
        root_places: where the root joint is, metres.
        fps: frames per second.
    """

    name: str
    quaternions: Float[np.ndarray, "F J 4"]
    root_places: Float[np.ndarray, "F 3"]
    fps: float

    @property
    def num_frames(self) -> int:
        return len(self.root_places)


def joint_motion(motion: Motion) -> JointMotion:
    """A motion, whose world is the stage, as quaternions and root places."""
    turns = torch.cat([motion.global_orient[:, None], motion.body_pose], dim=1).double().numpy()
    quaternions = Rotation.from_rotvec(turns.reshape(-1, 3)).as_quat(canonical=True).reshape(*turns.shape[:2], 4)
    places = (motion.skeleton.joints_rest[0].double() + motion.transl.double()).numpy()
    return JointMotion(motion.name, without_jumps(quaternions), places, float(motion.fps))


def without_jumps(quaternions: Float[np.ndarray, "F J 4"]) -> Float[np.ndarray, "F J 4"]:
    """The same turns, each quaternion on the side of the one before it."""
    steps = np.sign((quaternions[1:] * quaternions[:-1]).sum(-1))
    signs = np.concatenate([np.ones((1, quaternions.shape[1])), np.cumprod(np.where(steps == 0, 1, steps), axis=0)])
    return quaternions * signs[..., None]
