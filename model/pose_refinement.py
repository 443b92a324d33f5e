"""Corrections of a fitted motion, found through the renderer: as free parameters beside an avatar, or after it.

Axes: F rows of a track, J joints. Lengths are metres, angles radians. A correction turns the root in world axes about its
own place, shifts it in camera axes (depth is seen badly and moves more slowly), and adds to the joints' rotation vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.body.track import REFERENCE_FPS, BodyTrack
from model.fitting.rotations import rotation_from_vector, vector_from_rotation
from model.losses import LossWeights
from model.planted_feet import FEET, PlantedFeet
from model.pose import BodyPose, track_pose, with_pose

SHIFT_UNIT_M = 0.1  # a shift of 10 cm weighs like a turn of 1 rad
SOON = 1e-9  # s, of frames that are one
USUAL_GAP = 4.0  # frames from the trained one before to the one after, with room for one that is kept
PLACES_EVERY = 8  # steps after which it is looked anew where feet rest


@dataclass(frozen=True)
class PoseRates:
    """How fast poses move in training.

    Attributes:
        joints, root: learning rates, rad.
        shift, depth: learning rates across the picture and along depth, m.
        spans: distances in seconds of the knots through which neighbouring rows share corrections; one that is much longer than
            the clip shares them among all rows, and 0 leaves each row on its own. Empty: the same as [0].
    """

    joints: float
    root: float
    shift: float
    depth: float
    spans: list[float]


class PoseCorrection(nn.Module):
    """One correction for each row of a track, zero at the start; it lies where the track does."""

    def __init__(
        self, track: BodyTrack, parents: Int[Tensor, "J"] | None = None, joints_rest: Float[Tensor, "J 3"] | None = None
    ) -> None:
        """
        Args:
            parents: of the track's joints. With them joints are held by what is known of each, otherwise all alike.
            joints_rest: of the track's body. With them its feet can be held where they rest.
        """
        super().__init__()
        self.track = track
        self.hold = torch.ones_like(track.body_pose[..., 0]) if parents is None else joint_hold(track, parents)
        has_feet = joints_rest is not None and len(joints_rest) > max(max(foot) for foot in FEET)
        self.planted = PlantedFeet(track, joints_rest, parents) if has_feet else None
        self.register_buffer("rest_places", self.planted.places(track_pose(track)) if has_feet else torch.zeros(0))
        self.register_buffer("places_age", torch.zeros((), dtype=torch.long))
        self.joints = nn.Parameter(torch.zeros_like(track.body_pose))
        self.root = nn.Parameter(torch.zeros_like(track.transl))
        self.shift = nn.Parameter(torch.zeros_like(track.transl))

    def pose(self, rows: int | Int[Tensor, "*B"], *, share: float = 1.0) -> BodyPose:
        """The pose of some rows with a share of their correction. Differentiable in the correction."""
        fitted = track_pose(self.track, rows)
        turned = rotation_from_vector(share * self.root[rows]) @ rotation_from_vector(fitted.global_orient)
        moved = share * self.shift[rows] @ self.track.w2c[:3, :3]
        return BodyPose(vector_from_rotation(turned), fitted.body_pose + share * self.joints[rows], fitted.transl + moved)

    def corrected(self) -> BodyTrack:
        """The track with every row corrected."""
        with torch.no_grad():
            return with_pose(self.track, self.pose(torch.arange(self.track.num_frames)))

    def vectors(self, rows: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """The corrections as one vector a row, shifts in their unit."""
        return torch.cat([self.joints[rows].flatten(1), self.root[rows], self.shift[rows] / SHIFT_UNIT_M], dim=1)

    def penalty(self, rows: Int[Tensor, "B"], trained: Int[Tensor, "T"], weights: LossWeights) -> Float[Tensor, ""]:
        """Stay near a fit that can be trusted, change smoothly from frame to frame, and leave feet that rest in place. Differentiable.

        Args:
            rows: the frames of this step.
            trained: all frames that are trained on, ascending; a frame's neighbours are those next to it in there.
        """
        held = (self.hold[rows] * self.joints[rows].square().mean(2)).mean(1)
        near = (self.track.confidence[rows] * held).mean()
        place = torch.searchsorted(trained, rows)
        before, after = trained[(place - 1).clamp_min(0)], trained[(place + 1).clamp_max(len(trained) - 1)]
        time = self.track.row_times.double()
        gap = (time[after] - time[before]).clamp_min(SOON)
        share = ((time[rows] - time[before]) / gap)[:, None].float()
        with torch.no_grad():
            between = self.vectors(before) * (1 - share) + self.vectors(after) * share
        fps = self.track.fps if self.track.fps > 0 else REFERENCE_FPS
        near_by = (USUAL_GAP / (fps * gap)).clamp(max=1)[:, None].float()  # across a gap of the clip a motion may change
        uneven = (near_by * (self.vectors(rows) - between).square()).mean() * (fps / REFERENCE_FPS)
        return weights.pose_prior * near + weights.pose_smooth * uneven + weights.foot_slide * self._slide(rows, weights)

    def _slide(self, rows: Int[Tensor, "B"], weights: LossWeights) -> Float[Tensor, ""] | float:
        """How far feet that rest lie from where they do so in the mean over all rows, as these were a few steps ago."""
        if self.planted is None or not weights.foot_slide:
            return 0.0
        if self.places_age % PLACES_EVERY == 0:
            with torch.no_grad():
                self.rest_places.copy_(self.planted.places(self.pose(torch.arange(self.track.num_frames))))
        self.places_age += 1
        return self.planted.slide(self.pose(rows), rows, self.rest_places)

    @torch.no_grad()
    def spread(self, trained: Int[Tensor, "T"]) -> None:
        """Give every other row the correction that its trained neighbours suggest, linear in time, held at the ends."""
        time = self.track.row_times.double()
        others = torch.tensor(sorted(set(range(self.track.num_frames)) - set(trained.tolist())), dtype=torch.long)
        if not len(others):
            return
        place = torch.searchsorted(trained, others)
        before, after = trained[(place - 1).clamp_min(0)], trained[place.clamp_max(len(trained) - 1)]
        share = ((time[others] - time[before]) / (time[after] - time[before]).clamp_min(SOON)).clamp(0, 1).float()
        for values in (self.joints, self.root, self.shift):
            weight = share.view(-1, *[1] * (values.dim() - 1))
            values[others] = values[before] * (1 - weight) + values[after] * weight

    @torch.no_grad()
    def shrink(self, kept: Float[Tensor, "F"]) -> None:
        """Keep a share of each row's correction; 0 goes back to the fit."""
        for values in (self.joints, self.root, self.shift):
            values *= kept.to(values.device).view(-1, *[1] * (values.dim() - 1))


def joint_hold(track: BodyTrack, parents: Int[Tensor, "J"]) -> Float[Tensor, "F J-1"]:
    """How tightly each joint's rotation is held, 1 in the mean over the track.

    A rotation shows in where the joints that hang from it are, so it is held by their confidence; a joint at an end by its own.
    """
    sure, parents = track.joint_confidence, parents.tolist()
    children = [[k for k, parent in enumerate(parents) if parent == joint] or [joint] for joint in range(1, len(parents))]
    hold = torch.stack([sure[:, below].mean(1) for below in children], 1)
    return hold / hold.mean().clamp_min(1e-6)


class RowAdam:
    """Adam (Kingma and Ba 2015) that moves only the rows of a step, each with its own clock, and rows near them too.

    A frame is seen once an epoch; with the usual Adam its momentum would carry it on in between. Some tens of visits are
    too few to undo what a fit has wrong for seconds on end, so frames can share corrections: knots stand every so many seconds,
    a row moves with the two around it, and a knot sees every step that touches its rows.

    Adam steps as far along what a picture hardly shows as along what it shows well. On one frame's gradient alone that is a
    random walk in depth; a knot averages over the frames around it (docs/adr/0006-the-fit-is-refined-on-the-look.md).
    """

    BETAS, EPSILON = (0.9, 0.99), 1e-10

    def __init__(self, correction: PoseCorrection, rates: PoseRates) -> None:
        device = correction.shift.device
        self.parameters = (correction.joints, correction.root, correction.shift)
        self.sizes = [parameter[0].numel() for parameter in self.parameters]
        each = [rates.joints] * self.sizes[0] + [rates.root] * self.sizes[1] + [rates.shift, rates.shift, rates.depth]
        self.rates = torch.tensor(each, device=device)
        times = correction.track.row_times
        self.levels = [knot_weights(times, span).to(device) for span in rates.spans or [0.0]]
        self.state = {}
        for level, weights in enumerate(self.levels):
            knots = weights.shape[1]
            self.state |= {f"{level}.{part}": torch.zeros(knots, len(self.rates), device=device) for part in ("mean", "square")}
            self.state[f"{level}.visits"] = torch.zeros(knots, 1, device=device)

    @torch.no_grad()
    def step(self, rows: Int[Tensor, "B"], factor: float) -> None:
        """Move some rows by their gradients, and those that share a knot with them; `factor` scales the rates."""
        gradients = torch.cat([parameter.grad[rows].flatten(1) for parameter in self.parameters], dim=1)
        moves = torch.zeros(len(self.parameters[0]), len(self.rates), device=gradients.device)
        for level, weights in enumerate(self.levels):
            touched = weights[rows].any(0).nonzero()[:, 0]
            shares = weights[:, touched]
            moves += shares @ self._direction(level, touched, shares[rows].T @ gradients)
        moves *= factor * self.rates
        for parameter, move in zip(self.parameters, moves.split(self.sizes, dim=1), strict=True):
            parameter -= move.view_as(parameter)
            parameter.grad = None

    def _direction(self, level: int, knots: Int[Tensor, "K"], gradient: Float[Tensor, "K D"]) -> Float[Tensor, "K D"]:
        """Adam's step for some knots, before the rate."""
        mean, square, visits = (self.state[f"{level}.{part}"] for part in ("mean", "square", "visits"))
        visits[knots] += 1
        clock = visits[knots]
        mean[knots] = mean[knots].lerp(gradient, 1 - self.BETAS[0])
        square[knots] = square[knots].lerp(gradient.square(), 1 - self.BETAS[1])
        size = (square[knots] / (1 - self.BETAS[1] ** clock)).sqrt() + self.EPSILON
        return mean[knots] / (1 - self.BETAS[0] ** clock) / size


def knot_weights(times: Float[Tensor, "F"], span: float) -> Float[Tensor, "F K"]:
    """How much each row moves with each knot: linear between knots every `span` seconds, in sum 1; with a span of 0 each row is a knot."""
    if not span:
        return torch.eye(len(times), device=times.device)
    place = ((times - times[0]) / span).float()
    return (1 - (place[:, None] - torch.arange(int(place[-1].ceil()) + 1, device=place.device)).abs()).clamp_min(0)
