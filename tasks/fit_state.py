"""The body fit as it ended, in a file: what was seen and what was solved for, so that a later stage can go on with the same terms.

Everything is float64; scalars are arrays without axes. The names are those of Observations and FitState.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from model.fitting.objective import Spreads
from model.fitting.observations import FitState, Observations
from tasks.artifacts import read_npz, write_npz
from tasks.settings import FitSmplSettings, Settings

SEEN, SOLVED = "seen_", "solved_"


def write_fit_state(path: Path, seen: Observations, state: FitState) -> None:
    """Write both, whole or not at all."""
    seen_arrays = {SEEN + field.name: np.asarray(getattr(seen, field.name)) for field in dataclasses.fields(seen)}
    state_arrays = {SOLVED + field.name: getattr(state, field.name).numpy() for field in dataclasses.fields(state)}
    write_npz(path, **seen_arrays, **state_arrays)


def read_fit_state(path: Path) -> tuple[Observations, FitState]:
    """The inverse of `write_fit_state`."""
    arrays = read_npz(path, made_by="fit_smpl")

    def values(kind: type, prefix: str) -> dict[str, torch.Tensor]:
        return {field.name: torch.from_numpy(np.asarray(arrays[prefix + field.name])) for field in dataclasses.fields(kind)}

    seen = values(Observations, SEEN)
    scalars = {name: float(seen[name]) for name in ("height_px", "focal_px", "focal_spread")}
    principal = tuple(float(c) for c in seen["principal"])
    return Observations(**{**seen, **scalars, "principal": principal}), FitState(**values(FitState, SOLVED))


def spreads_of(settings: FitSmplSettings) -> Spreads:
    """The strength of each term of the fit."""
    return Spreads(**settings.model_dump(exclude={"focal_spread", "import_track", "import_refine", "hands_and_face"}))


def refine_spreads(settings: Settings) -> Spreads:
    """The same as refine_fit has them: landmarks and silhouettes looser, beside points of the look that tell more."""
    section = settings.refine_fit
    return dataclasses.replace(spreads_of(settings.fit_smpl), landmark=section.landmark, outline=section.outline)
