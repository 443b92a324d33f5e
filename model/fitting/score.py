"""How good a fit is, by what the clip itself shows, and which frames should not be trusted.

Axes: F frames, H x W pixels, V vertices. Lengths are metres or pixels as said. No truth is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from model.fitting import standing, terms
from model.fitting.fit import Silhouettes, pose_state, skin_surface
from model.fitting.kinematics import place
from model.fitting.objective import FitBody, Spreads
from model.fitting.observations import FitState, Observations
from model.fitting.outline import render_faces, shrink_masks
from model.fitting.uncertainty import joint_spread

SURE = 0.12  # landmarks of lower confidence (their error is three times the usual) do not count in the reprojection error
CERTAIN = 0.65  # mean inverse growth of the landmarks' error (see confidence.py) of a frame that shows all it can
BAD_MISS = 0.03  # reprojection error as share of the person's height from which on a frame is doubted
BAD_IOU = 0.7
JUMP = 60.0  # m/s^2, acceleration of any large joint beyond which a frame is doubted
UNSEEN_CONFIDENCE = 0.1
STANDS = 0.5  # stillness from which on a foot is taken to stand
FEET = ((7, 10), (8, 11))  # ankle and ball of each foot, SMPL's joints


@dataclass(frozen=True)
class FitScore:
    """What can be said of a fit without truth.

    Attributes:
        reprojection_px: mean distance of sure landmarks, offsets included; NaN where a frame has none.
        iou: of the body's silhouette with the mask; NaN where the mask is not trusted.
        acceleration: mean over the joints, root included, m/s^2.
        confidence: 0..1. reasons: of each frame whose confidence is low.
        slide: speed of the feet that stand, m/s; NaN where none does.
        stands: how far each foot drifted while it stood, m, one entry for each time that it did.
        misses: distance of each landmark from its detection, px; NaN where it is not sure.
        joint_spread: how far each joint is expected to lie from its true place beside the root, m.
    """

    reprojection_px: Float[np.ndarray, "F"]
    iou: Float[np.ndarray, "F"]
    acceleration: Float[np.ndarray, "F"]
    confidence: Float[np.ndarray, "F"]
    reasons: dict[int, str]
    slide: Float[np.ndarray, "F"]
    stands: list[float]
    misses: Float[np.ndarray, "F 33"]
    joint_spread: Float[np.ndarray, "F J"]


def score_fit(body: FitBody, seen: Observations, silhouettes: Silhouettes, spreads: Spreads, state: FitState) -> FitScore:
    """Measure a fit and decide how far each frame can be trusted."""
    posed = pose_state(body, state)
    marks = place(terms.with_offsets(body.landmarks, state.offsets), posed, state.betas)
    focal = seen.focal_px * state.log_focal.exp()
    pixels, _ = terms.project(marks, focal, seen.principal)
    sure = seen.confidence > SURE
    distances = (pixels - seen.points).norm(dim=-1)
    miss = (distances * sure).sum(-1) / sure.sum(-1)
    iou = silhouette_iou(body_masks(body, seen, state, silhouettes), shrink_masks(silhouettes.masks)[0])
    iou[silhouettes.trust <= 0] = np.nan
    acceleration = joint_acceleration(posed.joints, seen.times)
    confidence, reasons = _judge(miss.numpy(), iou, acceleration, seen, silhouettes)
    slide, stands = foot_sliding(posed.joints, seen)
    misses = np.where(sure.numpy(), distances.numpy(), np.nan)
    spread = joint_spread(body, seen, silhouettes, spreads, state).numpy()
    return FitScore(miss.numpy(), iou, acceleration, confidence, reasons, slide, stands, misses, spread)


def _judge(
    miss: np.ndarray, iou: np.ndarray, acceleration: np.ndarray, seen: Observations, silhouettes: Silhouettes
) -> tuple[Float[np.ndarray, "F"], dict[int, str]]:
    """How far each frame can be trusted, and why not further."""
    confidence, reasons = np.ones(len(miss)), {}
    certainty = seen.confidence.sqrt().mean(-1).numpy()
    for frame in range(len(miss)):
        why = []
        if not np.isfinite(miss[frame]):
            confidence[frame] = UNSEEN_CONFIDENCE
            why.append("no landmark is sure: the pose comes from the frames beside it")
        else:
            excess = max(0.0, miss[frame] / seen.height_px / BAD_MISS - 0.5)
            confidence[frame] = min(1.0, certainty[frame] / CERTAIN) * float(np.exp(-0.5 * excess**2))
            if miss[frame] > BAD_MISS * seen.height_px:
                why.append(f"landmarks are missed by {miss[frame]:.0f} px")
        if silhouettes.trust[frame] <= 0:
            why.append("the mask is flagged")
            confidence[frame] *= 0.7
        elif iou[frame] < BAD_IOU:
            why.append(f"silhouette IoU is {iou[frame]:.2f}")
            confidence[frame] *= max(iou[frame] / BAD_IOU, 0.0)
        if acceleration[frame] > JUMP:
            why.append(f"joints accelerate by {acceleration[frame]:.0f} m/s^2")
            confidence[frame] *= JUMP / acceleration[frame]
        if why:
            reasons[frame] = "; ".join(why)
    return confidence, reasons


def foot_sliding(joints: Float[Tensor, "F J 3"], seen: Observations) -> tuple[Float[np.ndarray, "F"], list[float]]:
    """How fast feet slide that stand still in the picture, m/s, and how far each drifts from where it stood, m.

    A drift is the largest distance of the foot from its mean place while it stands.
    """
    times, count = seen.times.numpy(), len(joints)
    if count < 2:
        return np.full(count, np.nan), []
    found = (seen.confidence > 0).to(seen.points.dtype)
    still = standing.foot_stillness(seen.points, found, seen.times, seen.height_px, standing.STANDING).numpy() > STANDS
    places = np.stack([joints[:, list(foot)].mean(1).numpy() for foot in FEET], 1)
    speed = np.linalg.norm(np.diff(places, axis=0), axis=-1) / np.diff(times)[:, None]
    slide, stands = np.full(count, np.nan), []
    for gap in np.flatnonzero(still.any(1)):
        slide[gap] = speed[gap][still[gap]].mean()
    for foot in range(len(FEET)):
        edges = np.flatnonzero(np.diff(np.r_[False, still[:, foot], False].astype(int)))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            stood = places[start : end + 1, foot]
            stands.append(float(np.linalg.norm(stood - stood.mean(0), axis=1).max()))
    return slide, stands


def joint_acceleration(joints: Float[Tensor, "F J 3"], times: Float[Tensor, "F"]) -> Float[np.ndarray, "F"]:
    """Mean acceleration of the joints in each frame, m/s^2; the ends repeat their neighbours."""
    if len(times) < 3:
        return np.zeros(len(times))
    c = terms.second_difference(times)[:, :, None, None]
    second = c[:, 0] * joints[:-2] + c[:, 1] * joints[1:-1] + c[:, 2] * joints[2:]
    return np.pad(second.norm(dim=-1).mean(-1).numpy(), 1, mode="edge")


def body_masks(body: FitBody, seen: Observations, state: FitState, silhouettes: Silhouettes) -> Bool[np.ndarray, "F h w"]:
    """The body's silhouette in each frame, at the size that masks are compared at."""
    small, scale = shrink_masks(silhouettes.masks[:1])
    shape = small.shape[1:]
    faces, focal, masks = body.faces.numpy(), seen.focal_px * state.log_focal.exp(), []
    for frame in range(len(state.transl)):
        vertices = skin_surface(body.surface, pose_state(body, state.frames(slice(frame, frame + 1))), state.betas)
        pixels, _ = terms.project(vertices, focal, seen.principal)
        masks.append(render_faces((pixels[0] * scale).numpy(), vertices[0, :, 2].numpy(), faces, *shape)[0] >= 0)
    return np.stack(masks)


def silhouette_iou(a: Bool[np.ndarray, "F h w"], b: Bool[np.ndarray, "F h w"]) -> Float[np.ndarray, "F"]:
    """Intersection over union of each pair of masks; 0 where both are empty."""
    return (a & b).sum((1, 2)) / np.maximum((a | b).sum((1, 2)), 1)


def body_height(body: FitBody, betas: Float[Tensor, "S"]) -> float:
    """Height of the shaped body at rest, m."""
    y = (body.surface.vertices + body.surface.vertices_by_beta @ betas)[:, 1]
    return float(y.max() - y.min())


