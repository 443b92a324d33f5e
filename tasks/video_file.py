"""The door to a user's video: what is refused and why, what the file claims, and its frames one by one.

Axes: F decoded frames, H x W pixels of the upright picture, which are square: a film of others is stretched. Only a regular local file is opened: no addresses, no picture
sequences, no playlists (a text file can point the decoder at other files).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))  # a small file must not unpack to gigabytes
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,m4v,flv,ogg,asf,gif,3gp,mpegvideo,h264,hevc"
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"protocol_whitelist;file|format_whitelist;{CONTAINERS}"
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # the decoder's own complaints; ours are the ones that help
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")

import av
import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tasks.errors import InputError

SNIFFED_BYTES = 4096
FALLBACK_FPS = 25.0  # for a file that tells neither times nor a rate
MAX_PIXEL_ASPECT, SQUARE_ENOUGH = 4.0, 0.01  # other pixels are a mistake of the file's; the difference from 1 that does not matter
FULL_FRAME_WIDTH_MM = 36.0  # the width that "35 mm equivalent" focal lengths speak of
DURATION_TAG = re.compile(r"(\d+):(\d+):(\d+(?:\.\d*)?)")  # of mkv: hours:minutes:seconds
FOCAL_KEYS = ("com.apple.quicktime.camera.focal_length.35mm_equivalent", "com.android.camera.focal_length.35mm_equivalent")
WANTED = "expected a video file on this machine (mp4, mov, mkv, webm, avi)"


@dataclass(frozen=True)
class VideoFile:
    """A video that opens and decodes.

    Attributes:
        path: where it is.
        width, height: size of the upright picture, px.
        pixel_aspect: width of the stored picture's pixels over their height, once it is upright; 1 where they are square.
        fps: claimed frames per second; 0 where the file claims none.
        claimed_frames, claimed_seconds: as the file claims; 0 where it claims none. Either may be wrong for a file that is whole: a
            count may hold pictures that were skipped or that an edit list leaves out, and the last picture may last long.
        times: when each frame that decodes is shown, s.
        focal_px: focal length from the file's metadata, px of the upright picture; None where it holds none.
    """

    path: Path
    width: int
    height: int
    pixel_aspect: float
    fps: float
    claimed_frames: int
    claimed_seconds: float
    times: Float[np.ndarray, "F"]
    focal_px: float | None

    @property
    def decoded_share(self) -> float:
        """What decodes of what the file claims, by frames or by seconds, whichever is more; 1 where it claims nothing."""
        seconds = self.times[-1] - self.times[0] + (np.median(np.diff(self.times)) if len(self.times) > 1 else 0.0)
        claims = ((len(self.times), self.claimed_frames), (seconds, self.claimed_seconds))
        return float(max((found / claimed for found, claimed in claims if claimed), default=1.0))

    @property
    def claim(self) -> str:
        """What the file claims, in words; empty where it claims nothing."""
        frames, seconds = f"{self.claimed_frames} frames", f"{self.claimed_seconds:.1f} s"
        return " and ".join(words for words, claimed in ((frames, self.claimed_frames), (seconds, self.claimed_seconds)) if claimed)


def check_video(video: str) -> Path:
    """The path of a regular local file that is not plainly something else.

    Raises:
        InputError: an address, a missing file, a directory, a device, an empty file or a text file.
    """
    if "://" in video:
        raise InputError(f"{WANTED}, came the address {video}; download it first, then: make avatar VIDEO=path/to/clip.mp4")
    path = Path(video).expanduser()
    if path.is_dir():
        raise InputError(f"{WANTED}, came the directory {video}; name one file in it: make avatar VIDEO={path}/clip.mp4")
    if not path.exists():
        hint = "; a sequence of pictures is not read, make a video of it first" if "%" in video or "*" in video else ""
        raise InputError(f"{WANTED}, found nothing at {video}{hint}; mend the path in params.yaml (subject.video)")
    if not path.is_file():
        raise InputError(f"{WANTED}, {video} is a device or a pipe; copy the video to a regular file first")
    with open(path, "rb") as file:
        start = file.read(SNIFFED_BYTES)
    if not start:
        raise InputError(f"{WANTED}, {video} is empty; copy it again from its source")
    if _is_text(start):
        raise InputError(f"{WANTED}, {video} is a text file; name the video itself in params.yaml (subject.video)")
    return path


def open_video(video: str) -> VideoFile:
    """Check a video and read it once from end to end, without keeping the pictures.

    Raises:
        InputError: see check_video; also a file that no decoder opens, or without a single frame.
    """
    path = check_video(video)
    capture = _capture(path)
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = float(fps) if np.isfinite(fps) and 0 < fps < 1000 else 0.0
    times = []
    while capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    pixel_aspect = _pixel_aspect(capture)
    capture.release()
    if not times:
        raise InputError(f"{WANTED}, {video} opens but holds no frame that decodes; export it again (H.264 in mp4 is safest)")
    height, width = next(frames_of(path, np.array([0]))).shape[:2]
    count, seconds, focal_px = _read_header(path, width, height)
    return VideoFile(path, width, height, pixel_aspect, fps, count, seconds, _steady(times, fps or FALLBACK_FPS), focal_px)


def frames_of(path: Path, indices: np.ndarray) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Decode the frames with these indices (ascending), upright and RGB."""
    capture = _capture(path)
    pixel_aspect = _pixel_aspect(capture)
    wanted = iter(indices.tolist())
    target = next(wanted, None)
    index = 0
    while target is not None and capture.grab():
        if index == target:
            ok, frame = capture.retrieve()
            if not ok:
                raise InputError(f"frame {index} of {path} was there a moment ago and no longer decodes; copy the file again")
            yield _square_pixels(_rgb(frame), pixel_aspect)
            target = next(wanted, None)
        index += 1
    capture.release()


def _capture(path: Path) -> cv2.VideoCapture:
    """Open with FFmpeg only, rotation flags honoured."""
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise InputError(
            f"{WANTED}, {path} does not open as one: it is damaged, cut off or of another kind; "
            f"play it to see whether it is whole, or convert it: ffmpeg -i {path.name} -c:v libx264 clip.mp4"
        )
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def _rgb(frame: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """Any decoded frame as RGB: grey is spread over three channels, alpha is dropped."""
    if frame.ndim == 2 or frame.shape[2] == 1:
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(frame, cv2.COLOR_BGRA2RGB if frame.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _pixel_aspect(capture: cv2.VideoCapture) -> float:
    """Width over height of the upright picture's pixels: DV, HDV and some exports store pictures squeezed."""
    across, down = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    aspect = across / down if across > 0 and down > 0 else 1.0
    if not 1 / MAX_PIXEL_ASPECT < aspect < MAX_PIXEL_ASPECT or abs(aspect - 1) < SQUARE_ENOUGH:
        return 1.0
    return 1 / aspect if capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90 else aspect


def _square_pixels(frame: UInt8[np.ndarray, "h w 3"], aspect: float) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with square pixels, larger than it is stored."""
    if aspect == 1:
        return frame
    height, width = frame.shape[:2]
    return cv2.resize(frame, (round(width * max(aspect, 1)), round(height / min(aspect, 1))), interpolation=cv2.INTER_CUBIC)


def _steady(times: list[float], fps: float) -> Float[np.ndarray, "F"]:
    """Timestamps that rise; a file whose stamps stand still or run backwards is timed by its frame rate."""
    stamps = np.array(times)
    if len(stamps) > 1 and (not np.isfinite(stamps).all() or np.mean(np.diff(stamps) > 0) < 0.9):
        return np.arange(len(stamps)) / fps
    return np.maximum.accumulate(stamps)


def _read_header(path: Path, width: int, height: int) -> tuple[int, float, float | None]:
    """How many pictures the file claims and how long they run, s (0: it does not say), and the focal length that a telephone wrote into it, px.

    OpenCV's count is not asked: where a file has none it is the duration, sound and all, times a nominal rate.
    """
    try:
        with av.open(str(path.resolve())) as container:
            stream = container.streams.video[0]
            tags = {**container.metadata, **stream.metadata}
            count, seconds = max(0, stream.frames), _claimed_seconds(container, stream)
            values = [float(tags[key]) for key in FOCAL_KEYS if key in tags]
    except (av.FFmpegError, IndexError, ValueError, UnicodeDecodeError):
        return 0, 0.0, None
    return count, seconds, values[0] / FULL_FRAME_WIDTH_MM * max(width, height) if values and 5 < values[0] < 500 else None


def _claimed_seconds(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> float:
    """The pictures' own duration; of a container that knows its whole alone (mkv, webm), that where nothing else, such as sound, is in it.

    Of an AVI its count times its rate, skipped pictures among them: its duration is reckoned from as much as is left of the file.
    """
    if container.format.name == "avi":
        return stream.frames / float(stream.average_rate) if stream.frames and stream.average_rate else 0.0
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    late = float((stream.start_time or 0) * stream.time_base)  # the other two count from 0
    if tag := DURATION_TAG.fullmatch(stream.metadata.get("DURATION", "")):
        return max(0.0, 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3]) - late)
    return max(0.0, container.duration / av.time_base - late) if container.duration is not None and len(container.streams) == 1 else 0.0


def _is_text(start: bytes) -> bool:
    """Whether a file's first bytes read as text."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # a character may be cut at the end
            return False
        text = start[: error.start].decode("utf-8")
    return all(c.isprintable() or c in "\r\n\t\f\ufeff" for c in text)
