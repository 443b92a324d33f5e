"""What the page plays: the clip's own motion, those of the project's library, files of the user's, and standing still.

All of them stand where the person of the clip stands, so that the light of the room falls as it did there. Axes: F frames,
J joints (the root is joint 0). Lengths are metres, angles radians (axis-angle), times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from model.body.track import BodyTrack
from model.motion.motion import Motion
from model.motion.placement import Placement
from model.motion.skeleton import Skeleton
from model.pose import BodyPose, track_pose
from tasks.animate import Actor, MotionChoice, find_motion, fit_motion

ABOUT = {
    "walk": "A lap of an ordinary walk, around a circle.",
    "stroll": "Walking on the spot, as on a treadmill.",
    "wave": "A wave of the hand.",
    "turn": "Turning on the spot: every side, under the light as it was filmed.",
    "squat": "Deep knee bends.",
    "dance": "Some steps.",
}
NOT_FILMED = "Not in the video."


@dataclass(frozen=True)
class PageMotion:
    """One motion to play.

    Attributes:
        name: what the page's address calls it.
        title, about: what a reader sees on its button, and beneath.
        times: when each row is due; the first is 0.
        pose: one row a time, in the world of the clip's track.
        filmed: whether the rows are the video's frames.
    """

    name: str
    title: str
    about: str
    times: Float[np.ndarray, "F"]
    pose: BodyPose
    filmed: bool


def clip_motion(track: BodyTrack, times: Float[np.ndarray, "F"]) -> PageMotion:
    """The clip's own motion, as it was refined while training."""
    return PageMotion("clip", "as filmed", "The motion of the video, beside the video.", times - times[0], track_pose(track), filmed=True)


def page_motions(wanted: list[str], actor: Actor) -> list[PageMotion]:
    """Motions of the library by name, motions from files, carried to this body, and standing still: on the floor of the clip.

    Raises:
        InputError: there is no such motion, or its file cannot be used.
    """
    found = [from_motion(fit_motion(find_motion(what, actor), actor, MotionChoice()), actor.placement, source=what) for what in wanted]
    pose = actor.placement.carry(standing(actor.skeleton))
    return [*found, PageMotion("still", "stand still", "Arms out, to be posed by the sliders below.", np.zeros(1), pose, filmed=False)]


def from_motion(motion: Motion, placement: Placement, *, source: str) -> PageMotion:
    """A motion in its own world, carried to the clip's; a loop gets its first row once more at its end."""
    rows = torch.arange(motion.num_frames + motion.loops) % motion.num_frames
    about = f"{ABOUT.get(source) or f'From the file {Path(source).name}.'} {NOT_FILMED}"
    return PageMotion(motion.name, motion.name, about, np.arange(len(rows)) / motion.fps, placement.carry(motion, rows), filmed=False)


def standing(skeleton: Skeleton) -> Motion:
    """The body model's rest pose with its soles on the floor; one frame."""
    motion = Motion("still", torch.zeros(1, 3), torch.zeros(1, skeleton.num_joints - 1, 3), torch.zeros(1, 3), 1.0, False, skeleton)
    sink = torch.stack([torch.zeros(()), motion.sole_points[..., 1].min(), torch.zeros(())])
    return motion.with_pose(BodyPose(motion.global_orient, motion.body_pose, motion.transl - sink))
