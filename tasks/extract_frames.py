"""Stage: from a video to the frames that show the person, cut to one square with the camera following.

Axes: F kept frames, H x W source pixels. Reads the video; writes frames/NNNNNN.png and frames/clip.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from model.fitting.landmarks import MissingDetectorError, PoseLandmarks, track_clip
from model.video import Window, camera_shift, sample_times, window_around
from tasks.artifacts import ClipInfo, SubjectPaths, frame_name, replaced_folder, subject_paths, timed, write_image, write_json
from tasks.errors import InputError, run_stage
from tasks.progress import progress_bar
from tasks.settings import ExtractFramesSettings, load_settings
from tasks.video_file import VideoFile, frames_of, open_video

SEARCH_SIDE = 960  # px, longer side of the pictures that the person is looked for in
GUESSED_FOCAL = 1.2  # times the longer side: about 45 degrees across, a telephone's main camera filming
STILL_CAMERA = 0.004  # background motion over the clip, as a share of the width, that still counts as a tripod; 5 px of 1280
NUM_CAMERA_LOOKS = 5
SMALL_PERSON = 0.5  # of the square's side: less than this loses detail, and the user is told


@dataclass(frozen=True)
class Found:
    """The person in the sampled frames.

    Attributes:
        indices: source frame of each sample.
        people: landmarks in source px, None where nobody was found.
        moved: how far the background moved at most, as a share of the width; None where it cannot be told.
    """

    indices: Int[np.ndarray, "F"]
    people: list[PoseLandmarks | None]
    moved: float | None


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "extract_frames"):
        video = open_video(settings.subject.video)
        notes = check_length(video, settings.extract_frames)
        found = find_person(video, settings.extract_frames)
        clip, window = describe_clip(video, found, settings.extract_frames, notes)
        write_frames(paths, video, clip, window)
    print("\n".join([f"{len(clip.frame_ids)} frames of {clip.resolution} px", *clip.notes]))


def check_length(video: VideoFile, settings: ExtractFramesSettings) -> list[str]:
    """Notice a video that is too short or does not hold what it claims; returns what the user should know.

    Raises:
        InputError: too few frames decode, of what is claimed or of what is needed.
    """
    if video.decoded_share < settings.min_decoded_share:
        raise InputError(
            f"{video.path} claims {video.claimed_frames} frames but only {len(video.times)} decode "
            f"({video.decoded_share:.0%}, expected at least {settings.min_decoded_share:.0%}): it is damaged or cut off; copy it "
            f"again, or lower extract_frames.min_decoded_share in params.yaml to use what is there"
        )
    if len(video.times) < settings.min_frames:
        raise InputError(
            f"{video.path} has {len(video.times)} frames, expected at least {settings.min_frames} "
            f"(extract_frames.min_frames); film the person for some seconds, turning once around"
        )
    if not video.claimed_frames:
        return ["the video does not claim a number of frames, so a cut end would go unnoticed"]
    if len(video.times) < video.claimed_frames:
        return [f"{len(video.times)} of {video.claimed_frames} claimed frames decode"]
    return []


def find_person(video: VideoFile, settings: ExtractFramesSettings) -> Found:
    """Sample the video evenly and follow the person through the samples.

    Raises:
        InputError: nobody is found, or in too few of the samples; or the detector is not installed.
    """
    if (settings.num_frames is None) == (settings.fps is None):
        raise InputError("params.yaml: set either extract_frames.num_frames or extract_frames.fps, and the other to null")
    indices = sample_times(video.times, num_frames=settings.num_frames, fps=settings.fps)
    scale = min(1.0, SEARCH_SIDE / max(video.width, video.height))
    pictures = [_shrink(frame, scale) for frame in _decoded(video, indices, "reading the video")]
    indices = indices[: len(pictures)]
    try:
        with progress_bar("looking for the person", len(pictures)) as show:
            people = track_clip(pictures, with_mask=False, progress=show)
    except MissingDetectorError as error:
        raise InputError(str(error)) from error
    check_presence(video, people, settings)
    return Found(indices, [p and _scaled(p, 1 / scale) for p in people], _camera_motion(pictures, people))


def check_presence(video: VideoFile, people: list[PoseLandmarks | None], settings: ExtractFramesSettings) -> None:
    """Refuse a clip that does not show a person for most of it.

    Raises:
        InputError: the message counts the frames.
    """
    seen = sum(p is not None for p in people)
    if seen == 0:
        raise InputError(
            f"no person found in any of {len(people)} frames of {video.path}; expected one person, whole in the picture and at "
            f"least a quarter of its height; choose another video: make avatar VIDEO=path/to/clip.mp4"
        )
    if seen < settings.min_person_share * len(people):
        raise InputError(
            f"a person is found in only {seen} of {len(people)} frames of {video.path} ({seen / len(people):.0%}, expected at "
            f"least {settings.min_person_share:.0%}); cut the video to the part that shows the person, or lower "
            f"extract_frames.min_person_share in params.yaml"
        )
    if seen < settings.min_frames:
        raise InputError(
            f"only {seen} sampled frames of {video.path} show the person, expected at least {settings.min_frames} "
            f"(extract_frames.min_frames); raise extract_frames.num_frames or film longer"
        )


def describe_clip(
    video: VideoFile, found: Found, settings: ExtractFramesSettings, notes: list[str]
) -> tuple[ClipInfo, Window]:
    """Lay one square around the person over the whole clip, and carry camera and boxes into it."""
    kept = [(int(i), p) for i, p in zip(found.indices, found.people, strict=True) if p is not None]
    boxes = np.array([p.box for _, p in kept])
    window = window_around(boxes, margin=settings.margin, resolution=settings.resolution)
    focal = settings.focal_px or video.focal_px
    K = _intrinsics(focal or GUESSED_FOCAL * max(video.width, video.height), video)
    K = window.intrinsics(K)
    in_window = window.to_window(boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    times = video.times[[i for i, _ in kept]]
    span = float(times[-1] - times[0])
    clip = ClipInfo(
        source=str(video.path),
        source_width=video.width,
        source_height=video.height,
        source_fps=video.fps,
        source_frames=[i for i, _ in kept],
        times=times.tolist(),
        frame_ids=list(range(len(kept))),
        fps=(len(kept) - 1) / span if span > 0 else video.fps,
        resolution=window.resolution,
        crop=[float(window.x0), float(window.y0), float(window.side)],
        focal_px=float(K[0, 0]),
        focal_known=focal is not None,
        cx=float(K[0, 2]),
        cy=float(K[1, 2]),
        boxes=in_window.tolist(),
        dropped={str(int(i)): "no person found" for i, p in zip(found.indices, found.people, strict=True) if p is None},
        notes=notes + _notes(found, in_window, window),
    )
    return clip, window


def write_frames(paths: SubjectPaths, video: VideoFile, clip: ClipInfo, window: Window) -> None:
    """Decode the kept frames again, cut them and write them with their record, all or nothing."""
    indices = np.array(clip.source_frames)
    with replaced_folder(paths.frames) as folder:
        for frame_id, frame in zip(clip.frame_ids, _decoded(video, indices, "writing frames"), strict=True):
            write_image(folder / frame_name(frame_id), window.cut(frame))
        write_json(folder / "clip.json", vars(clip))


def _decoded(video: VideoFile, indices: Int[np.ndarray, "F"], what: str) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of these indices, with a progress bar."""
    with progress_bar(what, len(indices)) as show:
        for done, frame in enumerate(frames_of(video.path, indices), start=1):
            yield frame
            show(done)


def _shrink(image: UInt8[np.ndarray, "H W 3"], scale: float) -> UInt8[np.ndarray, "h w 3"]:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _scaled(person: PoseLandmarks, scale: float) -> PoseLandmarks:
    """The same landmarks in a picture of another size."""
    box = tuple(v * scale for v in person.box)
    return PoseLandmarks(person.points * scale, person.confidence, person.points_world, person.presence, None, box,
                         person.alignment * scale)  # fmt: skip


def _intrinsics(focal_px: float, video: VideoFile) -> np.ndarray:
    return np.array([[focal_px, 0, video.width / 2], [0, focal_px, video.height / 2], [0, 0, 1.0]])


def _camera_motion(pictures: list[np.ndarray], people: list[PoseLandmarks | None]) -> float | None:
    """How far the background is at most from where it is in the middle of the clip, as a share of the width."""
    seen = [i for i, p in enumerate(people) if p is not None]
    boxes = np.array([people[i].box for i in seen])
    person = (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))
    middle = pictures[seen[len(seen) // 2]]
    looks = np.linspace(0, len(seen) - 1, NUM_CAMERA_LOOKS).astype(int)
    shifts = [camera_shift(middle, pictures[seen[i]], person) for i in looks]
    return max((s for s in shifts if s is not None), default=None)


def _notes(found: Found, boxes: np.ndarray, window: Window) -> list[str]:
    """What a user should know of the clip, in sentences."""
    notes = []
    lost = sum(p is None for p in found.people)
    if lost:
        notes.append(f"{lost} of {len(found.people)} sampled frames show no person and are left out")
    if found.moved is not None and found.moved > STILL_CAMERA:
        notes.append(f"the camera seems to move (by {found.moved:.1%} of the width); a camera on a tripod gives a better avatar")
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    if height < SMALL_PERSON * window.resolution:
        notes.append(f"the person is only {height:.0f} px tall in the square of {window.resolution} px, because it walks far")
    if window.scale > 1.25:
        notes.append(f"the square is enlarged {window.scale:.1f} times: the person is small in the video, detail is limited")
    return notes


if __name__ == "__main__":
    run_stage(main)
