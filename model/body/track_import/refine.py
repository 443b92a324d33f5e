"""The body fit started from an imported track instead of from nothing: no guessing of headings and limbs, only refinement.

Axes: F frames. Camera axes are the world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from model.body.track import BodyTrack
from model.fitting.fit import Silhouettes, on_floor, refine_on_silhouettes
from model.fitting.objective import BodyFitProblem, FitBody, Spreads
from model.fitting.observations import FitState, Observations
from model.fitting.rotations import rotation_from_vector
from model.fitting.solver import minimise

FIRST_RADIUS, FIRST_STEPS, FINAL_STEPS = 0.15, 15, 20  # radius of the robust kernel, share of the person's height


def see_as(seen: Observations, track: BodyTrack, focal_spread: float) -> Observations:
    """The observations with the track's camera, which the fit then starts from."""
    K = track.K.double()
    return replace(seen, focal_px=float((K[0, 0] * K[1, 1]).sqrt()), focal_spread=focal_spread, principal=(float(K[0, 2]), float(K[1, 2])))


def refine_from(
    body: FitBody,
    seen: Observations,
    silhouettes: Silhouettes,
    spreads: Spreads,
    track: BodyTrack,
    *,
    on_progress: Callable[[float], None] = lambda share: None,
) -> FitState:
    """Refine a track on landmarks and silhouettes, shape and motion of all frames together. Deterministic."""
    state = FitState(
        betas=track.betas.double(),
        root=rotation_from_vector(track.global_orient.double()),
        transl=track.transl.double(),
        body_pose=track.body_pose.double(),
        offsets=torch.zeros(33, 3, dtype=torch.float64),
        log_focal=torch.zeros((), dtype=torch.float64),
        tilt=torch.zeros(2, dtype=torch.float64),
        camera_height=torch.zeros((), dtype=torch.float64),
        lean=torch.zeros(3, dtype=torch.float64),
    )
    state = on_floor(body, state)
    for share, radius, steps in ((0.3, FIRST_RADIUS, FIRST_STEPS), (0.6, spreads.radius, FINAL_STEPS)):
        state, _ = minimise(BodyFitProblem(body, seen, replace(spreads, radius=radius)), state, steps=steps)
        on_progress(share)
    state = refine_on_silhouettes(body, seen, silhouettes, spreads, state, lambda: None)
    on_progress(1.0)
    return state
