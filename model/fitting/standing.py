"""What standing tells of a body: its mass lies above its feet, its legs are nearly straight, and a foot that rests stays.

A single camera hardly sees depth, and these are what is known of it without looking.

Axes: F frames, V vertices, J joints, D motion parameters of a frame, Q shared ones. Lengths are metres, angles radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.fitting.kinematics import BlendedPoints, Posed, Skeleton, SurfacePoints, concatenate, jacobian
from model.fitting.observations import FitState
from model.fitting.solver import NormalEquations
from model.fitting.terms import of_tilt, robust_kernel, up_direction

# de Leva 1996: each segment's share of the body's mass (both sexes, rounded), and the joint whose subtree it is, less those further on
_SEGMENTS: dict[int, float] = {
    15: 0.08, 9: 0.16, 3: 0.15, 0: 0.13, 16: 0.027, 17: 0.027, 18: 0.022, 19: 0.022,
    1: 0.144, 2: 0.144, 4: 0.045, 5: 0.045, 7: 0.014, 8: 0.014,
}  # fmt: skip
_ANKLES, _BALLS, _KNEES = (7, 8), (10, 11), (4, 5)
# the line of gravity falls some 5 cm before the ankles of somebody who stands at ease (Opila et al. 1988), and ankle and ball lie
# 13 cm apart
SUPPORT = 0.33  # of the way from ankle to ball
STANDING_KNEE = 0.12  # rad; the knees of a body at ease, in SMPL's axes, where 0 is stretched further than people stand
BALANCE_REACH = 0.09  # m; somebody who seems further out of balance falls, jumps or leans on something


@dataclass(frozen=True)
class Watch:
    """How a foot is told to be still: over `window` s it goes by less than `speed` heights/s in the picture.

    Unless `doubting`, a foot that is hardly seen counts as one that is: where it goes by so little, it is no guess.
    """

    window: float
    speed: float
    doubting: bool


# a step takes 0.3 s and goes at some 0.5 heights/s; over 0.2 s the detector's jitter passes for 0.05
RESTING, STANDING = Watch(0.2, 0.12, False), Watch(0.4, 0.06, True)  # between two steps; for longer


def support_points(surface: SurfacePoints, faces: Int[Tensor, "T 3"], joints: BlendedPoints, parents: list[int]) -> BlendedPoints:
    """Centre of mass, and where the left and the right foot bear it.

    Each segment's mass is spread over its skin: bones lie behind the middle of the trunk, by some 3 cm.
    """
    mixture = torch.zeros(2, joints.weights.shape[0], dtype=joints.weights.dtype)
    for row, (ankle, ball) in enumerate(zip(_ANKLES, _BALLS, strict=True)):
        mixture[row, ankle], mixture[row, ball] = 1 - SUPPORT, SUPPORT
    mass = skin_mass(surface, faces, parents)[:, None] * surface.lbs_weights
    centre = BlendedPoints(
        mass.sum(0)[None], (mass.T @ surface.vertices)[None], torch.einsum("vk,vxs->kxs", mass, surface.vertices_by_beta)[None]
    )
    return concatenate(centre, joints.mix(mixture))


def skin_mass(surface: SurfacePoints, faces: Int[Tensor, "T 3"], parents: list[int]) -> Float[Tensor, "V"]:
    """Each vertex's share of the body's mass: its segments' masses, each even over the segment's skin."""
    corners = surface.vertices[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1) / 6
    skin = torch.zeros(len(surface.vertices), dtype=area.dtype).index_add_(0, faces.flatten(), area.repeat_interleave(3))
    segment = []
    for joint, parent in enumerate(parents):
        segment.append(joint if joint in _SEGMENTS else segment[parent])
    mass = torch.zeros_like(skin)
    for root, share in _SEGMENTS.items():
        own = skin * surface.lbs_weights[:, [joint for joint, of in enumerate(segment) if of == root]].sum(1)
        mass += share * own / own.sum()
    return mass / mass.sum()


def add_balance(
    model: NormalEquations, state: FitState, skeleton: Skeleton, support: BlendedPoints, posed: Posed, *,
    spread: Float[Tensor, "F"], reach: float = BALANCE_REACH, only_motion: bool = False,
) -> None:  # fmt: skip
    """The centre of mass stays above the feet: above the nearest point of the line from the left to the right foot.

    Args:
        support: of support_points.
        spread: m, in the horizontal plane, of each frame. reach: m, of the robust kernel.
    """
    x, by_motion, by_beta = jacobian(skeleton, support, posed, state.betas)
    spread = spread[:, None]
    up, up_by_tilt = up_direction(state.tilt)
    flat = torch.eye(3, dtype=x.dtype) - up[:, None] * up
    mass, left, right = (x @ flat).unbind(1)
    span = right - left
    along = (((mass - left) * span).sum(-1) / (span**2).sum(-1).clamp_min(1e-6)).clamp(0, 1)[:, None]
    a = along[..., None]
    lean = x[:, 0] - x[:, 1] - along * (x[:, 2] - x[:, 1])
    residuals = lean @ flat / spread
    by_own, by_shape = (flat @ (by[:, 0] - (1 - a) * by[:, 1] - a * by[:, 2]) / spread[..., None] for by in (by_motion, by_beta))
    # of lean - (up . lean) up
    by_tilt = -((lean @ up)[:, None, None] * up_by_tilt + up[:, None] * (lean @ up_by_tilt)[:, None, :]) / spread[..., None]
    rho, kernel = robust_kernel((residuals**2).sum(-1), reach / spread[:, 0])
    by_shared = None
    if not only_motion:
        by_shared = of_tilt(model, state, by_tilt)
        by_shared[..., : by_shape.shape[-1]] = by_shape
    model.add(residuals, by_own, kernel[:, None].expand_as(residuals), rho, by_shared)


def add_straight_legs(model: NormalEquations, state: FitState, stands: Float[Tensor, "F"], *, spread: float, radius: float = 2.0) -> None:
    """Who stands still has nearly straight knees: a few millimetres of a leg's length, all that a picture shows, bend them by 10 degrees.

    Args:
        stands: how surely the person stands still, 0..1.
        spread: of a knee's flexion, rad. radius: of the robust kernel, in spreads; a crouch is far beyond it.
    """
    for knee in _KNEES:
        residuals = (state.body_pose[:, knee - 1, :1] - STANDING_KNEE) / spread
        rho, kernel = robust_kernel(residuals.square().squeeze(-1), radius)
        by_own = torch.zeros(len(stands), 1, model.g.shape[1], dtype=residuals.dtype)
        by_own[:, 0, 6 + 3 * (knee - 1)] = 1 / spread
        model.add(residuals, by_own, (stands * kernel)[:, None], stands * rho)


def balance_spread(moving: float, still: float, stands: Float[Tensor, "F"]) -> Float[Tensor, "F"]:
    """How far the centre of mass may be from above the feet, m: of somebody who moves and of somebody who stands, by how surely."""
    return (stands / still**2 + (1 - stands) / moving**2) ** -0.5


def rests(stillness: Float[Tensor, "F-1 2"]) -> Float[Tensor, "F 2"]:
    """How surely each foot rests in each frame, 0..1: it is still before it or after it."""
    return _before_or_after(stillness)


def stands_still(stillness: Float[Tensor, "F-1 2"]) -> Float[Tensor, "F"]:
    """How surely the person stands still in each frame, 0..1: both feet rest, before it or after it."""
    return _before_or_after(stillness.amin(1))


def _before_or_after(between: Float[Tensor, "F-1 *S"]) -> Float[Tensor, "F *S"]:
    """What holds in a frame where it holds in the gap before it or in the one after it; nothing where there is one frame."""
    if not len(between):
        return between.new_zeros(1, *between.shape[1:])
    return torch.maximum(torch.cat([between, between[-1:]]), torch.cat([between[:1], between]))


def foot_stillness(
    points: Float[Tensor, "F 33 2"], confidence: Float[Tensor, "F 33"], times: Float[Tensor, "F"], height_px: float,
    watch: Watch,
) -> Float[Tensor, "F-1 2"]:  # fmt: skip
    """How surely each foot (left, right) stands still between a frame and the next, 0..1, judged in the picture.

    Heel and toe are followed for as long as `watch` says, so that the detector's jitter is no motion.
    """
    stillness = []
    for landmarks in ((29, 31), (30, 32)):
        slowest = torch.zeros(len(times) - 1, dtype=points.dtype)
        for landmark in landmarks:
            moved = _steady_speed(points[:, landmark], confidence[:, landmark], times, watch.window) / height_px
            slowest = torch.maximum(slowest, moved)
        trust = confidence[:, list(landmarks)].amin(1)
        doubt = torch.minimum(trust[1:], trust[:-1]).sqrt() if watch.doubting else 1
        stillness.append(torch.exp(-((slowest / watch.speed) ** 2)) * doubt)
    return torch.stack(stillness, -1)


def _steady_speed(
    track: Float[Tensor, "F 2"], confidence: Float[Tensor, "F"], times: Float[Tensor, "F"], window: float
) -> Float[Tensor, "F-1"]:
    """Speed of the line through a landmark's places around each gap between two frames, px/s."""
    middle = (times[1:] + times[:-1]) / 2
    near = ((times[None] - middle[:, None]).abs() <= window / 2 + (times[1:] - times[:-1])[:, None] / 2).to(track.dtype)
    weight = near * (confidence[None] + 1e-3)
    weight = weight / weight.sum(1, keepdim=True)
    mean_time = weight @ times
    spread = (weight * (times[None] - mean_time[:, None]) ** 2).sum(1).clamp_min(1e-9)
    mean = weight @ track
    slope = torch.einsum("gf,gfx->gx", weight * (times[None] - mean_time[:, None]), track[None] - mean[:, None]) / spread[:, None]
    return slope.norm(dim=-1)


def add_contact(
    model: NormalEquations, skeleton: Skeleton, feet: BlendedPoints, posed: Posed, betas: Float[Tensor, "S"], times: Float[Tensor, "F"],
    stillness: Float[Tensor, "F-1 2"], *, spread: float, only_motion: bool = False,
) -> None:
    """A foot that stands still in the picture stands still in the world: what fixes the depth of a body between two frames.

    Args:
        feet: points of the left foot, then as many of the right one.
        stillness: of each foot, from a frame to the next, 0..1.
        spread: how far a still foot drifts, m per root second (a random walk, so that the frame rate does not matter).
    """
    x, by_motion, by_beta = jacobian(skeleton, feet, posed, betas)
    scale = 1 / (spread * (times[1:] - times[:-1]).clamp_min(1e-6).sqrt())
    per_foot = x.shape[1] // 2
    residuals = ((x[1:] - x[:-1]) * scale[:, None, None]).flatten(1)
    by_first = (-by_motion[:-1] * scale[:, None, None, None]).flatten(1, 2)
    by_second = (by_motion[1:] * scale[:, None, None, None]).flatten(1, 2)
    weights = stillness.repeat_interleave(3 * per_foot, dim=1)
    by_shared = None
    if not only_motion:
        moved = ((by_beta[1:] - by_beta[:-1]) * scale[:, None, None, None]).flatten(1, 2)
        others = torch.zeros(*moved.shape[:2], model.g_shared.numel() - moved.shape[2], dtype=moved.dtype)
        by_shared = torch.cat([moved, others], -1)
    model.add_between(residuals, by_first, by_second, weights, 0.5 * (weights * residuals**2).sum(-1), by_shared)
