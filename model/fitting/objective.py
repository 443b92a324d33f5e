"""The objective of the body fit: which terms there are, how strong, and their sum at a state.

Axes: F frames, L = 33 landmarks, J joints, D motion parameters of a frame. Spreads are one standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from model.body.body_model import BodyModel
from model.fitting import standing, terms
from model.fitting.collision import Collisions, add_collisions, make_collisions
from model.fitting.floor import add_floor, sole_points
from model.fitting.kinematics import (
    BlendedPoints,
    Skeleton,
    SurfacePoints,
    concatenate,
    jacobian,
    make_skeleton,
    points_of_joints,
    points_of_vertices,
    pose_skeleton,
)
from model.fitting.observations import BONES, LEG_BONES, FitState, Observations, bone_mixtures
from model.fitting.outline import OutlinePulls, add_outline
from model.fitting.prior import PosePrior, anatomical_prior
from model.fitting.solver import NormalEquations

_FACE, _HANDS, _HIPS, _LIMBS = range(0, 11), range(17, 23), (23, 24), (13, 14, 15, 16, 25, 26, 27, 28)


@dataclass(frozen=True)
class Spreads:
    """How strong each term is; the first names in params.yaml say the same.

    Attributes:
        landmark: of a detection of full confidence, share of the person's height.
        radius: of the robust kernel, share of the person's height.
        direction: of a world landmarks' bone, rad.
        prior: strength of the pose prior, 0..1. limit: rad beyond a joint limit.
        upright: of the pelvis' axis, rad. balance: of the centre of mass beside the feet, m. standing: of the knees of somebody
            who stands still, rad; balance_still: the balance of such a one.
        turn, shift: usual acceleration of joints and of the root, rad/s^2 and m/s^2; burst: from how many of these on it is a
            quick move that costs ever less.
        contact: of a foot that stands still in the picture, m per root second.
        offset: of BlazePose's landmarks from the body's, m.
        outline: of the silhouette, share of the person's height.
        inside: of an arm that lies inside trunk or thighs, m.
        floor: of a sole from the floor, m.
        shape: of each shape coefficient. tilt: of the camera, rad; lean: of BlazePose's
            world axes against the camera's, rad.
        stature: of the body's height, m. One camera cannot see it, while every term that speaks of metres favours a small body
            near the camera a little in each frame; so this is far less than a population's.
        height: what the body's height is believed to be, barefoot, m; None: that of the model's mean body.
    """

    landmark: float
    radius: float
    direction: float
    prior: float
    limit: float
    upright: float
    balance: float
    balance_still: float
    standing: float
    turn: float
    shift: float
    burst: float
    contact: float
    offset: float
    outline: float
    inside: float
    floor: float
    shape: float
    tilt: float
    lean: float
    stature: float
    height: float | None = None


@dataclass(frozen=True)
class FitBody:
    """A body model as the fit sees it.

    Attributes:
        skeleton: joints, linear in betas.
        landmarks: BlazePose's 33 points on the body.
        surface: the vertices, for the silhouette.
        faces: triangles of the surface.
        prior: which poses are likely.
        support: centre of mass, and where each foot bears it.
        soles: heel and ball of each foot, where they touch the floor.
        collisions: what of the arms must not lie inside of what.
    """

    skeleton: Skeleton
    landmarks: BlendedPoints
    joints: BlendedPoints
    surface: SurfacePoints
    faces: Tensor
    prior: PosePrior
    support: BlendedPoints
    soles: BlendedPoints
    collisions: Collisions

    @property
    def feet(self) -> BlendedPoints:
        """Ankle and ball of the left foot, then of the right one."""
        return self.joints.mix(torch.eye(self.joints.weights.shape[0], dtype=self.joints.weights.dtype)[[7, 10, 8, 11]])


def fit_body_of(model: BodyModel) -> FitBody:
    """Take from a body model what the fit needs, in double precision. Pose correctives, where it has any, are left out."""
    model = model.to(dtype=torch.float64)
    skeleton = make_skeleton(model.parents, model.j_template, model.j_shapedirs)
    surface = SurfacePoints(model.v_template, model.shapedirs, model.lbs_weights)
    joints = points_of_joints(skeleton)
    blends, ids = model.landmark_weights, model.landmark_weights.vertex_ids
    vertices = points_of_vertices(surface.vertices[ids], surface.vertices_by_beta[ids], surface.lbs_weights[ids])
    mixture = torch.zeros(len(blends.ids), len(ids), dtype=torch.float64)
    used = torch.searchsorted(ids, blends.ids).clamp(max=len(ids) - 1)
    mixture.scatter_add_(1, used, blends.vertex_weights)
    landmarks = concatenate(vertices, joints).mix(torch.cat([mixture, blends.joint_weights], 1))
    prior, collisions = anatomical_prior(model.joint_names), make_collisions(skeleton, surface)
    support = standing.support_points(surface, model.faces, joints, model.parents.tolist())
    return FitBody(skeleton, landmarks, joints, surface, model.faces, prior, support, sole_points(surface, skeleton), collisions)


def landmark_shares() -> Float[Tensor, "33"]:
    """How much each landmark counts: faces have eleven that err together, fingers and hips are placed loosely."""
    share = torch.ones(33, dtype=torch.float64)
    share[list(_FACE)] = 0.25
    share[list(_HANDS)] = 0.35
    share[list(_HIPS)] = 0.6
    return share


def direction_shares() -> Float[Tensor, "B"]:
    """How much each bone's direction counts: BlazePose tells those of legs twice as well as those of arms.

    Its errors on the six people of docs/accuracy.md, root mean squares: thighs 0.23 and shins 0.19 rad, upper arms 0.32, forearms 0.40.
    """
    share = torch.ones(len(BONES), dtype=torch.float64)
    share[list(LEG_BONES)] = 3.0
    return share


def offset_spreads(spread: float) -> Float[Tensor, "33"]:
    """Spread of each landmark's offset: the hips' is known to be the largest, while limbs' joints are seen where they are.

    A loose offset along a limb would pass for a bone that is shorter, or turned in depth.
    """
    spreads = torch.full((33,), spread, dtype=torch.float64)
    spreads[list(_HIPS)] *= 2
    spreads[list(_LIMBS)] *= 0.4
    return spreads


class BodyFitProblem:
    """The sum of all terms at a state, as normal equations.

    Args:
        smooth: whether frames are joined in time.
        only_motion: hold what the frames share.
        pulls: what the silhouettes ask for, where they take part.
    """

    def __init__(
        self,
        body: FitBody,
        seen: Observations,
        spreads: Spreads,
        *,
        smooth: bool = True,
        only_motion: bool = False,
        pulls: OutlinePulls | None = None,
    ) -> None:
        self.body, self.seen, self.spreads = body, seen, spreads
        self.smooth, self.only_motion, self.pulls = smooth, only_motion, pulls
        self._share, self._direction_share, self._mixtures = landmark_shares(), direction_shares(), bone_mixtures()
        self._feet = body.feet
        self._stands = torch.zeros(len(seen.times), dtype=seen.times.dtype)
        if smooth:
            between_steps, self._stillness = (
                standing.foot_stillness(seen.points, seen.confidence, seen.times, seen.height_px, watch)
                for watch in (standing.RESTING, standing.STANDING)
            )
            self._rests, self._stands = standing.rests(between_steps), standing.stands_still(self._stillness)

    def step(self, state: FitState, own: Float[Tensor, "F D"], shared: Float[Tensor, "Q"]) -> FitState:
        return state.moved(own, torch.zeros(state.num_shared, dtype=own.dtype) if self.only_motion else shared)

    def linearise(self, state: FitState) -> NormalEquations:
        """Cost, gradient and Gauss-Newton matrix of every term."""
        body, seen, s = self.body, self.seen, self.spreads
        F, D = state.transl.shape[0], 6 + state.body_pose[0].numel()
        model = NormalEquations.zero(F, D, 0 if self.only_motion else state.num_shared, state.transl.dtype)
        posed = pose_skeleton(body.skeleton, state.betas, state.root, state.transl, state.body_pose)
        landmarks = jacobian(body.skeleton, terms.with_offsets(body.landmarks, state.offsets), posed, state.betas)
        turned = torch.einsum("lk,fkxy->flxy", body.landmarks.weights, posed.R)
        height = seen.height_px
        terms.add_reprojection(
            model, seen, state, landmarks, turned,
            spread_px=s.landmark * height, radius_px=s.radius * height, share=self._share, only_motion=self.only_motion,
        )  # fmt: skip
        terms.add_directions(
            model, seen, state, landmarks, turned, self._mixtures, spread=s.direction, share=self._direction_share, only_motion=self.only_motion
        )
        terms.add_pose_prior(model, body.prior, state, strength=s.prior, limit_spread=s.limit)
        terms.add_upright(model, state, posed, spread=s.upright, only_motion=self.only_motion)
        balance = standing.balance_spread(s.balance, s.balance_still, self._stands)
        standing.add_balance(model, state, body.skeleton, body.support, posed, spread=balance, only_motion=self.only_motion)
        add_collisions(model, body.skeleton, body.collisions, state, posed, spread=s.inside, only_motion=self.only_motion)
        if self.pulls is not None:
            add_outline(model, body, seen, state, posed, self.pulls, spread_px=s.outline * height, only_motion=self.only_motion)
        if self.smooth:
            terms.add_smoothness(model, state, seen.times, self._accelerations(D), burst=s.burst)
            standing.add_straight_legs(model, state, self._stands, spread=s.standing)
            standing.add_contact(
                model, body.skeleton, self._feet, posed, state.betas, seen.times, self._stillness,
                spread=s.contact, only_motion=self.only_motion,
            )  # fmt: skip
            add_floor(model, state, body.skeleton, body.soles, posed, self._rests, spread=s.floor, only_motion=self.only_motion)
        if not self.only_motion:
            self._add_shared(model, state)
        return model

    def _accelerations(self, num_own: int) -> Float[Tensor, "D"]:
        spread = torch.full((num_own,), self.spreads.turn, dtype=torch.float64)
        spread[:3] = self.spreads.turn / 2  # a whole body turns more slowly than its limbs
        spread[3:6] = self.spreads.shift
        return spread

    def _add_shared(self, model: NormalEquations, state: FitState) -> None:
        """Betas, offsets, focal length, tilt and lean stay near their guesses."""
        S = state.betas.numel()
        model.add_shared(state.betas / self.spreads.shape, torch.full_like(state.betas, 1 / self.spreads.shape), 0)
        rest, by_beta = self.body.surface.vertices[:, 1], self.body.surface.vertices_by_beta[:, 1]
        taller = (by_beta[rest.argmax()] - by_beta[rest.argmin()]) / self.spreads.stature
        mean_height = float(rest.max() - rest.min())
        believed = mean_height if self.spreads.height is None else self.spreads.height
        off = taller @ state.betas - (believed - mean_height) / self.spreads.stature
        model.H_shared[:S, :S] += taller[:, None] * taller
        model.g_shared[:S] += taller * off
        model.shared_cost = model.shared_cost + 0.5 * off**2
        inverse = (1 / offset_spreads(self.spreads.offset)).repeat_interleave(3)
        model.add_shared(state.offsets.flatten() * inverse, inverse, S)
        inverse = torch.full((1,), 1 / self.seen.focal_spread, dtype=state.betas.dtype)
        model.add_shared(state.log_focal.reshape(1) * inverse, inverse, state.focal_column)
        model.add_shared(state.tilt / self.spreads.tilt, torch.full_like(state.tilt, 1 / self.spreads.tilt), state.tilt_columns.start)
        model.add_shared(state.lean / self.spreads.lean, torch.full_like(state.lean, 1 / self.spreads.lean), state.lean_columns.start)
