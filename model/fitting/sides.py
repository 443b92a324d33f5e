"""On which side of depth each limb lies, asked of the picture: the avatar is drawn both ways and compared with the frame.

Mirrored in depth, a limb keeps its outline but shows its other side: the palm for the back of the hand, lit for shaded, in
front of the trunk for behind it. Landmarks cannot tell the two apart (model/fitting/starts.py chooses by what is usual), and
no adjustment gets from one to the other; a drawing can, once the person's look is known. And a limb that an
adjustment has lost, hidden as it was, is brought back by settling anew.

Axes: F frames, K ways that a limb may lie, H x W pixels. Lengths in the picture are px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.avatar import Attributes, Avatar
from model.body.track import BodyTrack
from model.fitting import terms
from model.fitting.kinematics import place, pose_skeleton
from model.fitting.objective import FitBody, Spreads
from model.fitting.observations import FitState, Observations, bone_mixtures
from model.fitting.rotations import rotation_from_vector, unit
from model.fitting.starts import LIMBS, Limb, aim_limb, cheapest_path, limb_aims, limb_cost, limb_jumps, settle
from model.losses import composite
from model.pose import BodyPose
from model.training_frames import TrainingFrames

BACKGROUND = 0.5  # grey behind drawing and frame
BLUR = 0.004  # of the person's height: a mirrored limb need not lie to the pixel
MARGIN = 0.09  # of the person's height, around the limb's joints: flesh, sleeve and hand
COLOUR_SPREAD = 0.1  # 0..1, usual difference of a drawing that is right
INDEPENDENT = 0.012  # of the person's height, side of the square whose pixels err together
MOST_EVIDENCE = 8.0  # of one frame; a limb that is drawn in the wrong place either way says little, however much it differs
DIRECTION_UNKNOWN = 1e3  # rad
OWN_DIRECTION = 0.35  # rad, by which bones may turn from a way's own directions while it settles
NOTICEABLE = 0.05  # m by which a joint of the limb has to move for a way to be worth drawing
LOST = 0.1  # m, the same of a way that takes the place of one that has been adjusted to the pictures for good
SWITCH = 4.0  # cost of leaving the adjusted motion, and of coming back to it: a single picture can pay for both only where the limb had leapt


@dataclass(frozen=True)
class Pictures:
    """What drawings are compared with, and how they are made.

    Attributes:
        frames: the pictures.
        track: how the body is turned and placed on which limbs are drawn.
        avatar, attributes: the look.
    """

    frames: TrainingFrames
    track: BodyTrack
    avatar: Avatar
    attributes: Attributes
    backend: str


def choose_sides(
    body: FitBody, seen: Observations, spreads: Spreads, state: FitState, pictures: Pictures,
    adjust: Callable[[FitState], FitState], learn_on: Callable[[FitState], Pictures],
) -> tuple[FitState, int]:  # fmt: skip
    """Settle for each limb and frame on the side that the pictures, the pose prior and the limb's speed prefer together.

    The motion has been adjusted to the pictures, and a limb that is merely mirrored has not: drawn a few pixels off, the right
    side often loses to a wrong one. So sides are compared on equal terms first, each settled on the landmarks alone, also the one
    that the limb is on; the motion with those that win is adjusted as well; and of the two each limb takes the better in each frame.
    Then each may be drawn by a look that has learned on it: one that has learned on a wrong side only confirms it.

    What the landmarks say of directions in depth does not count here; in frames without a picture the neighbours decide.

    Args:
        pictures: their track is `state`.
        adjust: to the pictures, from any motion.
        learn_on: the same frames with the look that is to draw a motion, which may have learned on it for a little longer.

    Returns:
        The state, and in how many frames (counted for each limb) another way was taken.
    """
    spreads = dataclasses.replace(spreads, direction=DIRECTION_UNKNOWN)
    frames, turned = torch.arange(len(seen.times)), state.body_pose
    for limb in LIMBS:
        ways = settled_ways(body, seen, spreads, state, limb)
        path = best_ways(body, seen, spreads, state, limb, ways, [pictures] * len(ways))
        turned = limb_from(turned, torch.stack(ways)[path, frames], limb)
    adjusted = adjust(dataclasses.replace(state, body_pose=turned))
    looks = [learn_on(state), learn_on(adjusted)]
    other, pose, changed = adjusted.body_pose, state.body_pose, 0
    for limb in LIMBS:
        ways = [state.body_pose, other]
        path = best_ways(body, seen, spreads, state, limb, ways, looks)
        pose = limb_from(pose, torch.stack(ways)[path, frames], limb)
        changed += int((path > 0).sum())
    return dataclasses.replace(state, body_pose=pose), changed


def bring_back(
    body: FitBody, seen: Observations, spreads: Spreads, state: FitState, before: Float[Tensor, "F J-1 3"], pictures: Pictures,
    *, on_limb: Callable[[int], None] = lambda number: None,
) -> tuple[FitState, int]:  # fmt: skip
    """Bring back limbs that the last adjustments have lost: where one is hidden nothing holds it, and its neighbours in time swing it through the trunk.

    The adjusted motion stays but where the pictures of two frames and more, or of one in which the limb leaps, clearly prefer another way: the
    limb as it was before, or mirrored.

    Args:
        before: the poses before those adjustments.
        pictures: their track is `state`.
        on_limb: told how many of the four limbs are done.

    Returns:
        The state, and in how many frames (counted for each limb) another way was taken.
    """
    spreads = dataclasses.replace(spreads, direction=DIRECTION_UNKNOWN)
    pose, changed = state.body_pose, 0
    for number, limb in enumerate(LIMBS, start=1):
        ways = [state.body_pose, before, *settled_ways(body, seen, spreads, state, limb)[1:]]
        path = best_ways(body, seen, spreads, state, limb, ways, [pictures] * len(ways), noticeable=LOST, switch=SWITCH)
        pose = limb_from(pose, torch.stack(ways)[path, torch.arange(len(path))], limb)
        changed += int((path > 0).sum())
        on_limb(number)
    return dataclasses.replace(state, body_pose=pose), changed


def best_ways(
    body: FitBody, seen: Observations, spreads: Spreads, state: FitState, limb: Limb, poses: list[Float[Tensor, "F J-1 3"]], looks: list[Pictures],
    *, noticeable: float = NOTICEABLE, switch: float = 0.0,
) -> Int[Tensor, "F"]:  # fmt: skip
    """Which of some poses has the limb best in each frame, by picture, prior and speed together; all else is as in the state.

    Args:
        noticeable: m by which a joint of the limb has to differ from the first pose's.
        switch: what going from one pose to another costs by itself. With it only pictures, and the speeds that they bring, speak for others than
            the first.
    """
    K = len(poses)
    ways = [limb_from(state.body_pose, pose, limb) for pose in poses]
    stacked = dataclasses.replace(state.repeat(K), body_pose=torch.cat(ways))
    cost, outer = (t.unflatten(0, (K, -1)).transpose(0, 1) for t in limb_cost(body, seen.repeat(K), spreads, stacked, limb))
    joints = pose_skeleton(body.skeleton, stacked.betas, stacked.root, stacked.transl, stacked.body_pose).joints
    places = joints[:, list(limb.joints)].unflatten(0, (K, -1)).transpose(0, 1)
    jumps = limb_jumps(outer, seen.times)
    if switch:
        cost = torch.maximum(cost, cost[:, :1])  # another way is taken for what the pictures say, not because it is more usual
        cost[[0, -1], 1:] += switch  # before and after the clip the first way is taken
        jumps = jumps + switch * (1 - torch.eye(K, dtype=cost.dtype))
    return cheapest_path(cost + picture_costs(seen, state, ways, places, looks, noticeable), jumps)


def limb_from(pose: Float[Tensor, "F J-1 3"], other: Float[Tensor, "F J-1 3"], limb: Limb) -> Float[Tensor, "F J-1 3"]:
    """A pose with one limb as another one has it."""
    pose = pose.clone()
    pose[:, list(limb.turned)] = other[:, list(limb.turned)]
    return pose


def settled_ways(body: FitBody, seen: Observations, spreads: Spreads, state: FitState, limb: Limb) -> list[Float[Tensor, "F J-1 3"]]:
    """Poses with one limb as it is, its upper bone mirrored in depth, its lower bone, and both, each settled on the landmarks.

    Each is held near its own directions: a bone that slopes too little, because the body is not yet known, would slide from the mirrored side
    back to what is usual.
    """
    poses = [state.body_pose, *mirrored_ways(body, state, limb)]
    K = len(poses)
    starts = dataclasses.replace(state.repeat(K), body_pose=torch.cat(poses))
    posed = pose_skeleton(body.skeleton, starts.betas, starts.root, starts.transl, starts.body_pose)
    bones = unit(bone_mixtures() @ place(terms.with_offsets(body.landmarks, starts.offsets), posed, starts.betas))
    own = dataclasses.replace(seen.repeat(K), directions=bones @ rotation_from_vector(starts.lean[None])[0])
    settled, _ = settle(body, own, dataclasses.replace(spreads, direction=OWN_DIRECTION), starts)
    return list(settled.body_pose.unflatten(0, (K, -1)))


def mirrored_ways(body: FitBody, state: FitState, limb: Limb) -> list[Float[Tensor, "F J-1 3"]]:
    """Poses with a limb's upper bone mirrored in depth, its lower bone, and both."""
    joints = pose_skeleton(body.skeleton, state.betas, state.root, state.transl, state.body_pose).joints
    _, mirrored = limb_aims(joints, limb)
    return [aim_limb(body, state, limb, *aim).body_pose for aim in mirrored]


def picture_costs(
    seen: Observations, state: FitState, ways: list[Float[Tensor, "F J-1 3"]], places: Float[Tensor, "F K 3 3"], looks: list[Pictures], noticeable: float
) -> Float[Tensor, "F K"]:
    """How much worse each way's drawing matches each frame than the first one's, half squared spreads; 0 where there is no frame.

    A way that hardly differs from the first one costs infinitely much: it would change nothing.

    Args:
        places: of the limb's three joints in each way, m, camera axes.
        looks: what draws each way; their frames are the same.
        noticeable: m by which a joint has to differ.
    """
    differs = ((places - places[:, :1]).norm(dim=-1) > noticeable).any(-1)
    differs[:, 0] = True
    costs = torch.zeros(places.shape[:2], dtype=torch.float64).masked_fill(~differs, torch.inf)
    pixels, _ = terms.project(places, seen.focal_px * state.log_focal.exp(), seen.principal)
    frames, track = looks[0].frames, looks[0].track
    for k, row in enumerate(frames.rows.tolist()):
        drawn = torch.nonzero(differs[row]).squeeze(-1).tolist()
        window = _window(pixels[row, drawn], MARGIN * seen.height_px, track)
        if len(drawn) == 1 or window is None:
            continue
        image, mask = frames.picture(k, window)
        wanted = composite(image, mask, torch.full((3,), BACKGROUND)).numpy()
        errors = [_difference(looks[way], ways[way][row], row, window, wanted, seen.height_px) for way in drawn]
        costs[row, drawn] = (torch.tensor(errors, dtype=torch.float64) - errors[0]).clamp(-MOST_EVIDENCE, MOST_EVIDENCE)
    return costs


def _window(pixels: Float[Tensor, "K 3 2"], margin: float, track: BodyTrack) -> tuple[int, int, int, int] | None:
    """x, y, width and height of the part of the picture that shows a limb in some ways; None where it lies outside."""
    size = torch.tensor([track.width, track.height])
    low = (pixels.flatten(0, 1).amin(0) - margin).floor().long().clamp_min(0)
    high = torch.minimum((pixels.flatten(0, 1).amax(0) + margin).ceil().long(), size)
    width, height = (high - low).tolist()
    return (*low.tolist(), width, height) if width > 0 and height > 0 else None


@torch.no_grad()
def _difference(
    pictures: Pictures, body_pose: Float[Tensor, "J-1 3"], row: int, window: tuple[int, int, int, int], wanted: Float[np.ndarray, "H W 3"], height_px: float
) -> float:
    """Half the squared difference of drawing and frame in a window, both blurred, in usual differences of independent patches."""
    avatar, track = pictures.avatar, pictures.track
    pose = BodyPose(*(t.to(avatar.device) for t in (track.global_orient[row], body_pose.float(), track.transl[row])))
    background = torch.full((3,), BACKGROUND, device=avatar.device)
    drawn = avatar.render(pose, track.camera.crop(*window), background, backend=pictures.backend, attributes=pictures.attributes)
    off = cv2.GaussianBlur(drawn.image.cpu().numpy() - wanted, (0, 0), BLUR * height_px)
    return 0.5 * float((off**2).mean(-1).sum()) / (COLOUR_SPREAD**2 * (INDEPENDENT * height_px) ** 2)
