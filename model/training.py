"""Training of an avatar from the frames of one clip, both stages, on one clock: the step.

Stage 1 decodes the surface once per step, renders several frames from it and moves the body in those frames too. Stage 2
adds what follows the pose: shapes blended for each frame, or, as published, pose features with which the surface is decoded
once per frame; poses, features and light stay as they are.

Axes: F frames, B frames of one step, H x W pixels. Pictures are uint8 in memory and 0..1 in the loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils import get_total_norm

from model.avatar import Avatar
from model.checkpoint import Checkpoint
from model.lamp_search import find_lamp, sight
from model.light import has_lamp
from model.losses import LossWeights
from model.lpips import Lpips
from model.networks import PointNorm
from model.pose_refinement import PoseCorrection, PoseRates, RowAdam
from model.step_loss import StepLoss
from model.training_frames import TrainingFrames

HISTORY_EVERY = 10  # steps between two entries of the history
SNAPSHOT_EVERY = 50  # steps between two states that a non-finite step can go back to
MAX_ROLLBACKS = 3
LAMP_FRAMES = 24  # in which the lamp is looked for


@dataclass(frozen=True)
class Rates:
    """Learning rates of stage 1 and 2; 0 keeps something as it is.

    Attributes:
        networks: decoder and smoother.
        features, texel_colors, light: the parts of that name.
        pose_encoder: what follows the pose: pose encoder or pose shapes.
        poses: the motion; null leaves it as fitted.
    """

    networks: float
    features: float
    texel_colors: float
    light: float
    pose_encoder: float
    poses: PoseRates | None


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        steps: length of the training; schedules count in shares of it.
        max_minutes: when it is over at the latest; the schedule then runs on the wall clock where that is ahead of the
            steps. Null: as long as the steps take, and the same result every time.
        frames_per_step: frames that are rendered in one step.
        crop: render the person's window of each frame rather than the whole frame; on a GPU windows have one size.
        background: colour behind the person, drawn anew for every picture or always white.
        schedule: rates fall along a half cosine to 2 %, or by ten at each third ("milestones", as published).
        pose_start: share of the steps before poses begin to move.
        scale_warmup_steps: steps over which the scale grows from 0 (1000 as published); 0 for none.
        checkpoint_every: steps between two checkpoints.
        lamp_at: shares of the training after which the lamp is looked for, where the light has one and moves.
        rates, losses: learning rates and loss weights.
    """

    steps: int
    max_minutes: float | None
    frames_per_step: int
    crop: bool
    background: Literal["random", "white"]
    schedule: Literal["cosine", "milestones"]
    pose_start: float
    scale_warmup_steps: int
    checkpoint_every: int
    lamp_at: list[float]
    rates: Rates
    losses: LossWeights


class NotFinite(ArithmeticError):
    """Loss or gradients stopped being numbers, again and again."""


class Training:
    """One training under way: everything that a checkpoint holds, and the step that moves it."""

    def __init__(
        self,
        avatar: Avatar,
        correction: PoseCorrection,
        frames: TrainingFrames,
        options: TrainingOptions,
        *,
        lpips: Lpips | None,
        backend: str,
        seed: int,
    ) -> None:
        """Args: correction holds the track; backend names the rasteriser; seed starts backgrounds and frame order.

        Pictures are drawn and compared where the avatar lies. The correction may stay on the CPU, which moves a skeleton faster
        than a GPU does, and what is drawn by chance is drawn there, so that chance is the same on every device. A frame's
        picture counts by the track's confidence in it, relative to the mean over all frames.
        """
        self.avatar, self.correction, self.frames, self.options = avatar, correction, frames, options
        self.device, self.generator = avatar.device, torch.Generator().manual_seed(seed)
        trust = correction.track.confidence[frames.rows]
        self.loss = StepLoss(
            avatar, frames, correction.track.camera, trust / trust.mean().clamp_min(1e-6), options.losses, crop=options.crop,
            background=options.background, frames_per_step=options.frames_per_step, lpips=lpips, backend=backend, generator=self.generator,
        )  # fmt: skip
        self.order: Tensor = torch.zeros(0, dtype=torch.long)
        self.step_number, self.seconds, self.rollbacks, self.lamp_searches = 0, 0.0, 0, 0
        self.history: list[dict[str, float]] = []
        self.recent: list[tuple[float, float]] = []
        rates, parts = options.rates, avatar
        groups = [
            ([*parts.decoder.parameters(), *parts.features.smoother.parameters()], rates.networks),
            ([parts.features.features], rates.features),
            ([parts.texel_colors], rates.texel_colors),
            ([parts.light], rates.light),
            ([p for part in (parts.pose_encoder, parts.pose_shapes) if part is not None for p in part.parameters()], rates.pose_encoder),
        ]
        for parameters, rate in groups:
            for parameter in parameters:
                parameter.requires_grad_(rate > 0 and parameter.numel() > 0)
        self.base_rates = [rate for parameters, rate in groups if parameters and rate > 0]
        self.adam = torch.optim.Adam([{"params": [q for q in p if q.numel()], "lr": r} for p, r in groups if p and r > 0], eps=1e-15, fused=True)
        self.row_adam = None if rates.poses is None else RowAdam(correction, rates.poses)
        correction.requires_grad_(self.row_adam is not None)
        self.snapshot = self._copied()

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        limit = self.options.max_minutes
        by_clock = 0.0 if limit is None else self.seconds / (60 * limit)
        return min(1.0, max(self.step_number / self.options.steps, by_clock))

    def rate_factor(self) -> float:
        """What the learning rates are multiplied by now."""
        if self.options.schedule == "milestones":
            return 0.1 ** math.floor(3 * self.progress + 1e-9)
        return 0.02 + 0.98 * (1 + math.cos(math.pi * self.progress)) / 2

    # ------------------------------------------------------------------------------------------------------ one step

    def step(self) -> None:
        """Render a few frames, compare, and move everything that is to move."""
        start = time.perf_counter()
        self._set_modes()
        chosen = self._next_frames()
        loss, errors = self._loss(chosen)
        loss.backward()
        if self._finite(loss):
            self._update(chosen)
            self.step_number += 1
            self._record(float(loss.detach()), -10 * math.log10(max(float(errors.mean()), 1e-10)))
            if self.step_number % SNAPSHOT_EVERY == 0:
                self.snapshot = self._copied()
        else:
            self._roll_back()
        self._look_for_lamp()
        self.seconds += time.perf_counter() - start

    def _loss(self, chosen: Int[Tensor, "B"]) -> tuple[Float[Tensor, ""], Float[Tensor, "B"]]:
        """The loss of some frames, and the mean squared error of each picture."""
        rows = self.frames.rows[chosen]
        loss, errors = self.loss(chosen, self.correction.pose(rows), progress=self.progress)
        if self._poses_move:
            loss = loss + self.correction.penalty(rows, self.frames.rows, self.options.losses).to(self.device)
        return loss, errors

    def _update(self, chosen: Int[Tensor, "B"]) -> None:
        factor = self.rate_factor()
        for group, rate in zip(self.adam.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        if self._poses_move:
            self.row_adam.step(self.frames.rows[chosen], factor)
        self.correction.zero_grad(set_to_none=True)

    @property
    def _poses_move(self) -> bool:
        return self.row_adam is not None and self.progress >= self.options.pose_start

    def _look_for_lamp(self) -> None:
        """Look for the lamp in some frames of the whole clip, when it is time."""
        avatar, done = self.avatar, self.lamp_searches
        if not (has_lamp(avatar.light) and avatar.light.requires_grad) or self.progress < (*sorted(self.options.lamp_at), 2.0)[done]:
            return
        self.lamp_searches += 1
        with torch.no_grad():
            attributes, poses = avatar.attributes(), self.correction.pose(self.frames.rows)
        count = len(self.frames.rows)
        sightings = []
        for k in sorted({round(share * (count - 1)) for share in np.linspace(0, 1, LAMP_FRAMES)}):
            window = self.loss.windows[k]
            camera = self.loss.camera if window is None else self.loss.camera.crop(*window)
            picture, mask = self.frames.picture(k, window, device=self.device)
            trust = float(self.correction.track.confidence[self.frames.rows[k]])
            sightings.append(sight(avatar, attributes, poses[k], camera, picture, mask, trust=trust, backend=self.loss.backend))
        find_lamp(avatar, attributes, sightings)
        self.adam.state.pop(avatar.light, None)  # what it remembers is of another light
        self.snapshot = self._copied()

    def _set_modes(self) -> None:
        """Batch statistics belong to stage 1's decoder and stage 2's encoder; what is frozen keeps its own."""
        self.avatar.train()
        if self.avatar.follows_pose:
            self.avatar.decoder.eval()
        warmup = self.options.scale_warmup_steps
        self.avatar.scale_factor.fill_(min(1.0, (self.step_number + 1) / warmup) if warmup else 1.0)

    def _next_frames(self) -> Int[Tensor, "B"]:
        """The next frames of a shuffled pass over all of them."""
        count = min(self.options.frames_per_step, len(self.frames.rows))
        while len(self.order) < count:
            self.order = torch.cat([self.order, torch.randperm(len(self.frames.rows), generator=self.generator)])
        chosen, self.order = self.order[:count].unique(), self.order[count:]
        return chosen

    def _finite(self, loss: Tensor) -> bool:
        parameters = [*self.avatar.parameters(), *self.correction.parameters()]
        gradients = [p.grad for p in parameters if p.grad is not None]
        return bool(torch.isfinite(get_total_norm(gradients, foreach=None).to(self.device) + loss.detach()))

    def _roll_back(self) -> None:
        """Go back to the last sound state; the frames that follow are others, so the fault need not come again."""
        self.rollbacks += 1
        if self.rollbacks > MAX_ROLLBACKS:
            raise NotFinite(f"loss or gradients were not finite {self.rollbacks} times, last at step {self.step_number}; lower the learning rates")
        self.adam.zero_grad(set_to_none=True)
        self.correction.zero_grad(set_to_none=True)
        order, state = self.order, self.generator.get_state()
        self._load_tensors(self.snapshot)
        self.order = order
        self.generator.set_state(state)

    def _record(self, loss: float, psnr: float) -> None:
        self.recent.append((loss, psnr))
        if self.step_number % HISTORY_EVERY == 0:
            loss, psnr = np.mean(self.recent, axis=0)
            self.history.append({"step": self.step_number, "seconds": round(self.seconds, 2), "loss": float(loss), "psnr": float(psnr)})
            self.recent = []

    # --------------------------------------------------------------------------------------------------- checkpoints

    def checkpoint(self, fingerprint: str) -> Checkpoint:
        """All that is needed to go on as if nothing had happened."""
        record = dict(
            step=self.step_number,
            fingerprint=fingerprint,
            seconds=self.seconds,
            rollbacks=self.rollbacks,
            history=self.history,
            recent=self.recent,
            lamp_searches=self.lamp_searches,
        )
        return Checkpoint(self._tensors(), record)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same training."""
        self._load_tensors(checkpoint.tensors)
        record = checkpoint.record
        self.step_number, self.seconds, self.rollbacks = record["step"], record["seconds"], record["rollbacks"]
        self.lamp_searches = record["lamp_searches"]
        self.history, self.recent = record["history"], [tuple(entry) for entry in record["recent"]]
        self.snapshot = self._copied()

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"avatar.{name}": t for name, t in trainable_state(self.avatar).items()}
        tensors |= {f"correction.{name}": t for name, t in self.correction.state_dict().items()}
        for index, state in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        if self.row_adam is not None:
            tensors |= {f"row_adam.{name}": value for name, value in self.row_adam.state.items()}
        return tensors | {"order": self.order, "generator": self.generator.get_state()}

    def _copied(self) -> dict[str, Tensor]:
        return {name: t.clone() for name, t in self._tensors().items()}

    def _load_tensors(self, tensors: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t.clone() for name, t in tensors.items() if name.startswith(prefix)}

        self.avatar.load_state_dict(part("avatar."), strict=False)
        self.loss.forget()
        self.correction.load_state_dict(part("correction."))
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in part("adam.").items():
            index, key = name.split(".", 1)
            states.setdefault(int(index), {})[key] = value
        self.adam.load_state_dict({"state": states, "param_groups": self.adam.state_dict()["param_groups"]})
        if self.row_adam is not None:
            self.row_adam.state = {name: value.to(self.correction.shift.device) for name, value in part("row_adam.").items()}
        self.order = tensors["order"].clone()
        self.generator.set_state(tensors["generator"].clone())


def trainable_state(avatar: Avatar) -> dict[str, Tensor]:
    """An avatar's state without the atlas, which training does not change."""
    return {name: t for name, t in avatar.state_dict().items() if not name.startswith("atlas_")}


def run_training(
    training: Training,
    *,
    on_step: Callable[[Training], None],
    stop_asked: Callable[[], bool],
) -> bool:
    """Step until the training is over, or until somebody asks to stop.

    Args:
        on_step: called after each step; shows progress, writes checkpoints.
        stop_asked: looked at after each step.

    Returns:
        Whether the training is over; False where it was stopped before.
    """
    while training.progress < 1.0:
        training.step()
        on_step(training)
        if training.progress < 1.0 and stop_asked():
            return False
    return True


@torch.no_grad()
def settle_statistics(avatar: Avatar) -> None:
    """Give the decoder's normalisation the statistics of all points, so that using it equals training it; then evaluate.

    An avatar always decodes all of its points, so the batch of training is the whole population.
    """
    norms = [m for m in avatar.decoder.modules() if isinstance(m, PointNorm)]
    momenta = [norm.momentum for norm in norms]
    avatar.decoder.train()
    for norm in norms:
        norm.momentum = 1.0
    avatar.decode(avatar.features())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    avatar.scale_factor.fill_(1.0)
    avatar.eval()
