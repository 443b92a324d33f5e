"""How well a motion explains frames that nobody learned from: the judge between two motions of one clip.

The outline of a body without clothes cannot tell which of two motions is right, for clothes hide it. But a look that is
learned on a wrong motion is blurred, and lies beside the person in the next frame: whichever motion's look predicts the
kept frames better is nearer to the truth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from model.avatar import Avatar
from model.body.track import BodyTrack
from model.fitting.appearance import Clip, RefineOptions, learn
from model.fitting.follow import BACKGROUND
from model.losses import composite
from model.metrics import psnr
from model.pose import track_pose
from model.training import TrainingOptions
from model.training_frames import TrainingFrames


def heldout_psnr(
    clip: Clip, heldout: TrainingFrames, avatar: Avatar, track: BodyTrack, training: TrainingOptions, options: RefineOptions,
    *, backend: str, seed: int, stop_asked: Callable[[], bool],
) -> float | None:  # fmt: skip
    """Learn the look on a motion, and see how near it comes to the kept frames in that motion's own poses.

    Args:
        heldout: frames that are not among clip.frames. avatar: untrained, of this track's shape; it is trained in place.

    Returns:
        Mean PSNR over the person's windows, dB; None where it was stopped.
    """
    if not learn(clip, avatar, track, training, options, 0, backend=backend, seed=seed, stop_asked=stop_asked):
        return None
    background, drawn = torch.full((3,), BACKGROUND), track.to(avatar.device)
    found = []
    with torch.no_grad():
        attributes = avatar.attributes()
        for k, row in enumerate(heldout.rows.tolist()):
            window = heldout.window(k)
            pose, camera = track_pose(drawn, row), track.camera.crop(*window)
            seen = avatar.render(pose, camera, background.to(avatar.device), backend=backend, attributes=attributes)
            found.append(psnr(seen.image.clamp(0, 1).cpu(), composite(*heldout.picture(k, window), background)))
    return float(np.mean(found))
