"""What the camera did while it filmed: whether it moved, and whether it corrected its exposure; what is undone, and what is refused.

Axes: F sampled frames, h x w pixels of the small pictures that the person is looked for in.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

from model.camera_motion import CameraMotion, carry_back, scale_similarity, steady_frame
from model.exposure import Exposure, measure_exposure
from tasks.errors import InputError
from tasks.settings import ExtractFramesSettings
from tasks.video_file import VideoFile

STILL_CAMERA = 0.001  # of the width, that the picture's corners may move on a tripod: compression and wind; 1.3 px of 1280
SHAKING_CAMERA = 0.05  # of the width, up to which a camera held by hand is steadied
STEADY_EXPOSURE = 0.03  # of the light, that a frame may be off the clip's median: compression and flicker; a level of 255 in mid-grey


def judge_camera(
    motion: CameraMotion, width: int, scale: float, video: VideoFile, indices: Int[np.ndarray, "F"], settings: ExtractFramesSettings
) -> tuple[Float[np.ndarray, "F 2 3"] | None, list[str]]:
    """Whether the camera stood still; how to steady it where it shook a little; and what to tell the user.

    Args:
        width: of the small pictures that the motion was measured on, px. scale: their size over the video's.

    Raises:
        InputError: it moved more than can be steadied.
    """
    if not motion.known:
        return None, ["the background shows too little to tell whether the camera stood still"]
    moved = float(motion.moved_px[motion.worst])
    if moved <= STILL_CAMERA * width:
        return None, []
    said = f"the background lies up to {moved / scale:.0f} px ({moved / width:.1%} of the width) off where it is in the middle of the clip"
    if moved > SHAKING_CAMERA * width:
        if settings.allow_moving_camera:
            return None, [f"{said}: the camera moves, and the avatar suffers for it (extract_frames.allow_moving_camera)"]
        raise InputError(
            f"the camera of {video.path} moves: {said}, most of all at {video.times[indices[motion.worst]]:.1f} s, expected at most "
            f"{SHAKING_CAMERA:.0%}; film from a tripod or with the telephone leant on something, without zooming, cut the video to "
            f"a part where the camera stands still, or set extract_frames.allow_moving_camera: true to go on all the same"
        )
    to_frame = scale_similarity(_nearest_known(motion.to_frame), 1 / scale)
    return to_frame, [f"the camera shook ({said}): the frames are steadied on the background"]


def judge_exposure(
    pictures: list[UInt8[np.ndarray, "h w 3"]], boxes: list[tuple[float, float, float, float] | None], motion: CameraMotion, settings: ExtractFramesSettings
) -> tuple[Exposure | None, list[str]]:
    """How the camera changed exposure and white balance, where that is worth evening out, and what to tell the user.

    A background that goes by tells nothing of it: what a frame shows there is not what another one shows.
    """
    moved = float(motion.moved_px[motion.worst]) / pictures[0].shape[1] if motion.known else 0.0
    if moved > SHAKING_CAMERA:
        return None, []
    steady = pictures
    if moved > STILL_CAMERA:
        similarities = _nearest_known(motion.to_frame)
        steady = (steady_frame(*each) for each in zip(pictures, similarities, strict=True))
        boxes = [box and tuple(carry_back(np.array(box).reshape(2, 2), similarity).ravel().tolist()) for box, similarity in zip(boxes, similarities, strict=True)]
    exposure = measure_exposure(steady, boxes)
    if exposure is None or np.abs(exposure.light - 1).max() <= STEADY_EXPOSURE:
        return None, []
    light = exposure.light.mean(axis=1)
    said = f"the background's light goes from {light.min():.0%} to {light.max():.0%} of what it mostly is"
    colour = float(np.abs(exposure.light / light[:, None] - 1).max())
    if colour > STEADY_EXPOSURE:
        said += f" and its colour changes by up to {colour:.0%}"
    if not settings.even_exposure:
        return None, [f"{said}: the camera corrects itself, which extract_frames.even_exposure would even out"]
    return exposure, [f"{said}: the camera corrects itself, and the frames are evened out (extract_frames.even_exposure)"]


def _nearest_known(similarities: Float[np.ndarray, "F 2 3"]) -> Float[np.ndarray, "F 2 3"]:
    """Similarities with gaps filled by the nearest frame that has one."""
    known = np.flatnonzero(np.isfinite(similarities[:, 0, 0]))
    nearest = np.abs(np.arange(len(similarities))[:, None] - known).argmin(axis=1)
    return similarities[known[nearest]]
