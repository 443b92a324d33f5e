"""The body fit refined on what the person looks like: an avatar learns, is followed into the frames, and the motion adjusts.

Landmarks and outlines say little about depth. Cloth and skin say more: once an avatar shows roughly what the person looks
like, optical flow finds hundreds of its points in every frame to a fraction of a pixel, and a bundle adjustment over all
frames turns them into motion, bone lengths and focal length. The avatar was learned from the motion that is to be mended, so
learning and adjusting take turns. It is thrown away in the end: training proper starts from the better motion.

What remains is what the avatar itself has wrong: it slips where the person turns. So in the end motion and proportions adjust to
places that are carried from single frames into others without it (carried_tracks.py).

Axes: F frames, T of them trained on, N points of the avatar. Camera axes are the world.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.avatar import Attributes, Avatar
from model.body.body_files import BODY_JOINTS, JOINT_NAMES
from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.coverage import facing_camera, turned_by
from model.fitting.bundle import BundleProblem, BundleState, SurfaceTracks, adjust
from model.fitting.carried_tracks import CarryOptions, carry_tracks
from model.fitting.fit import Silhouettes, pair_outlines
from model.fitting.follow import follow_points
from model.fitting.kinematics import SurfacePoints
from model.fitting.objective import BodyFitProblem, FitBody, Spreads
from model.fitting.observations import FitState, Observations
from model.fitting.rotations import vector_from_rotation
from model.fitting.score import body_height
from model.fitting.sides import Pictures, bring_back, choose_sides
from model.pose import track_pose
from model.pose_refinement import PoseCorrection
from model.training import Training, TrainingOptions, run_training, settle_statistics
from model.training_frames import TrainingFrames
from model.uv.atlas import vertex_normals

WINDOW_MARGIN = 0.08  # around the person's mask, share of the person's height: a badly fitted arm still shows
OUTLINE_RADIUS = 0.04  # how far outlines may lie apart, share of the person's height
FOCAL_HELD, HEIGHT_HELD = 1e-3, 1e-3  # spreads of a focal length's logarithm and of a height, m, that are to stay


@dataclass(frozen=True)
class OverRounds:
    """A positive value that goes from its first to its last by the same factor in each round."""

    first: float
    last: float

    def at(self, number: int, rounds: int) -> float:
        """The value in one of so many rounds, counted from 0."""
        done = number / max(rounds - 1, 1)
        return self.first ** (1 - done) * self.last**done


@dataclass(frozen=True)
class RefineOptions:
    """How the motion is refined on an appearance.

    Attributes:
        rounds: how often the avatar learns and the motion adjusts; 0 leaves the motion as fitted.
        first_steps, steps: training steps before the first adjustment and before each later one.
        later_rate: of the learning rates after the first round.
        points: surface points that may be followed, drawn anew in each round.
        tracks: of one frame, at most.
        strength: how many independent points all tracks of a frame count as, in the first and in the last round; neighbours err
            together, less so the sharper the look.
        point_spread: m, of a surface point from where the avatar has it, in the first and in the last round: while it has them
            wrongly they must give way, and later they had better hold.
        side_rounds: rounds, counted from 0, after which each limb's side of depth is chosen anew, by what its drawing shows; in the first of
            them by looks that have learned on either motion.
        shape_turn: deg that the person has to turn by for shape and focal length to be solved for too; seen from fewer sides,
            they would take up what clothes do.
        adjust_steps: Gauss-Newton steps in each round.
        carried: the adjustments after the last round, on places that are carried from single frames into others.
    """

    rounds: int
    first_steps: int
    steps: int
    later_rate: float
    points: int
    tracks: int
    strength: OverRounds
    point_spread: OverRounds
    side_rounds: list[int]
    shape_turn: float
    adjust_steps: int
    carried: CarryOptions


@dataclass(frozen=True)
class Clip:
    """What is refined on.

    Attributes:
        body, model: the person's body as the fit and as the avatar see it.
        seen, silhouettes: landmarks and masks of all frames.
        frames: the pictures that are learned from and followed into; other frames follow by smoothness and landmarks.
        track: the fitted motion; says which frames there are and how they are trusted.
    """

    body: FitBody
    model: BodyModel
    seen: Observations
    silhouettes: Silhouettes
    frames: TrainingFrames
    track: BodyTrack


@dataclass(frozen=True)
class Round:
    """What one round came to: the state, and how far the followed points lay from the drawn ones before it, px (median)."""

    number: int
    state: FitState
    off_px: float


def refine_on_appearance(
    clip: Clip, avatar: Avatar, state: FitState, spreads: Spreads, training: TrainingOptions, options: RefineOptions,
    *, backend: str, seed: int, first_round: int = 0, on_round: Callable[[Round], None] = lambda round_: None,
    stop_asked: Callable[[], bool] = lambda: False,
) -> FitState:  # fmt: skip
    """Take turns between learning the avatar and adjusting the motion. How tall the body is stays as fitted.

    Args:
        avatar: untrained, or as it was after `first_round` rounds; it is trained and reshaped in place.
        state: the fit, or the state after `first_round` rounds.
        training: losses and rates; poses stay as they are while the avatar learns.
        on_round: told after each round.
        stop_asked: looked at after each round and each of its training steps, but not while sides are chosen; what is unfinished then is
            dropped.

    Returns:
        The state after the last round. Deterministic in the seed.
    """
    spreads = with_height_held(clip, clip.track.betas.double(), spreads)
    for number in range(first_round, options.rounds):
        track = as_track(clip.track, clip.seen, state)
        if not learn(clip, avatar, track, training, options, number, backend=backend, seed=seed + number, stop_asked=stop_asked):
            return state
        with torch.no_grad():
            attributes = avatar.attributes()
        strength, point_spread = (value.at(number, options.rounds) for value in (options.strength, options.point_spread))
        tracks, off_px = follow(clip, avatar, attributes, track, options, strength=strength, seed=seed + number, backend=backend)
        only_motion = not shows_shape(clip.track, options)
        state = adjust_motion(clip, avatar, attributes, state, tracks, spreads, options, point_spread=point_spread, only_motion=only_motion)
        reshape(avatar, clip.model, state.betas)
        if number in options.side_rounds:
            state = turn_sides(
                clip, avatar, attributes, state, spreads, training, options,
                strength=strength, point_spread=point_spread, relearn=number == min(options.side_rounds), seed=seed + number, backend=backend,
            )  # fmt: skip
        on_round(Round(number, state, off_px))
        if stop_asked():
            return state
    return state


def turn_sides(
    clip: Clip, avatar: Avatar, attributes: Attributes, state: FitState, spreads: Spreads, training: TrainingOptions, options: RefineOptions,
    *, strength: float, point_spread: float, relearn: bool, seed: int, backend: str,
) -> FitState:  # fmt: skip
    """Choose each limb's side of depth anew (sides.py); all else stays.

    Args:
        relearn: whether copies of the look learn on the motions that are compared. It pays in the first choice, while the look knows the
            fit alone (docs/adr/0006).
    """

    def adjusted(motion: FitState) -> FitState:
        track = as_track(clip.track, clip.seen, motion)
        tracks, _ = follow(clip, avatar, attributes, track, options, strength=strength, seed=seed, backend=backend)
        return adjust_motion(clip, avatar, attributes, motion, tracks, spreads, options, point_spread=point_spread, only_motion=True)

    def learned_on(motion: FitState) -> Pictures:
        track, own = as_track(clip.track, clip.seen, motion), copy.deepcopy(avatar)
        learn(clip, own, track, training, options, 1, backend=backend, seed=seed, stop_asked=lambda: False)  # as in a later round
        with torch.no_grad():
            return Pictures(clip.frames, track, own, own.attributes(), backend)

    pictures = Pictures(clip.frames, as_track(clip.track, clip.seen, state), avatar, attributes, backend)
    return choose_sides(clip.body, clip.seen, spreads, state, pictures, adjusted, learned_on if relearn else lambda _: pictures)[0]


def learn(
    clip: Clip, avatar: Avatar, track: BodyTrack, training: TrainingOptions, options: RefineOptions, number: int,
    *, backend: str, seed: int, stop_asked: Callable[[], bool],
) -> bool:  # fmt: skip
    """Train the avatar for a round on the motion as it is; False where it was stopped."""
    factor = 1.0 if number == 0 else options.later_rate
    rates = dataclasses.replace(
        training.rates, networks=factor * training.rates.networks, features=factor * training.rates.features,
        texel_colors=factor * training.rates.texel_colors, light=factor * training.rates.light, poses=None,
    )  # fmt: skip
    steps = options.first_steps if number == 0 else options.steps
    lamp_at = training.lamp_at if number == 0 else []
    training = dataclasses.replace(training, steps=steps, max_minutes=None, rates=rates, lamp_at=lamp_at)
    correction = PoseCorrection(track)
    run = Training(avatar, correction, clip.frames, training, lpips=None, backend=backend, seed=seed)
    over = run_training(run, on_step=lambda _: None, stop_asked=stop_asked)
    settle_statistics(avatar)
    avatar.requires_grad_(False)
    return over


def follow(
    clip: Clip, avatar: Avatar, attributes: Attributes, track: BodyTrack, options: RefineOptions, *, strength: float, seed: int, backend: str
) -> tuple[SurfaceTracks, float]:
    """Follow points of the avatar into every frame that is learned from.

    Returns:
        Tracks of all frames (none in the others), and the median distance that points were off, px.
    """
    generator = np.random.default_rng(seed)
    chosen = np.zeros(avatar.atlas.num_points, bool)
    chosen[generator.permutation(avatar.atlas.num_points)[: options.points]] = True
    count, P = track.num_frames, options.tracks
    points, targets, sharpness = np.zeros((count, P), np.int64), np.zeros((count, P, 2)), np.zeros((count, P, 2, 2))
    off = []
    for k, row in enumerate(clip.frames.rows.tolist()):
        window = clip.frames.window(k, margin=round(WINDOW_MARGIN * clip.seen.height_px))
        image, mask = clip.frames.picture(k, window)
        pose = track_pose(track, row)
        found = follow_points(
            avatar, attributes, pose, track.camera.crop(*window), image, mask, chosen, height_px=clip.seen.height_px, backend=backend
        )
        kept = np.sort(generator.permutation(len(found.points))[:P])
        n = len(kept)
        points[row, :n], targets[row, :n], sharpness[row, :n] = found.points[kept], found.targets[kept] + window[:2], found.sharpness[kept]
        off.append(found.moved[kept])
    sharpness *= (strength / P * track.confidence.double().numpy()[:, None, None, None]) ** 0.5
    distance = np.concatenate(off)
    return SurfaceTracks(*(torch.from_numpy(a) for a in (points, targets, sharpness))), float(np.median(distance)) if len(distance) else np.nan


def adjust_motion(
    clip: Clip, avatar: Avatar, attributes: Attributes, state: FitState, tracks: SurfaceTracks, spreads: Spreads, options: RefineOptions,
    *, point_spread: float, only_motion: bool,
) -> FitState:  # fmt: skip
    """One bundle adjustment on the tracks, beside all terms of the fit; of the motion only, or of shape and focal length too."""
    rows, tracks = tracks.restricted()
    surface = tracked_surface(clip.model, avatar, attributes, state.betas, rows)
    return _adjust(clip, surface, tracks, state, spreads, point_spread=point_spread, only_motion=only_motion, steps=options.adjust_steps)


def adjust_on_carried(
    clip: Clip, state: FitState, spreads: Spreads, options: RefineOptions,
    *, seed: int, on_round: Callable[[int], None] = lambda number: None, stop_asked: Callable[[], bool] = lambda: False,
) -> FitState:  # fmt: skip
    """Adjust to places that are carried from single frames into others, beside all terms of the fit; carry anew; adjust again.

    The motion adjusts, and where the person turns far enough the lengths and widths of the body too. How tall it is and the focal
    length stay: one camera hardly knows them, while thousands of places that each like to be near would shrink the body.

    Args:
        on_round: told how many rounds are done.
        stop_asked: looked at after each round.

    Returns:
        The state as it was where `options.carried.tracks` is 0. Deterministic in the seed.
    """
    carried = options.carried
    for number in range(carried.rounds if carried.tracks else 0):
        surface, tracks = carry_tracks(clip.body, clip.seen, clip.frames, state, clip.track.confidence, carried, seed=seed + number)
        how = dict(point_spread=carried.point_spread, only_motion=not shows_shape(clip.track, options), steps=carried.steps)
        known, start, firm = with_size_held(clip, state, spreads)
        found = _adjust(known, surface, tracks, start, firm, **how)
        state = dataclasses.replace(found, log_focal=state.log_focal + found.log_focal)
        on_round(number + 1)
        if stop_asked():
            break
    return state


def bring_back_limbs(
    clip: Clip, avatar: Avatar, state: FitState, before: FitState, spreads: Spreads, training: TrainingOptions, options: RefineOptions,
    *, seed: int, backend: str, on_limb: Callable[[int], None] = lambda number: None, stop_asked: Callable[[], bool] = lambda: False,
) -> tuple[FitState, int]:  # fmt: skip
    """Bring back limbs that were lost on the way from `before` to `state`, by what the avatar shows (sides.py), which learns on `state` first.

    Args:
        on_limb: told how many of the four limbs are done.
        stop_asked: looked at while the avatar learns; the state then stays as it is.

    Returns:
        The state, and in how many frames (counted for each limb) a limb was brought back. The avatar is trained and reshaped in place.
    """
    reshape(avatar, clip.model, state.betas)
    track = as_track(clip.track, clip.seen, state)
    if not learn(clip, avatar, track, training, options, options.rounds, backend=backend, seed=seed, stop_asked=stop_asked):
        return state, 0
    with torch.no_grad():
        pictures = Pictures(clip.frames, track, avatar, avatar.attributes(), backend)
    return bring_back(clip.body, clip.seen, spreads, state, before.body_pose, pictures, on_limb=on_limb)


def with_size_held(clip: Clip, state: FitState, spreads: Spreads) -> tuple[Clip, FitState, Spreads]:
    """The same clip, state and spreads with focal length and body height as good as known to be what the state says."""
    seen = dataclasses.replace(clip.seen, focal_px=float(clip.seen.focal_px * state.log_focal.exp()), focal_spread=FOCAL_HELD)
    firm = with_height_held(clip, state.betas, spreads)
    return dataclasses.replace(clip, seen=seen), dataclasses.replace(state, log_focal=torch.zeros_like(state.log_focal)), firm


def with_height_held(clip: Clip, betas: Float[Tensor, "S"], spreads: Spreads) -> Spreads:
    """The same spreads with the body's height as good as known to be what the betas say.

    One camera does not see it, while hundreds of points that each like to be near would shrink the body.
    """
    return dataclasses.replace(spreads, height=body_height(clip.body, betas), stature=HEIGHT_HELD)


def _adjust(
    clip: Clip, surface: SurfacePoints, tracks: SurfaceTracks, state: FitState, spreads: Spreads, *, point_spread: float, only_motion: bool, steps: int
) -> FitState:
    """One bundle adjustment."""
    pulls = pair_outlines(clip.body, clip.seen, clip.silhouettes, state, OUTLINE_RADIUS * clip.seen.height_px)
    problem = BodyFitProblem(clip.body, clip.seen, spreads, only_motion=only_motion, pulls=pulls)
    bundle = BundleProblem(problem, surface, tracks, shift_spread=point_spread)
    return adjust(bundle, BundleState(state, torch.zeros_like(surface.vertices)), steps=steps).body


def shows_shape(track: BodyTrack, options: RefineOptions) -> bool:
    """Whether the person is seen from enough sides for shape and focal length to show."""
    return bool(np.degrees(turned_by(facing_camera(track))) >= options.shape_turn)


def tracked_surface(model: BodyModel, avatar: Avatar, attributes: Attributes, betas: Float[Tensor, "S"], rows: Tensor) -> SurfacePoints:
    """Some points of the avatar as the fit sees surfaces: their rest places at betas 0, and how they move with the shape."""
    corners = model.faces[avatar.atlas_face[rows].cpu()]
    shares = avatar.atlas_barycentric[rows].cpu().double()
    by_beta = (model.shapedirs.double()[corners] * shares[..., None, None]).sum(1)
    places = (avatar.atlas_points_rest + attributes.offsets)[rows].detach().cpu().double()
    weights = torch.zeros(len(rows), len(avatar.parents), dtype=torch.float64)
    weights.scatter_add_(1, avatar.atlas_skin_joints[rows].cpu(), avatar.atlas_skin_weights[rows].cpu().double())
    return SurfacePoints(places - by_beta @ betas.double(), by_beta, weights)


@torch.no_grad()
def reshape(avatar: Avatar, model: BodyModel, betas: Float[Tensor, "S"]) -> None:
    """Carry an avatar of stage 1 to another shape of the same body: points, normals and joints; the look stays."""
    corners, shares = model.faces[avatar.atlas_face.cpu()], avatar.atlas_barycentric.cpu().to(model.dtype)
    vertices, joints = model.rest(betas.to(model.dtype))
    normals = torch.from_numpy(vertex_normals(vertices.numpy(), model.faces.numpy())).to(model.dtype)

    def between(values: Tensor) -> Tensor:
        return (values[corners] * shares[..., None]).sum(1)

    avatar.atlas_points_rest.copy_(between(vertices))
    avatar.atlas_normals_rest.copy_(nn.functional.normalize(between(normals), dim=-1))
    avatar.atlas_joints_rest.copy_(joints)
    avatar.betas.copy_(betas)


def as_track(track: BodyTrack, seen: Observations, state: FitState) -> BodyTrack:
    """A state in the pipeline's own form: shape, motion and focal length of the track replaced; its fingers, jaw and eyes stay."""
    body_pose = state.body_pose.float()
    if body_pose.shape[1] >= len(JOINT_NAMES[24]):  # more than SMPL's joints
        rows = len(BODY_JOINTS) - 1
        body_pose = torch.cat([body_pose[:, :rows], track.body_pose[:, rows:]], 1)
    K = track.K.clone()
    K[0, 0] = K[1, 1] = float(seen.focal_px * state.log_focal.exp())
    return dataclasses.replace(
        track, betas=state.betas.float(), global_orient=vector_from_rotation(state.root).float(),
        body_pose=body_pose, transl=state.transl.float(), K=K,
    )  # fmt: skip
