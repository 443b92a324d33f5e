"""The body fit: from landmarks and masks of a clip to one shape and a motion, in a few settled steps.

Axes: F frames, V vertices. Camera axes are the world. The steps: stand upright and find the heading, settle roughly, decide
on which side of depth each limb lies, refine all frames together with the shared shape, offsets and focal length while the
robust radius shrinks, then refine on the silhouettes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from model.fitting import starts
from model.fitting.floor import camera_height
from model.fitting.kinematics import Posed, SurfacePoints, pose_skeleton
from model.fitting.objective import BodyFitProblem, FitBody, Spreads
from model.fitting.observations import FitState, Observations
from model.fitting.outline import Outline, OutlinePulls, find_outline, find_pulls, shrink_masks
from model.fitting.solver import minimise
from model.fitting.terms import project

WIDE, MIDDLE = 0.35, 0.15  # radii of the robust kernel on the way to its final one, share of the person's height
COARSE_LANDMARK = 0.015  # spread of landmarks while the shape is not known, share of the height: held closer to them a frame may turn away
ROUGH_STEPS, JOINT_STEPS, FINAL_STEPS = 20, 15, 25
STEPS_PER_OUTLINE = 4
OUTLINE_RADII = (0.08, 0.08, 0.06, 0.05, 0.04, 0.04)  # how far outlines may lie apart, share of the person's height
LAST_ROUNDS = 4  # after those, of the motion alone
CLOSER_LANDMARK, CLOSER_OUTLINE = 0.55, 0.33  # of their spreads, in the last rounds
SKINNED_AT_ONCE = 120  # frames whose surface is held at a time: all of a minute would take a gigabyte
NUM_MARKS = 2 + 3 + len(OUTLINE_RADII) + LAST_ROUNDS  # how often on_progress is told


@dataclass(frozen=True)
class Silhouettes:
    """The masks of a clip, and how far each may be trusted.

    Attributes:
        masks: 255 = person, size of the pictures that landmarks and K speak of.
        trust: 0..1.
    """

    masks: UInt8[np.ndarray, "F H W"]
    trust: Float[np.ndarray, "F"]

    @cached_property
    def outlines(self) -> tuple[list[Outline], tuple[int, int], float]:
        """The masks' borders at a working size, that size, and how many of its pixels make a pixel."""
        small, scale = shrink_masks(self.masks)
        return [find_outline(mask) for mask in small], small.shape[1:], scale


def fit_clip(
    body: FitBody,
    seen: Observations,
    silhouettes: Silhouettes | None,
    spreads: Spreads,
    *,
    on_progress: Callable[[float], None] = lambda share: None,
) -> FitState:
    """Fit one person to a whole clip.

    Args:
        silhouettes: None leaves them out.
        on_progress: is told the share of the work done, 0..1.

    Returns:
        Shape, motion and focal length. Deterministic.
    """
    marks = iter(np.linspace(0, 1, NUM_MARKS + 1)[1:])
    advance = lambda: on_progress(float(next(marks, 1.0)))  # noqa: E731
    coarse = replace(spreads, radius=WIDE, landmark=max(spreads.landmark, COARSE_LANDMARK))
    state = starts.upright_start(body, seen)
    state = starts.choose_heading(body, seen, coarse, state)
    state, _ = minimise(BodyFitProblem(body, seen, coarse, only_motion=True), on_floor(body, state), steps=ROUGH_STEPS)
    advance()
    state, _ = minimise(BodyFitProblem(body, seen, coarse), on_floor(body, state), steps=JOINT_STEPS)
    advance()
    for radius in (WIDE, MIDDLE):
        state, _ = starts.choose_limbs(body, seen, replace(spreads, radius=radius), state)
        state, _ = minimise(BodyFitProblem(body, seen, replace(spreads, radius=radius)), on_floor(body, state), steps=JOINT_STEPS)
        advance()
    state, _ = minimise(BodyFitProblem(body, seen, spreads), state, steps=FINAL_STEPS)
    advance()
    if silhouettes is not None:
        state = refine_on_silhouettes(body, seen, silhouettes, spreads, state, advance)
    on_progress(1.0)
    return state


def refine_on_silhouettes(
    body: FitBody, seen: Observations, silhouettes: Silhouettes, spreads: Spreads, state: FitState, advance: Callable[[], None]
) -> FitState:
    """Pair outlines, move, pair again.

    In the last rounds the motion alone follows landmarks and outlines closer. Shape and offsets would follow them too where they err
    in all frames alike: clothes would make the body stout.
    """
    closer = replace(spreads, landmark=CLOSER_LANDMARK * spreads.landmark, outline=CLOSER_OUTLINE * spreads.outline)
    rounds = [(radius, spreads, False) for radius in OUTLINE_RADII] + LAST_ROUNDS * [(OUTLINE_RADII[-1], closer, True)]
    for radius, held_to, only_motion in rounds:
        pulls = pair_outlines(body, seen, silhouettes, state, radius * seen.height_px)
        problem = BodyFitProblem(body, seen, held_to, pulls=pulls, only_motion=only_motion)
        state, _ = minimise(problem, state, steps=STEPS_PER_OUTLINE)
        advance()
    return state


def pair_outlines(body: FitBody, seen: Observations, silhouettes: Silhouettes, state: FitState, radius_px: float) -> OutlinePulls:
    """Which points of the body's outline belong where on the masks', in the state as it is."""
    outlines, shape, scale = silhouettes.outlines
    parts = []
    for start in range(0, len(outlines), SKINNED_AT_ONCE):
        rows = slice(start, start + SKINNED_AT_ONCE)
        vertices = skin_surface(body.surface, pose_state(body, state.frames(rows)), state.betas)
        pixels, _ = project(vertices, seen.focal_px * state.log_focal.exp(), seen.principal)
        parts.append(
            find_pulls(
                pixels.numpy(), vertices[..., 2].numpy(), body.faces.numpy(), outlines[rows], shape, scale, silhouettes.trust[rows], radius_px
            )
        )
    return OutlinePulls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("vertices", "targets", "normals", "weights")))


def on_floor(body: FitBody, state: FitState) -> FitState:
    """The state with the camera as high above the floor as its soles say."""
    return replace(state, camera_height=camera_height(body.soles, pose_state(body, state), state))


def pose_state(body: FitBody, state: FitState) -> Posed:
    """The body posed as the state says."""
    return pose_skeleton(body.skeleton, state.betas, state.root, state.transl, state.body_pose)


def skin_surface(surface: SurfacePoints, posed: Posed, betas: Float[Tensor, "S"]) -> Float[Tensor, "F V 3"]:
    """All vertices of the posed body, metres."""
    rest = surface.vertices + surface.vertices_by_beta @ betas
    weights = surface.lbs_weights.to(torch.float32)  # the pairing of outlines needs no more
    R = (weights @ posed.R.flatten(2).float()).unflatten(-1, (3, 3))
    return ((R @ rest.float()[..., None]).squeeze(-1) + weights @ posed.b.float()).double()
