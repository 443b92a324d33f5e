"""Stage: from the fitted motion to a better one, by what the person looks like.

Reads frames/, masks/ and fit/; writes fit_refined/track.npz (shape, motion and focal length as they are from here on) and
fit_refined/refined.json. Frames that are kept for scoring are neither learned from nor followed into; they only decide in the end
which of the two motions, the fitted or the refined one, is taken. An imported track that was not refined on landmarks has no state to go on from and passes unchanged.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from model.avatar import Avatar
from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.checkpoint import Checkpoint, clear_checkpoints, load_checkpoint, save_checkpoint
from model.fitting.appearance import Clip, RefineOptions, Round, adjust_on_carried, as_track, bring_back_limbs, refine_on_appearance
from model.fitting.fit import Silhouettes
from model.fitting.held_out import heldout_psnr
from model.fitting.objective import Spreads, fit_body_of
from model.fitting.observations import FitState
from model.fitting.score import body_height, score_fit
from model.fitting.starts import LIMBS
from model.training import TrainingOptions
from model.training_frames import TrainingFrames
from model.uv.atlas import bake_atlas, body_surface
from tasks.artifacts import (
    ClipInfo,
    SubjectPaths,
    read_clip,
    read_mask,
    read_segmentation,
    read_track,
    split_frames,
    subject_paths,
    timed,
    write_json,
    write_track,
)
from tasks.body import read_body
from tasks.errors import Interrupted, run_stage
from tasks.fit_state import read_fit_state, refine_spreads
from tasks.options import options_from
from tasks.progress import progress_bar
from tasks.settings import Settings, load_settings
from tasks.training_run import find_device, fingerprint, load_training_frames, look_of, stop_signals
from tasks.whole_files import replaced_folder


@dataclass(frozen=True)
class Refined:
    """What this stage makes; the record says how it went."""

    track: BodyTrack
    record: dict


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "refine_fit"):
        track = read_track(paths.fit / "track.npz", made_by="fit_smpl")
        reason = reason_to_pass(paths, settings)
        refined = refine(paths, track, settings) if reason is None else Refined(track, {"kept": reason})
        with replaced_folder(paths.fit_refined) as folder:
            write_track(folder / "track.npz", refined.track)
            write_json(folder / "refined.json", refined.record)
    clear_checkpoints(paths.checkpoints / "refine_fit")
    print(summary(refined.record))


def reason_to_pass(paths: SubjectPaths, settings: Settings) -> str | None:
    """Why the fitted motion stays as it is, or None."""
    if settings.refine_fit.options.rounds == 0:
        return "refine_fit.options.rounds is 0"
    if not (paths.fit / "state.npz").exists():
        return "the track was imported and not refined on landmarks (fit_smpl.import_refine)"
    return None


def refine(paths: SubjectPaths, fitted: BodyTrack, settings: Settings) -> Refined:
    """Refine the fit, from the newest checkpoint on; keep the fit where a look learned on it tells surely more of the kept frames."""
    section, backend = settings.refine_fit, settings.render.backend
    clip, state = read_inputs(paths, fitted, settings)
    spreads = refine_spreads(settings)
    look = settings.presets[section.look].train_stage1
    device = find_device(backend)
    torch.manual_seed(settings.seed)
    avatar = untrained_avatar(clip.model, fitted, settings).to(device)
    options = options_from(section.options, RefineOptions)
    folder = paths.checkpoints / "refine_fit"
    rounds = section.model_dump_json(exclude={"options": {"carried"}})
    key = fingerprint(look, clip.frames, fitted, rounds, settings.fit_smpl.model_dump_json(), str(settings.seed), avatar=avatar)
    before = state
    training = options_from(look.training, TrainingOptions)
    state, first, off = resume(folder, key, avatar, state)
    with stop_signals() as stopped, progress_bar("refining the fit", options.rounds) as show:

        def on_round(done: Round) -> None:
            nonlocal state
            state = done.state
            off.append(round(done.off_px, 3) if np.isfinite(done.off_px) else None)
            save_checkpoint(folder, checkpoint(key, avatar, done, off))
            show(done.number + 1, f"points were {done.off_px:.2f} px off")

        state = refine_on_appearance(
            clip, avatar, state, spreads, training, options, backend=backend, seed=settings.seed,
            first_round=first, on_round=on_round, stop_asked=lambda: bool(stopped),
        )  # fmt: skip
        if stopped:
            raise Interrupted(f"refine_fit stopped after {len(off)} of {options.rounds} rounds, which are kept; run the same command again to go on")
    state, brought_back = adjust_in_the_end(clip, avatar, state, spreads, training, options, settings)
    refined = as_track(fitted, clip.seen, state)
    psnrs = tell_kept_frames(paths, clip, (fitted, refined), training, options, settings, device)
    found = judge(clip, fitted, refined, spreads, before, state, off, psnrs)
    return dataclasses.replace(found, record=found.record | {"limbs_brought_back": brought_back})


def adjust_in_the_end(
    clip: Clip, avatar: Avatar, state: FitState, spreads: Spreads, training: TrainingOptions, options: RefineOptions, settings: Settings
) -> tuple[FitState, int]:
    """After the rounds: adjust to places carried from frame to frame, then bring back limbs that this has lost.

    Returns:
        The state, and in how many frames (counted for each limb) a limb was brought back.
    """
    if not options.carried.tracks:
        return state, 0
    kept = "refine_fit stopped after its rounds, which are kept; run the same command again to go on"
    with stop_signals() as stopped, progress_bar("matching frames with each other", options.carried.rounds) as show:
        adjusted = adjust_on_carried(clip, state, spreads, options, seed=settings.seed, on_round=show, stop_asked=lambda: bool(stopped))
    if stopped:
        raise Interrupted(kept)
    if not options.side_rounds:
        return adjusted, 0
    with stop_signals() as stopped, progress_bar("looking for lost limbs", len(LIMBS)) as show:
        found = bring_back_limbs(
            clip, avatar, adjusted, state, spreads, training, options,
            seed=settings.seed + options.rounds, backend=settings.render.backend, on_limb=show, stop_asked=lambda: bool(stopped),
        )  # fmt: skip
    if stopped:
        raise Interrupted(kept)
    return found


def tell_kept_frames(
    paths: SubjectPaths, clip: Clip, tracks: tuple[BodyTrack, ...], training: TrainingOptions, options: RefineOptions, settings: Settings, device: torch.device
) -> list[Float[np.ndarray, "K"]]:
    """PSNR of each of the kept frames, dB, as a look that is learned on each of the motions draws it; none where no frames are kept."""
    heldout = kept_frames(paths, tracks[0], settings)
    if heldout is None:
        return []
    psnrs = []
    with stop_signals() as stopped, progress_bar("judging the refined fit", len(tracks)) as show:
        for done, track in enumerate(tracks):
            found = heldout_psnr(
                clip, heldout, untrained_avatar(clip.model, track, settings).to(device), track, training, options,
                backend=settings.render.backend, seed=settings.seed, stop_asked=lambda: bool(stopped),
            )  # fmt: skip
            if found is None:
                raise Interrupted("refine_fit stopped while it judged the refined fit, which is kept; run the same command again to go on")
            psnrs.append(found)
            show(done + 1, f"{found.mean():.2f} dB on frames that were not learned from")
    return psnrs


def read_inputs(paths: SubjectPaths, fitted: BodyTrack, settings: Settings) -> tuple[Clip, FitState]:
    """What is refined on, and the fit as it ended."""
    info, segmentation = read_clip(paths), read_segmentation(paths)
    split = split_frames(info, segmentation, heldout_every=settings.split.heldout_every)
    masks = np.stack([read_mask(paths, frame) for frame in info.frame_ids])
    trust = np.array([0.0 if str(frame) in segmentation.flagged else 1.0 for frame in info.frame_ids])
    model = read_body(settings.body, with_uv=True)
    seen, state = read_fit_state(paths.fit / "state.npz")
    seen = dataclasses.replace(seen, focal_spread=focal_spread(info, seen.focal_spread, settings))
    frames = load_training_frames(paths, fitted, split.train)
    return Clip(fit_body_of(model), model, seen, Silhouettes(masks, trust), frames, fitted), state


def focal_spread(info: ClipInfo, of_fit: float, settings: Settings) -> float:
    """How far the focal length may be from its guess: a known one hardly, a guessed one further than in the fit, one that a turn of the camera told as that says."""
    return of_fit if info.focal_known else max(of_fit, info.focal_error or settings.refine_fit.focal_spread)


def untrained_avatar(model: BodyModel, track: BodyTrack, settings: Settings) -> Avatar:
    """The avatar that learns the look: the networks of a preset on a coarser surface."""
    section = settings.refine_fit
    look = settings.presets[section.look].train_stage1
    atlas = bake_atlas(body_surface(model, track.betas), resolution=section.resolution, map_resolution=section.map_resolution, density=None)
    return Avatar(atlas, look_of(look), body=track.body, betas=track.betas)


def checkpoint(key: str, avatar: Avatar, done: Round, off: list[float]) -> Checkpoint:
    """What the next round needs."""
    tensors = {f"avatar.{name}": tensor for name, tensor in avatar.state_dict().items()}
    tensors |= {f"state.{field.name}": getattr(done.state, field.name) for field in dataclasses.fields(FitState)}
    return Checkpoint(tensors, {"step": done.number + 1, "fingerprint": key, "off_px": off})


def resume(folder: Path, key: str, avatar: Avatar, state: FitState) -> tuple[FitState, int, list[float]]:
    """State, next round and record of the newest checkpoint of the same refinement, or of the start."""
    found = load_checkpoint(folder)
    if found is None or found.record["fingerprint"] != key:
        clear_checkpoints(folder)
        return state, 0, []
    avatar.load_state_dict({name.removeprefix("avatar."): t for name, t in found.tensors.items() if name.startswith("avatar.")})
    state = FitState(**{field.name: found.tensors[f"state.{field.name}"] for field in dataclasses.fields(FitState)})
    print(f"refine_fit: going on after round {found.record['step']}")
    return state, found.record["step"], list(found.record["off_px"])


def kept_frames(paths: SubjectPaths, track: BodyTrack, settings: Settings) -> TrainingFrames | None:
    """The frames that are kept for scoring; None where there are none."""
    split = split_frames(read_clip(paths), read_segmentation(paths), heldout_every=settings.split.heldout_every)
    return load_training_frames(paths, track, split.heldout) if split.heldout else None


def judge(
    clip: Clip, fitted: BodyTrack, refined: BodyTrack, spreads: Spreads, before: FitState, after: FitState, off: list[float], psnrs: list[np.ndarray]
) -> Refined:
    """The refined motion with its record; the fitted one where a look that is learned on it tells surely more of the kept frames.

    Args: psnrs of each of the kept frames, dB, as learned on the fitted and on the refined motion; empty where none are kept.
    """
    scores = [score_fit(clip.body, clip.seen, clip.silhouettes, spreads, state) for state in (before, after)]
    ious = [float(np.nanmean(score.iou)) if np.isfinite(score.iou).any() else float("nan") for score in scores]
    told = [float(each.mean()) for each in psnrs]
    record = {
        "rounds": len(off),
        "points_off_px": off,
        "shape_solved": not torch.equal(before.betas, after.betas),
        "heldout_psnr": told,
        "iou_mean": ious,
        "focal_px": [float(clip.seen.focal_px * state.log_focal.exp()) for state in (before, after)],
        "height_m": [body_height(clip.body, state.betas) for state in (before, after)],
        "betas": [float(b) for b in after.betas],
    }
    if psnrs and surely_less(psnrs[1] - psnrs[0]):
        reason = f"a look learned on the refined one tells less of frames that it has not seen ({told[1]:.2f} dB, before {told[0]:.2f})"
        return Refined(fitted, {**record, "kept": reason})
    return Refined(refined, {**record, "kept": None})


def surely_less(gains: Float[np.ndarray, "K"]) -> bool:
    """Whether frames lose by more in the mean than their scatter explains: by a standard error, which a single frame does not have."""
    error = float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else 0.0
    return float(gains.mean()) < -error


def summary(record: dict) -> str:
    """One line for a user."""
    if record["kept"] is not None:
        return f"the fitted motion stays as it is: {record['kept']}"
    off, focal = [px for px in record["points_off_px"] if px is not None], record["focal_px"]  # None: a round in which no point was found
    points = f"points of the person were {off[0]:.1f} px off before and {off[-1]:.1f} px in the last one" if off else "no point of the person could be followed"
    shape = f"focal length {focal[0]:.0f} -> {focal[1]:.0f} px" if record["shape_solved"] else "shape and focal length stay, for the person hardly turns"
    lost = f"; limbs brought back in {record['limbs_brought_back']} frames" if record.get("limbs_brought_back") else ""
    return f"{record['rounds']} rounds: {points}; {shape}{lost}"


if __name__ == "__main__":
    run_stage(main)
