"""A person who moves in front of a camera, made from a few angles: exact landmarks and masks for the tests of the fit.

Axes: F frames. The camera is level, its axes are the world.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch

from model.body.body_model import load_body_model
from model.fitting.fit import on_floor, pose_state
from model.fitting.kinematics import place
from model.fitting.objective import FitBody, Spreads, fit_body_of
from model.fitting.observations import FitState, Observations, bone_mixtures, observe
from model.fitting.prior import JOINT_NAMES
from model.fitting.rotations import unit
from model.fitting.starts import upright_rotation
from model.fitting.terms import project

FOCAL, CENTRE = 900.0, (256.0, 256.0)
SPREADS = Spreads(
    landmark=0.012, radius=0.07, direction=0.5, prior=0.3, limit=0.15, upright=0.25, balance=0.1, balance_still=0.1, standing=0.2, turn=30.0, shift=4.0, burst=2.0,
    contact=0.05, offset=0.025, outline=0.008, inside=0.02, floor=0.05, shape=0.6, tilt=0.08, lean=0.06, stature=0.01,
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What is true, and what is seen of it."""

    body: FitBody
    truth: FitState
    seen: Observations

    @property
    def joints(self) -> torch.Tensor:
        return pose_state(self.body, self.truth).joints

    def error_mm(self, state: FitState) -> torch.Tensor:
        """Root-aligned error of every joint, [F J]."""
        ours, theirs = pose_state(self.body, state).joints, self.joints
        return 1000 * ((ours - ours[:, :1]) - (theirs - theirs[:, :1])).norm(dim=-1)


@cache
def open_fit_body() -> FitBody:
    return fit_body_of(load_body_model("open"))


def make_scene(num_frames: int = 24, fps: float = 12.0, *, turn: float = 0.6) -> Scene:
    """The person turns to both sides by `turn` rad, reaches forward with both arms and bends the knees a little."""
    body = open_fit_body()
    times = torch.arange(num_frames, dtype=torch.float64) / fps
    wave = torch.sin(2 * torch.pi * times / 2.0)
    pose = body.prior.mean.expand(num_frames, -1, -1).clone()
    at = {name: k - 1 for k, name in enumerate(JOINT_NAMES)}
    pose[:, at["left_shoulder"]] = torch.stack([-0.1 + 0 * wave, -0.7 - 0.5 * wave, -0.7 + 0.2 * wave], -1)
    pose[:, at["right_shoulder"]] = torch.stack([-0.1 + 0 * wave, 0.7 - 0.5 * wave, 0.7 + 0.2 * wave], -1)
    pose[:, at["left_elbow"], 1] = -0.8 - 0.5 * wave
    pose[:, at["right_elbow"], 1] = 0.8 - 0.5 * wave
    for side in ("left", "right"):
        pose[:, at[f"{side}_hip"], 0] = -0.4 - 0.2 * wave
        pose[:, at[f"{side}_knee"], 0] = 0.7 + 0.3 * wave
        pose[:, at[f"{side}_ankle"], 0] = -0.3 - 0.1 * wave
    transl = torch.stack([0.1 * wave, 0.02 * wave, 3.6 + 0.1 * wave], -1) - body.skeleton.joints[0]
    truth = FitState(
        betas=torch.zeros(body.skeleton.joints_by_beta.shape[-1], dtype=torch.float64),
        root=upright_rotation(turn * torch.sin(2 * torch.pi * times / 3.0)),
        transl=transl,
        body_pose=pose,
        offsets=torch.zeros(33, 3, dtype=torch.float64),
        log_focal=torch.zeros((), dtype=torch.float64),
        tilt=torch.zeros(2, dtype=torch.float64),
        camera_height=torch.zeros((), dtype=torch.float64),
        lean=torch.zeros(3, dtype=torch.float64),
    )
    truth = on_floor(body, truth)
    return Scene(body, truth, look(body, truth, times))


def look(body: FitBody, truth: FitState, times: torch.Tensor, *, focal_spread: float = 0.001) -> Observations:
    """Exact landmarks of a motion, and the directions of its bones."""
    marks = place(body.landmarks, pose_state(body, truth), truth.betas)
    pixels, _ = project(marks, torch.tensor(FOCAL, dtype=torch.float64), CENTRE)
    seen = observe(
        pixels.numpy(), torch.ones(len(marks), 33).numpy(), marks.numpy(), times.numpy(),
        focal_px=FOCAL, focal_spread=focal_spread, principal=CENTRE,
    )  # fmt: skip
    return replace(seen, directions=unit(bone_mixtures() @ marks))
