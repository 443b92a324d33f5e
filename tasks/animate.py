"""An avatar and something for it to do: find the motion a user names, and carry it to the avatar's body.

On demand, no stage of the pipeline. A motion is the name of one that ships with the project, `clip` (the person's own motion
in the training video), a motion file, or another video (tasks/animate_video.py fits it first).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from model.avatar import Avatar
from model.avatar_file import AvatarFileError, load_avatar
from model.body.track import BodyTrack
from model.motion.clearance import Girth, clear_arms
from model.motion.ground import keep_feet, stand_on_floor
from model.motion.library import LIBRARY, LIBRARY_FPS, library_motion
from model.motion.motion import Motion, MotionError, at_rate, part_of, smoothed
from model.motion.placement import Placement, camera_axes, girth_of_avatar, motion_of_track, placement_of_track, skeleton_of_avatar
from model.motion.read import KINDS, read_motion
from model.motion.retarget import retarget
from model.motion.skeleton import Skeleton
from model.motion.smpl_arrays import centred
from tasks.artifacts import SubjectPaths, read_track, require
from tasks.errors import InputError

VIDEO_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".3gp", ".wmv", ".flv", ".ts")
STAGES = ("stage1", "stage2")
OWN_MOTION = "clip"
SLOW_RATE = 15.0  # frames per second; between the frames of slower recordings corners show
CORNERS = 0.4  # of the time between two such frames: how far their corners are rounded
FASTEST = 60.0  # frames per second, of a film whose rate nobody chose


@dataclass(frozen=True)
class Actor:
    """An avatar that is ready to act.

    Attributes:
        name: whose it is, for file names.
        avatar: of either stage.
        skeleton: its bones and soles.
        girth: how thick it is.
        placement: where a motion's world lies in the avatar's.
        track: the motion it was trained on; None where only the avatar's file is at hand.
    """

    name: str
    avatar: Avatar
    skeleton: Skeleton
    girth: Girth
    placement: Placement
    track: BodyTrack | None


@dataclass(frozen=True)
class MotionChoice:
    """Which part of a motion to play, and how.

    Attributes:
        fps: frames per second to render; None: the motion's own, within 30 and 60.
        speed: 2 plays it in half the time.
        start, end: seconds of the source; None: to its end.
        source_fps: frames per second of the file, when it does not tell or tells wrong.
        centre: start at the origin facing ahead, rather than where the file says.
        feet: hold standing feet still and keep them on the floor.
        arms: keep arms outside the body.
    """

    fps: float | None = None
    speed: float = 1.0
    start: float = 0.0
    end: float | None = None
    source_fps: float | None = None
    centre: bool = True
    feet: bool = True
    arms: bool = True


def load_actor(paths: SubjectPaths, stage: str | None, *, name: str) -> Actor:
    """The avatar of a subject: of the stage asked for, else of the last one that is there.

    Raises:
        InputError: it is not there, or is none.
    """
    if stage is not None and stage not in STAGES:
        raise InputError(f"expected a stage {' or '.join(STAGES)}, came {stage!r}")
    files = {s: getattr(paths, s) / "avatar.safetensors" for s in STAGES}
    there = [s for s in STAGES if files[s].exists()]
    chosen = stage or (there[-1] if there else "stage1")
    track_file = paths.stage1 / "track.npz"
    track = read_track(track_file, made_by="train_stage1") if track_file.exists() else None
    return actor_from_file(require(files[chosen], made_by=f"train_{chosen}"), track, name=name)


def actor_from_file(path: Path, track: BodyTrack | None, *, name: str) -> Actor:
    """An avatar from its file alone, or with the track that says where it stood.

    Raises:
        InputError: the file holds no avatar, or one without a person's joints.
    """
    if not path.is_file():
        raise InputError(f"expected an avatar file (avatar.safetensors), found nothing at {path}; make one with: avatar run")
    try:
        avatar = load_avatar(path)
        skeleton, girth = skeleton_of_avatar(avatar), girth_of_avatar(avatar)
    except (AvatarFileError, MotionError) as error:
        raise InputError(str(error)) from error
    placement = camera_axes() if track is None else placement_of_track(track, skeleton)
    return Actor(name, avatar, skeleton, girth, placement, track)


def find_motion(what: str, actor: Actor, *, source_fps: float | None = None) -> Motion:
    """The motion that a word or a path names, of the body it was made for.

    Raises:
        InputError: there is no such motion, or its file cannot be used.
    """
    if what in LIBRARY:
        return library_motion(what, actor.skeleton, LIBRARY_FPS)
    if what == OWN_MOTION:
        return own_motion(actor)
    path = Path(what).expanduser()
    if not path.exists():
        raise InputError(f"expected a motion: one of {', '.join([*LIBRARY, OWN_MOTION])}, a file ({KINDS}) or a video; found nothing at {what}")
    if is_video(path):
        raise InputError(f"{what} is a video; its motion has to be fitted first: avatar animate --motion {what}")
    try:
        return read_motion(path, fps=source_fps)
    except MotionError as error:
        raise InputError(str(error)) from error


def own_motion(actor: Actor) -> Motion:
    """What the person did in the training video, on the motion's floor.

    Raises:
        InputError: the avatar came without its track, or the video told no times.
    """
    track = actor.track
    if track is None:
        raise InputError("the motion clip needs work/<subject>/stage1/track.npz beside the avatar; name another motion, e.g. walk")
    if not track.fps > 0:
        raise InputError("the clip's body track knows no frame rate; run: dvc repro train_stage1")
    return stand_on_floor(motion_of_track(OWN_MOTION, track, actor.placement, actor.skeleton, fallback_fps=float(track.fps)))


def fit_motion(motion: Motion, actor: Actor, choice: MotionChoice) -> Motion:
    """The motion as the avatar does it: cut, retargeted, its feet held, at the wanted rate.

    Raises:
        InputError: nothing is left of it, or a rate is none.
    """
    try:
        part = part_of(motion, choice.start, choice.end)
        moved = retarget(part, actor.skeleton)
        made = motion.loops  # by formula, or fitted before: its feet stand, and it is where it should be
        moved = centred(moved) if choice.centre and not made else moved
        fps = choice.fps if choice.fps is not None else min(max(moved.fps, LIBRARY_FPS), FASTEST)
        even = at_rate(moved, fps, speed=choice.speed)
        even = smoothed(even, CORNERS / (moved.fps * choice.speed)) if moved.fps * choice.speed < SLOW_RATE else even
        standing = keep_feet(even) if choice.feet and not made else even
        return clear_arms(standing, actor.girth) if choice.arms else standing
    except MotionError as error:
        raise InputError(str(error)) from error


def is_video(path: Path) -> bool:
    """Whether a path looks like a video rather than a motion file."""
    return path.suffix.lower() in VIDEO_ENDINGS


def repeated(motion: Motion, times: int) -> Motion:
    """A motion that repeats, played so many times over; another one is left as it is."""
    if times == 1 or not motion.loops:
        return motion
    rows = torch.arange(motion.num_frames).repeat(times)
    return motion.with_pose(motion.pose[rows])
