"""What the camera did while it filmed: whether it moved or turned, and whether it corrected its exposure; what is undone, and what is refused.

Axes: F sampled frames, h x w pixels of the small pictures that the person is looked for in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from model.camera_motion import CameraMotion, carry_box_back, homography_of, scale_homography, steady_frame
from model.camera_turns import CameraTurns, measure_turns
from model.exposure import Exposure, measure_exposure
from tasks.errors import InputError
from tasks.settings import ExtractFramesSettings
from tasks.video_file import VideoFile

STILL_CAMERA = 0.001  # of the width, that the picture's corners may move on a tripod: compression and wind; 1.3 px of 1280
SHAKING_CAMERA = 0.05  # of the width, up to which a camera held by hand is steadied
WIDEST_TURN = 60.0  # degrees, up to which a camera that turns on the spot is followed: a flat picture of more is mostly its sides
WIDEST_LOOK = 50.0  # degrees from the still camera's axis, up to which the person may be seen: beyond, a flat picture is stretched to 2.4 times and more
STEADY_EXPOSURE = 0.03  # of the light, that a frame may be off the clip's median: compression and flicker; a level of 255 in mid-grey


@dataclass(frozen=True)
class CameraPath:
    """What the camera did while it filmed.

    Attributes:
        to_frame: the homography from the steadied picture's pixels to those of each sample as it was filmed; None for a still camera.
        notes: what to tell the user.
        moves: whether it moved in a way that is not undone, and the user allows that.
        turned: degrees by which it turned on the spot; 0 where it did not.
        focal_px: what the turn tells of the focal length, px of the video; None where it tells nothing new.
        focal_error: how far that may be off, as a share.
    """

    to_frame: Float[np.ndarray, "F 3 3"] | None
    notes: list[str]
    moves: bool = False
    turned: float = 0.0
    focal_px: float | None = None
    focal_error: float = 0.0


def judge_camera(
    motion: CameraMotion, pictures: list[UInt8[np.ndarray, "h w 3"]], boxes: list[tuple[float, float, float, float] | None], video: VideoFile,
    indices: Int[np.ndarray, "F"], settings: ExtractFramesSettings, *, focal_px: float, focal_known: bool,
) -> CameraPath:  # fmt: skip
    """Whether the camera stood still; how to steady it where it shook a little or turned on the spot; and what to tell the user.

    Args:
        pictures, boxes: the samples, small, and the person in them.
        focal_px: of the video, px, or a guess.

    Raises:
        InputError: it moved more than can be steadied.
    """
    width = pictures[0].shape[1]
    scale = width / video.width
    if not motion.known:
        return CameraPath(None, ["the background shows too little to tell whether the camera stood still"])
    moved = float(motion.moved_px[motion.worst])
    if moved <= STILL_CAMERA * width:
        return CameraPath(None, [])
    said = f"the background lies up to {moved / scale:.0f} px ({moved / width:.1%} of the width) off where it is in the middle of the clip"
    if moved > SHAKING_CAMERA * width:
        if settings.allow_moving_camera:
            return CameraPath(None, [f"{said}: the camera moves, and the avatar suffers for it (extract_frames.allow_moving_camera)"], moves=True)
        turns = measure_turns(pictures, boxes, focal_px=scale * focal_px, focal_known=focal_known)
        off_axis = 0.0 if turns is None else turns.off_axis(boxes, (width / 2 - 0.5, pictures[0].shape[0] / 2 - 0.5))
        if turns is not None and turns.degrees <= WIDEST_TURN and off_axis <= WIDEST_LOOK:
            return _turned(turns, video, scale)
        how = "it is carried or zooms, or its background tells too little" if turns is None else f"it turns by {turns.degrees:.0f} degrees and shows the person up to {off_axis:.0f} degrees to the side, expected at most {WIDEST_TURN:.0f} and {WIDEST_LOOK:.0f}"
        raise InputError(
            f"the camera of {video.path} moves: {said}, most of all at {video.times[indices[motion.worst]]:.1f} s, expected at most "
            f"{SHAKING_CAMERA:.0%}, or a camera that only turns on the spot: {how}; film from a tripod or with the telephone leant on something, without zooming, cut the video to "
            f"a part where the camera stays in its place, or set extract_frames.allow_moving_camera: true to go on with the frames as they are"
        )
    to_frame = scale_homography(homography_of(_nearest_known(motion.to_frame)), 1 / scale)
    return CameraPath(to_frame, [f"the camera shook ({said}): the frames are steadied on the background"])


def _turned(turns: CameraTurns, video: VideoFile, scale: float) -> CameraPath:
    """What is made of a camera that turned."""
    said = f"the camera turned by {turns.degrees:.0f} degrees: the frames are laid on the picture of one that stands still"
    to_frame = turns.homographies(1 / scale, (video.width / 2 - 0.5, video.height / 2 - 0.5))
    if not turns.focal_error:
        return CameraPath(to_frame, [said], turned=turns.degrees)
    focal_px = turns.focal_px / scale
    said += f"; the turn tells its focal length, {focal_px:.0f} px of the video within {turns.focal_error:.0%}"
    return CameraPath(to_frame, [said], turned=turns.degrees, focal_px=focal_px, focal_error=turns.focal_error)


def judge_exposure(
    pictures: list[UInt8[np.ndarray, "h w 3"]], boxes: list[tuple[float, float, float, float] | None], camera: CameraPath, video: VideoFile, settings: ExtractFramesSettings
) -> tuple[Exposure | None, list[str]]:
    """How the camera changed exposure and white balance, where that is worth evening out, and what to tell the user.

    A background that goes by tells little of it: what a frame shows there is not what another one shows. (Tried where the camera turned: mostly
    within 3 %, but 19 % off at the far end of a pan, which few frames show and a dark wall fills.)
    """
    if camera.moves or camera.turned:
        return None, []
    steady = pictures
    if camera.to_frame is not None:
        to_frame = scale_homography(camera.to_frame, pictures[0].shape[1] / video.width)
        steady = (steady_frame(*each, black=True) for each in zip(pictures, to_frame, strict=True))
        boxes = [box and carry_box_back(box, homography) for box, homography in zip(boxes, to_frame, strict=True)]
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
