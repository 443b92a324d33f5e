"""How near an avatar comes to what is known: pictures of the clip, and the truth of a generated clip.

A single camera cannot know how large and how far away a person is. So the truth is compared after one similarity
transform for the whole clip, found from all joints of all of its frames; the truth's cameras and second motion are carried
through it into the avatar's world, where light fixed in the world falls as it was trained.

Axes: F frames, J joints (the root is joint 0), H x W pixels. Lengths are metres.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from model.avatar import Avatar
from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.camera import Camera
from model.drawing import Drawer
from model.lpips import Lpips
from model.metrics import Similarity, fit_similarity, mask_iou, mpjpe, pa_mpjpe, psnr
from model.pose import BodyPose
from model.ssim import ssim
from tasks.truth import TruthMotion, TruthView

SCORES = ("psnr", "psnr_mask", "ssim", "lpips", "mask_iou")
PSNR_CAP = 100.0  # dB; what equal pictures score, since infinity is no JSON and no mean
SMPL_BODY_JOINTS = 22  # joints that SMPL, SMPL-H and SMPL-X share, in one order


@dataclass(frozen=True)
class Seen:
    """The avatar on white, 0..1, and the share of each pixel that it covers."""

    image: Float[np.ndarray, "H W 3"]
    alpha: Float[np.ndarray, "H W"]


class Viewer:
    """Pictures of one avatar on white. The surface is decoded once, or once for each pose in a row of equal ones."""

    def __init__(self, avatar: Avatar, *, backend: str) -> None:
        self.drawer, self.white = Drawer(avatar, backend=backend), torch.ones(3, device=avatar.device)

    def see(self, pose: BodyPose, camera: Camera) -> Seen:
        """The avatar in one pose, from one view."""
        drawn = self.drawer.draw(pose, camera, self.white)
        return Seen(drawn.image.clamp(0, 1).cpu().numpy(), drawn.alpha.cpu().numpy())


def score_picture(
    seen: Seen, target: Float[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"], lpips: Lpips | None
) -> dict[str, float | None]:
    """Compare one picture with the person on white.

    Args:
        seen: the avatar on white.
        target: the person on white, 0..1.
        mask: share of the person in each pixel, 0..1; a pixel counts as person from one half on.
        lpips: None leaves LPIPS out.

    Returns:
        The figures named in SCORES. `psnr_mask` is None where the mask is empty.
    """
    image, wanted = torch.from_numpy(seen.image).float(), torch.from_numpy(target).float()
    person = torch.from_numpy(mask).float()
    inside = person > 0.5
    return {
        "psnr": capped_psnr(seen.image, target),
        "psnr_mask": min(psnr(image, wanted, inside), PSNR_CAP) if inside.any() else None,
        "ssim": float(ssim(image, wanted)),
        "lpips": None if lpips is None else float(lpips(image, wanted)),
        "mask_iou": mask_iou(torch.from_numpy(seen.alpha).float(), person),
    }


def capped_psnr(image: Float[np.ndarray, "H W 3"], target: Float[np.ndarray, "H W 3"]) -> float:
    """PSNR over the whole picture, at most PSNR_CAP, dB."""
    return min(psnr(torch.from_numpy(image), torch.from_numpy(target)), PSNR_CAP)


def mean_scores(scores: Iterable[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean over pictures of each figure; None where no picture has it."""
    rows = list(scores)
    means: dict[str, float | None] = {}
    for name in SCORES:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = round(float(np.mean(values)), 5) if values else None
    return means


# ------------------------------------------------------------------------------------------- the truth of a clip


def track_joints(track: BodyTrack, body: BodyModel) -> Float[np.ndarray, "F J 3"]:
    """Where the joints of a track are in its world."""
    with torch.no_grad():
        posed = body.pose(track.betas, track.global_orient, track.body_pose, track.transl)
    return posed.joints.numpy()


def common_joints(ours: np.ndarray, truth: np.ndarray) -> tuple[Float[np.ndarray, "F J 3"], Float[np.ndarray, "F J 3"]]:
    """Both without the joints that only one of them has."""
    count = ours.shape[1] if ours.shape[1] == truth.shape[1] else SMPL_BODY_JOINTS
    return ours[:, :count], truth[:, :count]


def joint_errors_mm(
    ours: Float[np.ndarray, "F J 3"], our_w2c: np.ndarray, truth: Float[np.ndarray, "F J 3"], truth_w2c: np.ndarray
) -> tuple[float, float]:
    """MPJPE and PA-MPJPE in mm, both in the axes of the clip's camera: roots together, or each frame's best similarity."""
    seen_ours = torch.from_numpy(ours @ our_w2c[:3, :3].T).double()
    seen_truth = torch.from_numpy(truth @ truth_w2c[:3, :3].T).double()
    return 1000 * mpjpe(seen_ours, seen_truth), 1000 * pa_mpjpe(seen_ours, seen_truth)


def align_to_truth(ours: Float[np.ndarray, "F J 3"], truth: Float[np.ndarray, "F J 3"]) -> Similarity:
    """The one similarity that carries our world into the truth's: truth = scale R ours + shift, over all frames."""
    return fit_similarity(torch.from_numpy(ours.reshape(-1, 3)).double(), torch.from_numpy(truth.reshape(-1, 3)).double())


def camera_in_our_world(view: TruthView, to_truth: Similarity) -> Camera:
    """A camera of the truth, carried into the avatar's world; its picture stays the same.

    With X = s R x + t, the camera axes R_c X + t_c are s (R_c R x + (R_c t + t_c) / s), and a projection does not see
    the factor in front.
    """
    s, R, t = to_truth.scale, to_truth.rotation.double(), to_truth.shift.double()
    R_c, t_c = torch.from_numpy(view.w2c[:3, :3]).double(), torch.from_numpy(view.w2c[:3, 3]).double()
    w2c = torch.eye(4, dtype=torch.float64)
    w2c[:3, :3], w2c[:3, 3] = R_c @ R, (R_c @ t + t_c) / s
    height, width = view.image_rgba.shape[:2]
    return Camera(torch.from_numpy(view.K).float(), w2c.float(), width, height)


def motion_in_our_world(motion: TruthMotion, to_truth: Similarity, track: BodyTrack, body: BodyModel) -> BodyPose:
    """A motion of the truth, done by our body: the true rotations, the root where the similarity puts it."""
    back = to_truth.rotation.double().numpy().T
    orient = Rotation.from_matrix(back @ Rotation.from_rotvec(motion.global_orient).as_matrix()).as_rotvec()
    root = (motion.joints[:, 0] - to_truth.shift.double().numpy()) @ back.T / to_truth.scale
    rest_root = body.rest(track.betas)[1][0].double().numpy()
    body_pose = np.zeros((len(root), body.num_joints - 1, 3))
    shared = min(body_pose.shape[1], motion.body_pose.shape[1] if body.num_joints == 24 else SMPL_BODY_JOINTS - 1)
    body_pose[:, :shared] = motion.body_pose[:, :shared]
    return BodyPose(*(torch.from_numpy(part).float() for part in (orient, body_pose, root - rest_root)))


def pose_at(track: BodyTrack, times: Float[np.ndarray, "F"], time: float) -> BodyPose:
    """The pose of a track at a time between its rows: rotations turn evenly, places move evenly; held at the ends."""
    time = float(np.clip(time, times[0], times[-1]))
    after = int(np.clip(np.searchsorted(times, time), 1, len(times) - 1))
    rows = [after - 1, after]
    share = (time - times[rows[0]]) / (times[rows[1]] - times[rows[0]])

    def between(vectors: np.ndarray) -> np.ndarray:
        return Slerp([0, 1], Rotation.from_rotvec(vectors))([share]).as_rotvec()[0]

    orient = between(track.global_orient[rows].numpy())
    body_pose = np.stack([between(track.body_pose[rows, j].numpy()) for j in range(track.body_pose.shape[1])])
    transl = (1 - share) * track.transl[rows[0]] + share * track.transl[rows[1]]
    return BodyPose(torch.from_numpy(orient).float(), torch.from_numpy(body_pose).float(), transl.float())
