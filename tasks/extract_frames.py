"""Stage: from a video to the frames that show the person, cut to one square with the camera following.

Axes: F kept frames, H x W source pixels. Reads the video; writes frames/NNNNNN.png and frames/clip.json. A bent lens is made
straight, a camera that shook a little is steadied, and one that changed its exposure is evened, all before the square is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from model.camera_motion import carry_back, carry_box_back, measure_camera, of_coordinates
from model.exposure import Exposure
from model.fitting.clip_landmarks import NobodyThereError, track_clip
from model.fitting.landmarks import MissingDetectorError, PoseLandmarks
from model.lens import Lens
from model.video import Window, sample_times, window_around
from tasks.artifacts import ClipInfo, SubjectPaths, frame_name, subject_paths, timed, write_image, write_json
from tasks.camera_checks import CameraPath, judge_camera, judge_exposure
from tasks.datasets.frames import dataset_at, extract_dataset
from tasks.errors import InputError, run_stage
from tasks.progress import progress_bar
from tasks.settings import ExtractFramesSettings, load_settings
from tasks.video_file import VideoFile, frames_of, open_video
from tasks.whole_files import replaced_folder

SEARCH_SIDE = 960  # px, longer side of the pictures that the person is looked for in
GUESSED_FOCAL = 1.2  # times the longer side: about 45 degrees across, a telephone's main camera filming
SMALL_PERSON = 0.5  # of the square's side: less than this loses detail, and the user is told


@dataclass(frozen=True)
class Found:
    """The person in the sampled frames.

    Attributes:
        indices: source frame of each sample.
        people: landmarks in source px, in the steadied picture; None where nobody was found.
        camera: what it did meanwhile.
        notes: what a user should know of its exposure.
        exposure: how each sample was taken, relative to the median; None where they stay as they are.
    """

    indices: Int[np.ndarray, "F"]
    people: list[PoseLandmarks | None]
    camera: CameraPath
    notes: list[str]
    exposure: Exposure | None = None


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "extract_frames"):
        folder = dataset_at(settings.subject.video)
        if folder is not None:
            clip = extract_dataset(paths, folder, settings.extract_frames)
            return report(clip)
        video = open_video(settings.subject.video)
        notes = check_length(video, settings.extract_frames)
        lens = choose_lens(video, settings.extract_frames)
        found = find_person(video, lens, settings.extract_frames)
        clip, window = describe_clip(video, found, settings.extract_frames, notes)
        write_frames(paths, video, lens, found, clip, window)
    report(clip)


def report(clip: ClipInfo) -> None:
    """Say what was kept, and what a user should know of it."""
    print("\n".join([f"{len(clip.frame_ids)} frames of {clip.resolution} px", *clip.notes]))


def check_length(video: VideoFile, settings: ExtractFramesSettings) -> list[str]:
    """Notice a video that is too short or does not hold what it claims; returns what the user should know.

    Raises:
        InputError: too few frames decode, of what is claimed or of what is needed.
    """
    if video.decoded_share < settings.min_decoded_share:
        raise InputError(
            f"{video.path} claims {video.claim} but only {len(video.times)} frames decode "
            f"({video.decoded_share:.0%}, expected at least {settings.min_decoded_share:.0%}): it is damaged or cut off; copy it "
            f"again, or lower extract_frames.min_decoded_share in params.yaml to use what is there"
        )
    if len(video.times) < settings.min_frames:
        raise InputError(
            f"{video.path} has {len(video.times)} frames, expected at least {settings.min_frames} "
            f"(extract_frames.min_frames); film the person for some seconds, turning once around"
        )
    if not video.claim:
        return ["the video claims neither a number of frames nor a duration, so a cut end would go unnoticed"]
    if video.decoded_share < 1:
        return [f"the video claims {video.claim}; {len(video.times)} frames decode"]
    return []


def choose_lens(video: VideoFile, settings: ExtractFramesSettings) -> Lens | None:
    """The lens that the user describes; None for one that keeps lines straight.

    Raises:
        InputError: coefficients without a focal length, or that cannot be a lens.
    """
    if settings.distortion is None:
        return None
    focal = _given_focal(video, settings)
    if focal is None:
        raise InputError(
            "extract_frames.distortion is given without a focal length, which its coefficients speak of; set "
            "extract_frames.focal_px as well, both come from the same calibration"
        )
    lens = Lens(_intrinsics(focal, video), tuple(settings.distortion), video.width, video.height)
    try:
        lens.check()
    except ValueError as error:
        raise InputError(
            f"extract_frames.distortion: {error}; expected k1, k2, p1, p2, k3 in OpenCV's order, of a camera with "
            f"focal_px {focal:.0f} and pictures of {video.width}x{video.height} px"
        ) from error
    return lens


def find_person(video: VideoFile, lens: Lens | None, settings: ExtractFramesSettings) -> Found:
    """Sample the video evenly, follow the person through the samples, and see what the camera did meanwhile.

    Raises:
        InputError: nobody is found, or in too few of the samples; the camera moves; or the detector is not installed.
    """
    indices = sample_times(video.times, num_frames=settings.num_frames, fps=settings.fps)
    scale = min(1.0, SEARCH_SIDE / max(video.width, video.height))
    pictures = [_shrink(frame, scale) for frame in _decoded(video, lens, indices, "reading the video")]
    indices = indices[: len(pictures)]
    people = follow_person(video, indices, pictures, scale, settings)
    check_presence(video, people, settings)
    boxes = [p and p.box for p in people]
    motion = measure_camera(pictures, boxes)
    focal = _given_focal(video, settings)
    camera = judge_camera(motion, pictures, boxes, video, indices, settings, focal_px=focal or _guess_focal(video), focal_known=focal is not None)
    exposure, notes = judge_exposure(pictures, boxes, camera, video, settings)
    people = [p and _scaled(p, 1 / scale) for p in people]
    if camera.to_frame is not None:
        people = [p and _steadied(p, to_frame) for p, to_frame in zip(people, camera.to_frame, strict=True)]
    return Found(indices, people, camera, notes, exposure)


def follow_person(
    video: VideoFile, indices: Int[np.ndarray, "F"], pictures: list[UInt8[np.ndarray, "h w 3"]], scale: float, settings: ExtractFramesSettings
) -> list[PoseLandmarks | None]:
    """The subject in each of the small pictures, in their px.

    Raises:
        InputError: the detector is not installed, or nobody is in subject_box.
    """
    box = None
    if settings.subject_box is not None:
        x, y, width, height = (value * scale for value in settings.subject_box)
        box = (x, y, x + width, y + height)
    try:
        with progress_bar("looking for the person", len(pictures)) as show:
            return track_clip(pictures, with_mask=False, subject_box=box, progress=show)
    except MissingDetectorError as error:
        raise InputError(str(error)) from error
    except NobodyThereError as error:
        x0, y0, x1, y1 = (value / scale for value in error.box)
        seconds = video.times[indices[error.frame]]
        raise InputError(
            f"extract_frames.subject_box {settings.subject_box} (x, y, width, height in px of {video.width}x{video.height}) fits "
            f"nobody in any sampled frame; the person nearest to it fills [{x0:.0f}, {y0:.0f}, {x1 - x0:.0f}, {y1 - y0:.0f}] "
            f"at {seconds:.1f} s"
        ) from error


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
    focal = _given_focal(video, settings)
    K = _intrinsics(focal or found.camera.focal_px or _guess_focal(video), video)
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
        notes=notes + _pixel_notes(video) + found.camera.notes + found.notes + _notes(found, in_window, window),
        people=1 + max(p.others for _, p in kept),
        focal_from_file=settings.focal_px is None and video.focal_px is not None,
        to_filmed=to_filmed(found),
        straightened=settings.distortion is not None,
        turned=found.camera.turned,
        focal_error=found.camera.focal_error,
        exposure=None if found.exposure is None else [found.exposure[k].light.tolist() for k, p in enumerate(found.people) if p is not None],
    )
    return clip, window


def _pixel_notes(video: VideoFile) -> list[str]:
    """What is said of a film whose pixels are not square."""
    if video.pixel_aspect == 1:
        return []
    return [f"the video's pixels are {video.pixel_aspect:.3g} times as wide as high: its pictures are stretched to {video.width} x {video.height} px; focal_px and distortion speak of these"]


def to_filmed(found: Found) -> list[list[list[float]]]:
    """From the steadied picture to the video's, for each frame that shows the person."""
    kept = [k for k, person in enumerate(found.people) if person is not None]
    if found.camera.to_frame is None:
        return np.tile(np.eye(3), (len(kept), 1, 1)).tolist()
    return of_coordinates(found.camera.to_frame[kept]).tolist()


def write_frames(
    paths: SubjectPaths, video: VideoFile, lens: Lens | None, found: Found, clip: ClipInfo, window: Window
) -> None:
    """Decode the kept frames again, even out their exposure, steady and cut them, and write them with their record, all or nothing."""
    indices = np.array(clip.source_frames)
    row_of = {index: row for row, index in enumerate(found.indices.tolist())}
    with replaced_folder(paths.frames) as folder:
        frames = _decoded(video, lens, indices, "writing frames")
        for frame_id, index, frame in zip(clip.frame_ids, clip.source_frames, frames, strict=True):
            even = frame if found.exposure is None else found.exposure[row_of[index]].even(frame)
            to_frame = None if found.camera.to_frame is None else found.camera.to_frame[row_of[index]]
            write_image(folder / frame_name(frame_id), window.cut(even, to_frame))
        write_json(folder / "clip.json", vars(clip))


def _decoded(video: VideoFile, lens: Lens | None, indices: Int[np.ndarray, "F"], what: str) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of these indices, made straight, with a progress bar."""
    with progress_bar(what, len(indices)) as show:
        for done, frame in enumerate(frames_of(video.path, indices), start=1):
            yield frame if lens is None else lens.straighten(frame)
            show(done)


def _shrink(image: UInt8[np.ndarray, "H W 3"], scale: float) -> UInt8[np.ndarray, "h w 3"]:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _scaled(person: PoseLandmarks, scale: float) -> PoseLandmarks:
    """The same landmarks in a picture of another size."""
    box = tuple(v * scale for v in person.box)
    return replace(person, points=person.points * scale, mask=None, box=box, alignment=person.alignment * scale)


def _given_focal(video: VideoFile, settings: ExtractFramesSettings) -> float | None:
    """What the user or the file says, px of the video."""
    return settings.focal_px or video.focal_px


def _guess_focal(video: VideoFile) -> float:
    return GUESSED_FOCAL * max(video.width, video.height)


def _intrinsics(focal_px: float, video: VideoFile) -> np.ndarray:
    return np.array([[focal_px, 0, video.width / 2], [0, focal_px, video.height / 2], [0, 0, 1.0]])


def _steadied(person: PoseLandmarks, to_frame: Float[np.ndarray, "3 3"]) -> PoseLandmarks:
    """The same landmarks in the steadied picture."""
    return replace(
        person, points=carry_back(person.points, to_frame), box=carry_box_back(person.box, to_frame), alignment=carry_back(person.alignment, to_frame)
    )


def _notes(found: Found, boxes: np.ndarray, window: Window) -> list[str]:
    """What a user should know of the clip, in sentences."""
    notes = []
    others = sum(p is not None and p.others > 0 for p in found.people)
    if others:
        notes.append(
            f"other people are seen in {others} of {len(found.people)} sampled frames; look at frames/ to see that the right one is "
            f"followed, else set extract_frames.subject_box"
        )
    lost = sum(p is None for p in found.people)
    if lost:
        notes.append(f"{lost} of {len(found.people)} sampled frames show no person and are left out")
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    if height < SMALL_PERSON * window.resolution:
        notes.append(f"the person is only {height:.0f} px tall in the square of {window.resolution} px, because it walks far")
    if window.scale > 1.25:
        notes.append(f"the square is enlarged {window.scale:.1f} times: the person is small in the video, detail is limited")
    return notes


if __name__ == "__main__":
    run_stage(main)
