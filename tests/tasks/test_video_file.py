"""Claims about the door to a user's video: what is refused and in which words, what counts as whole, and which frames come out."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from model.video import sample_times
from tasks import extract_frames
from tasks.errors import InputError
from tasks.video_file import _rgb, check_video, frames_of, open_video
from tests.tasks.video_files import numbered, settings, turn_upright, write_stamped, write_video

# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("video", "said"),
    [
        ("https://example.org/clip.mp4", "came the address https://example.org/clip.mp4; download it first"),
        ("no_such.mp4", "found nothing at no_such.mp4; mend the path"),
        ("frames/%03d.png", "a sequence of pictures is not read"),
        (".", "came the directory ."),
        (os.devnull, "is a device or a pipe"),
    ],
)
def test_what_is_no_file_is_refused(video: str, said: str):
    with pytest.raises(InputError) as caught:
        check_video(video)
    assert said in str(caught.value) and "expected a video file" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello, I am a film\n", "is a text file"),
        ("Fil\u00edm \u2014 no".encode(), "is a text file"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n/etc/passwd\n", "is a text file"),
        (b"", "is empty"),
        (bytes(range(256)) * 40, "does not open as one"),
    ],
)
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_video(str(path))


def test_a_playlist_hidden_behind_a_zero_byte_is_refused(tmp_path: Path):
    part = write_video(tmp_path / "part.ts", numbered(8), fourcc="mp4v")
    path = tmp_path / "clip.m3u8"
    path.write_bytes(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + str(part).encode() + b"\n#EXT-X-ENDLIST\n\0")
    with pytest.raises(InputError, match="does not open as one"):
        open_video(str(path))


def test_a_picture_is_no_video(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "clip.png"), numbered(1)[0])
    with pytest.raises(InputError, match="does not open as one"):
        open_video(str(tmp_path / "clip.png"))


def test_a_cut_off_video_is_refused_with_both_counts(tmp_path: Path):
    path = write_video(tmp_path / "clip.avi", numbered(40), fourcc="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = open_video(str(path))
    assert video.claimed_frames == 40 and 5 < len(video.times) < 30
    with pytest.raises(InputError, match=rf"claims 40 frames .*but only {len(video.times)} frames decode .*damaged or cut off"):
        extract_frames.check_length(video, settings())
    (note,) = extract_frames.check_length(video, settings(min_decoded_share=0.1))
    assert note.startswith("the video claims 40 frames") and note.endswith(f"{len(video.times)} frames decode")


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm", "clip.mp4", "clip.avi"])
def test_a_whole_video_whose_claimed_count_is_a_guess_is_whole(tmp_path: Path, name: str):
    stamps = list(range(500, 600, 2)) + list(range(600, 800, 20))  # 60 frames that start late; at the nominal rate these 3 s would be 300
    video = open_video(str(write_stamped(tmp_path / name, stamps)))
    assert len(video.times) == 60 and extract_frames.check_length(video, settings()) == []


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.avi"])
def test_a_video_that_breaks_off_is_noticed_whatever_its_claim(tmp_path: Path, name: str):
    path = write_stamped(tmp_path / name, list(range(0, 300, 2)), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match="damaged or cut off"):
        extract_frames.check_length(open_video(str(path)), settings())


def test_a_start_that_is_trimmed_by_an_edit_list_is_no_damage(tmp_path: Path):
    path = write_stamped(tmp_path / "clip.mp4", list(range(0, 200, 2)))
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4 + 4  # of a version 0 edit list: count, then duration, media time, rate of each
    (timescale,) = struct.unpack_from(">I", content, content.index(b"mvhd") + 4 + 12)
    (media_timescale,) = struct.unpack_from(">I", content, content.index(b"mdhd") + 4 + 12)
    struct.pack_into(">2I", content, at + 4, round(1.5 * timescale), round(0.5 * media_timescale))
    path.write_bytes(content)
    video = open_video(str(path))
    assert len(video.times) < 80 and video.claimed_frames == 100
    assert extract_frames.check_length(video, settings()) == []


def test_a_video_without_its_index_is_refused(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", numbered(40))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="damaged, cut off or of another kind"):
        open_video(str(path))


# ------------------------------------------------------------------------------------------------------------ the frames


def test_frames_come_by_index_and_in_order(tmp_path: Path):
    path = write_video(tmp_path / "clip.mp4", numbered(30))
    shades = [float(f[40, 60].mean()) for f in frames_of(path, np.array([2, 3, 20, 29]))]
    assert np.allclose(np.diff(shades), [4, 68, 36], atol=1.5) and shades[0] == pytest.approx(28, abs=6)  # lossy


@pytest.mark.parametrize(("degrees", "corner"), [(0, "top left"), (90, "top right"), (180, "bottom right"), (270, "bottom left")])
def test_the_rotation_flag_is_honoured(tmp_path: Path, degrees: int, corner: str):
    path = write_video(tmp_path / "clip.mp4", numbered(6))
    turn_upright(path, degrees)
    video = open_video(str(path))
    assert (video.width, video.height) == ((64, 96) if degrees % 180 else (96, 64))
    frame = next(frames_of(path, np.array([0])))
    bright = np.argwhere(frame[..., 0] > 150).mean(axis=0) / frame.shape[:2]
    assert corner == f"{'top' if bright[0] < 0.5 else 'bottom'} {'left' if bright[1] < 0.5 else 'right'}"


@pytest.mark.parametrize(("degrees", "size", "box"), [(0, (128, 64), (16, 21)), (90, (64, 128), (21, 16))])
def test_squeezed_pixels_are_made_square(tmp_path: Path, degrees: int, size: tuple[int, int], box: tuple[int, int]):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=96, height=64, pix_fmt="yuv420p")
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for frame in numbered(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    if degrees:
        turn_upright(path, degrees)
    video = open_video(str(path))
    assert (video.width, video.height) == size and video.pixel_aspect == pytest.approx(3 / 4 if degrees else 4 / 3)
    bright = next(frames_of(path, np.array([0])))[..., 0] > 150
    rows, columns = (np.flatnonzero(bright.any(axis)) for axis in (1, 0))
    assert abs(np.ptp(rows) + 1 - box[0]) <= 3 and abs(np.ptp(columns) + 1 - box[1]) <= 3


def test_grey_and_transparent_frames_become_rgb():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(_rgb(grey), np.repeat(grey[..., None], 3, axis=2))
    bgra = np.dstack([grey, grey + 1, grey + 2, np.zeros_like(grey)])
    assert np.array_equal(_rgb(bgra)[..., 0], grey + 2)


def test_a_grey_video_opens(tmp_path: Path):
    with av.open(str(tmp_path / "clip.avi"), "w") as container:
        stream = container.add_stream("ffv1", rate=10, width=64, height=48, pix_fmt="gray")
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), 30 * i, np.uint8), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    last = list(frames_of(open_video(str(tmp_path / "clip.avi")).path, np.arange(5)))[-1]
    assert last.shape == (48, 64, 3) and np.allclose(last, 120, atol=1)


def test_an_uneven_frame_rate_is_sampled_evenly_in_time(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    stamps = list(range(0, 100, 2)) + list(range(100, 300, 20))  # 50 frames a second, then 5
    write_stamped(path, stamps)
    times = open_video(str(path)).times
    assert np.allclose(times, np.array(stamps) / 100, atol=0.011)
    chosen = times[sample_times(times, num_frames=12)]
    assert np.abs(np.diff(chosen) - chosen[-1] / 11).max() < 0.2
