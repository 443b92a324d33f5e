"""How well a motion explains frames that nobody learned from: the judge between two motions of one clip.

The outline of a body without clothes cannot tell which of two motions is right, for clothes hide it. But a look that is
learned on a wrong motion is blurred, and lies beside the person in the next frame: whichever motion's look predicts the
kept frames better is nearer to the truth.

In the kept frames the body is posed between its neighbours: their own poses have been fitted to their landmarks and masks, in one motion
more closely than in another.

Axes: F frames, T of them learned from, K of them kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.avatar import Avatar
from model.body.track import BodyTrack
from model.fitting.appearance import Clip, RefineOptions, learn
from model.fitting.follow import BACKGROUND
from model.losses import composite
from model.metrics import psnr
from model.motion.motion import pose_between
from model.pose import BodyPose, track_pose, with_pose
from model.training import TrainingOptions
from model.training_frames import TrainingFrames


def heldout_psnr(
    clip: Clip, heldout: TrainingFrames, avatar: Avatar, track: BodyTrack, training: TrainingOptions, options: RefineOptions,
    *, backend: str, seed: int, stop_asked: Callable[[], bool],
) -> Float[np.ndarray, "K"] | None:  # fmt: skip
    """Learn the look on a motion, and see how near it comes to the kept frames, posed between that motion's frames around them.

    Args:
        heldout: frames that are not among clip.frames. avatar: untrained, of this track's shape; it is trained in place.

    Returns:
        PSNR over the person's window of each kept frame, dB; None where it was stopped.
    """
    if not learn(clip, avatar, track, training, options, 0, backend=backend, seed=seed, stop_asked=stop_asked):
        return None
    background, drawn = torch.full((3,), BACKGROUND), between_neighbours(track, heldout.rows, clip.frames.rows).to(avatar.device)
    found = []
    with torch.no_grad():
        attributes = avatar.attributes()
        for k, row in enumerate(heldout.rows.tolist()):
            window = heldout.window(k)
            pose, camera = track_pose(drawn, row), track.camera.crop(*window)
            seen = avatar.render(pose, camera, background.to(avatar.device), backend=backend, attributes=attributes)
            found.append(psnr(seen.image.clamp(0, 1).cpu(), composite(*heldout.picture(k, window), background)))
    return np.array(found)


def between_neighbours(track: BodyTrack, rows: Int[Tensor, "K"], known: Int[Tensor, "T"]) -> BodyTrack:
    """The track with some rows posed between the known ones around them, evenly in time; beyond the first and last as these.

    Args:
        known: rows that stay, in increasing order.
    """
    places = np.interp(track.frame_ids[rows], track.frame_ids[known], np.arange(len(known)))
    among = BodyPose(track.global_orient[known], track.body_pose[known], track.transl[known])
    between = pose_between(among, torch.from_numpy(places), loops=False)
    return with_pose(track, BodyPose(*(own.index_copy(0, rows, new) for own, new in (
        (track.global_orient, between.global_orient), (track.body_pose, between.body_pose), (track.transl, between.transl),
    ))))  # fmt: skip
