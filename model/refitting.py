"""Poses judged and improved by a finished avatar: frames that were not trained on, and the choice between fit and correction.

Axes: F frames of a clip, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from model.avatar import Attributes, Avatar
from model.body.track import BodyTrack
from model.losses import composite
from model.pose import BodyPose, track_pose
from model.pose_refinement import PoseCorrection, PoseRates, RowAdam
from model.training_frames import TrainingFrames

REFIT_RATES = PoseRates(joints=8e-3, root=5e-3, shift=3e-3, depth=3e-3, spans=[0.0])
ALPHA_SHARE = 0.5  # of the score: coverage against mask, beside colour
KEPT_SHARES = (1.0, 0.5)  # of a correction, that are tried before it is given up
JOINT_PRIOR = 0.02  # per rad^2 of mean squared correction: what the picture cannot see stays as it was


def refine_poses(
    avatar: Avatar,
    track: BodyTrack,
    frames: TrainingFrames,
    *,
    steps: int,
    backend: str,
    show: Callable[[int], None] = lambda done: None,
) -> BodyTrack:
    """Move the poses of some rows towards their pictures, the avatar kept as it is.

    Each row is refined on its own; where the start scores better than the end, the start stays.

    Args:
        avatar: of either stage; one of stage 2 keeps the look that it has in the starting pose.
        track: the motion to start from, best on the CPU wherever the avatar is.
        frames: which rows, and their pictures and masks.
        steps: gradient steps a row.
        backend: the rasteriser.
        show: called with the number of rows that are done.

    Returns:
        The track with those rows changed.
    """
    correction = PoseCorrection(track)
    adam = RowAdam(correction, REFIT_RATES)
    with torch.no_grad():
        shared = None if avatar.follows_pose else avatar.attributes()
    for k, row in enumerate(frames.rows.tolist()):
        with torch.no_grad():
            attributes = avatar.attributes(track_pose(track, row)) if shared is None else shared
            best = first = picture_score(avatar, attributes, track_pose(track, row), track, frames, k, backend=backend)
        best_values = None
        rows = torch.tensor([row])
        for step in range(steps + 1):
            score = picture_score(avatar, attributes, correction.pose(row), track, frames, k, backend=backend)
            if float(score.detach()) < float(best):
                best, best_values = score.detach(), [v[row].detach().clone() for v in _values(correction)]
            if step == steps:
                break
            loss = score + JOINT_PRIOR * correction.joints[row].square().mean()
            loss.backward()
            adam.step(rows, 0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)
        with torch.no_grad():
            for value, kept in zip(_values(correction), best_values or [torch.zeros(())] * 3, strict=True):
                value[row] = kept if float(best) < float(first) else 0
        show(k + 1)
    return correction.corrected()


@torch.no_grad()
def keep_what_helps(avatar: Avatar, correction: PoseCorrection, frames: TrainingFrames, *, backend: str) -> Float[Tensor, "T"]:
    """Take corrections back, frame by frame, as far as they do harm.

    A correction stays whole where neither the colours nor the outline of its picture are farther from the frame's than
    those of the fitted pose; else half of it is tried, and where that does harm too the fitted pose stays.

    Returns:
        The share of its correction that each row of the track keeps; 1 for rows without a frame.
    """
    attributes, track = avatar.attributes(), correction.track
    kept = torch.ones(track.num_frames)

    def errors(share: float) -> tuple[Tensor, Tensor]:
        return picture_errors(avatar, attributes, correction.pose(row, share=share), track, frames, k, backend=backend)

    for k, row in enumerate(frames.rows.tolist()):
        fitted = errors(0.0)
        helps = (share for share in KEPT_SHARES if all(bool(e <= f) for e, f in zip(errors(share), fitted, strict=True)))
        kept[row] = next(helps, 0.0)
    correction.shrink(kept)
    return kept


def picture_score(
    avatar: Avatar, attributes: Attributes, pose: BodyPose, track: BodyTrack, frames: TrainingFrames, frame: int, *, backend: str
) -> Float[Tensor, ""]:
    """The errors of colour and coverage in one figure; lower is better. Differentiable."""
    color, coverage = picture_errors(avatar, attributes, pose, track, frames, frame, backend=backend)
    return (1 - ALPHA_SHARE) * color + ALPHA_SHARE * coverage


def picture_errors(
    avatar: Avatar, attributes: Attributes, pose: BodyPose, track: BodyTrack, frames: TrainingFrames, frame: int, *, backend: str
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean absolute difference of colour and of coverage in the person's window. Differentiable."""
    window = frames.window(frame, margin=32)
    image, mask = frames.picture(frame, window, device=avatar.device)
    background = torch.full((3,), 0.5, device=avatar.device)
    rendered = avatar.render(pose, track.camera.crop(*window), background, backend=backend, attributes=attributes)
    return (rendered.image - composite(image, mask, background)).abs().mean(), (rendered.alpha - mask).abs().mean()


def _values(correction: PoseCorrection) -> tuple[Tensor, Tensor, Tensor]:
    return correction.joints, correction.root, correction.shift
