"""Claims about extract_frames: what it refuses and says, how it samples, and where the camera goes."""

from __future__ import annotations

import dataclasses
import os
import re
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from ruamel.yaml import YAML

from model.camera_motion import carry_back, measure_camera
from model.lens import Lens
from model.video import Window, sample_times
from tasks import extract_frames
from tasks.artifacts import SubjectPaths, read_clip, read_frame
from tasks.errors import InputError, run_stage
from tasks.extract_frames import Found, to_filmed
from tasks.settings import ExtractFramesSettings
from tasks.video_file import _rgb, check_video, frames_of, open_video

PROJECT = Path(__file__).resolve().parents[2]
TAIJI = PROJECT.parent / "shared" / "data" / "taiji.mp4"
needs_taiji = pytest.mark.skipif(not TAIJI.is_file(), reason=f"needs a real clip at {TAIJI}")


def write_video(path: Path, frames: list[np.ndarray], *, fourcc: str = "mp4v", fps: float = 10.0) -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*fourcc), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def numbered(count: int, *, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """Frames whose brightness tells their number, with a white block at the top left."""
    frames = []
    for i in range(count):
        frame = np.full((height, width, 3), 20 + 4 * i, np.uint8)
        frame[:16, :16] = 250
        frames.append(frame)
    return frames


def turn_upright(path: Path, degrees: int) -> None:
    """Write into an mp4 that its pictures are to be turned."""
    c, s = round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # the matrix of a version 0 track header: [a b u; c d v; x y w]
    struct.pack_into(">9i", content, at, c << 16, s << 16, 0, -s << 16, c << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def write_stamped(path: Path, stamps: list[int], **options: str) -> Path:
    """Noise that is shown at these hundredths of a second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("vp8" if path.suffix == ".webm" else "mpeg4", rate=100, width=64, height=48, pix_fmt="yuv420p")
        stream.codec_context.time_base = Fraction(1, 100)
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
            frame.pts = stamp
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def settings(**changes: object) -> ExtractFramesSettings:
    values = dict(num_frames=8, fps=None, resolution=256, margin=0.1, focal_px=None, distortion=None,
                  subject_box=None, allow_moving_camera=False, min_frames=4, min_person_share=0.5,
                  min_decoded_share=0.98)  # fmt: skip
    return ExtractFramesSettings(**(values | changes))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A project folder of its own; returns how to run the stage on a video."""
    monkeypatch.chdir(tmp_path)

    def run(video: object, **changes: object) -> SubjectPaths:
        params = YAML(typ="safe").load((PROJECT / "params.yaml").read_text())
        params["subject"] = {"name": "one", "video": str(video), "truth": "docs/no_truth"}
        params["extract_frames"] = vars(settings(**changes))
        with open("params.yaml", "w") as file:
            YAML().dump(params, file)
        run_stage(extract_frames.main)
        return SubjectPaths(work=Path("work/one"), results=Path("results/one"))

    return run


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


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm", "clip.mp4"])
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


def test_bad_input_ends_the_stage_and_loses_nothing(project, tmp_path: Path, capsys: pytest.CaptureFixture):
    kept = tmp_path / "work/one/frames/clip.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    with pytest.raises(SystemExit) as end:
        project(write_video(tmp_path / "clip.mp4", numbered(3)))
    assert end.value.code not in (0, None)
    assert "has 3 frames, expected at least 4" in capsys.readouterr().err
    assert kept.read_text() == "{}" and [p.name for p in (tmp_path / "work/one").iterdir()] == ["frames"]


def test_a_video_without_a_person_is_refused(project, tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        project(write_video(tmp_path / "clip.mp4", numbered(12)))
    assert "no person found in any of 8 frames" in capsys.readouterr().err


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


# ------------------------------------------------------------------------------------------------------------ the camera


def test_a_person_in_too_few_frames_is_refused_with_the_count(tmp_path: Path):
    video = open_video(str(write_video(tmp_path / "clip.mp4", numbered(12))))
    with pytest.raises(InputError, match=r"found in only 4 of 12 frames .*33%, expected at least 50%"):
        extract_frames.check_presence(video, [object()] * 4 + [None] * 8, settings())
    with pytest.raises(InputError, match="only 3 sampled frames"):
        extract_frames.check_presence(video, [object()] * 3, settings())
    extract_frames.check_presence(video, [object()] * 8 + [None] * 4, settings())


@pytest.fixture(scope="module")
def man() -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(TAIJI))
    return [cv2.cvtColor(cv2.resize(capture.read()[1], (640, 360)), cv2.COLOR_BGR2RGB) for _ in range(24)]


@needs_taiji
def test_a_real_clip_becomes_frames_that_hold_the_man(project, tmp_path: Path, man: list[np.ndarray]):
    paths = project(write_video(tmp_path / "clip.mp4", man))
    clip = read_clip(paths)
    assert len(clip.frame_ids) == 8 and clip.dropped == {} and not clip.focal_known
    assert clip.source_frames[0] == 0 and clip.source_frames[-1] == 23
    boxes = np.array(clip.boxes)
    assert boxes.min() > 0 and boxes.max() < 256
    assert read_frame(paths, 3).shape == (256, 256, 3)
    x0, y0, side = clip.crop
    assert clip.K[0, 0] == pytest.approx(1.2 * 640 * 256 / side)
    assert clip.K[:2, 2] == pytest.approx([(320 - x0) * 256 / side, (180 - y0) * 256 / side])


@pytest.mark.parametrize(("given", "written", "from_file"), [(None, None, False), (None, 700.0, True), (500.0, 700.0, False)])
def test_it_is_noted_whether_the_file_or_the_user_told_the_focal_length(tmp_path: Path, given: float | None, written: float | None, from_file: bool):
    video = dataclasses.replace(open_video(str(write_video(tmp_path / "clip.mp4", numbered(12)))), focal_px=written)
    person = SimpleNamespace(box=(20.0, 5.0, 60.0, 60.0), others=0)
    found = Found(np.arange(4), [person] * 4, None, [])
    clip, _ = extract_frames.describe_clip(video, found, settings(focal_px=given), [])
    assert clip.focal_from_file is from_file and clip.focal_known is (given is not None or written is not None)


@needs_taiji
def test_frames_without_the_person_are_dropped_and_listed(project, tmp_path: Path, man: list[np.ndarray]):
    empty = np.full((360, 640, 3), 90, np.uint8)
    video = write_video(tmp_path / "clip.mp4", man[:9] + [empty] * 3)
    clip = read_clip(project(video, num_frames=12, focal_px=500.0))
    assert clip.source_frames == list(range(9)) and clip.frame_ids == list(range(9))
    assert clip.dropped == {str(i): "no person found" for i in (9, 10, 11)}
    assert clip.focal_known and clip.focal_px == pytest.approx(500 * 256 / clip.crop[2])
    assert any("3 of 12 sampled frames show no person" in note for note in clip.notes)


def shifted(man: list[np.ndarray], per_frame: float) -> list[np.ndarray]:
    """The clip as a camera films it that moves sideways by so many px a frame."""
    height, width = man[0].shape[:2]
    return [
        cv2.warpAffine(f, np.array([[1.0, 0, per_frame * (i - 11)], [0, 1.0, 0]]), (width, height), borderMode=cv2.BORDER_REFLECT_101)
        for i, f in enumerate(man)
    ]


@needs_taiji
def test_a_moving_camera_is_refused_with_what_it_did(project, tmp_path: Path, man: list[np.ndarray], capsys: pytest.CaptureFixture):
    video = write_video(tmp_path / "clip.mp4", shifted(man, 9.0))
    with pytest.raises(SystemExit):
        project(video)
    said = capsys.readouterr().err
    assert re.search(r"camera of .*clip.mp4 moves: .* up to 1[01]\d px", said) and "allow_moving_camera: true" in said
    clip = read_clip(project(video, allow_moving_camera=True))
    assert any("the camera moves" in note for note in clip.notes)


@needs_taiji
def test_a_shaking_camera_is_steadied(project, tmp_path: Path, man: list[np.ndarray]):
    paths = project(write_video(tmp_path / "clip.mp4", shifted(man, 1.0)))
    clip = read_clip(paths)
    assert any("the camera shook" in note for note in clip.notes)
    motion = measure_camera([read_frame(paths, i) for i in clip.frame_ids], clip.boxes)
    assert np.nanmax(motion.moved_px) < 1.5  # px; up to 12 before, in a square of half the size


@needs_taiji
def test_the_subject_box_chooses_and_a_box_without_a_person_is_refused(
    project, tmp_path: Path, man: list[np.ndarray], capsys: pytest.CaptureFixture
):
    two = [np.concatenate([f[:, 150:450], f[:, 150:450][:, ::-1]], axis=1) for f in man]  # he and his mirror image
    video = write_video(tmp_path / "clip.mp4", two)
    clip = read_clip(project(video, num_frames=4, subject_box=[400.0, 60.0, 110.0, 260.0]))
    assert clip.people == 2 and any("other people are seen" in note for note in clip.notes)
    assert clip.crop[0] + clip.crop[2] / 2 > 330
    with pytest.raises(SystemExit):
        project(video, num_frames=4, subject_box=[0.0, 0.0, 40.0, 40.0])
    assert "fits nobody in any sampled frame; the person nearest to it fills [" in capsys.readouterr().err


@needs_taiji
def test_a_bent_lens_is_made_straight(project, tmp_path: Path, man: list[np.ndarray]):
    lens = Lens(np.array([[600.0, 0, 320], [0, 600, 180], [0, 0, 1]]), (0.3, 0.0, 0.0, 0.0, 0.0), 640, 360)
    undone = Lens(lens.K, (-0.3, 0.0, 0.0, 0.0, 0.0), 640, 360)
    video = write_video(tmp_path / "clip.mp4", [undone.straighten(f) for f in man])
    paths = project(video, distortion=[0.3, 0.0, 0.0, 0.0, 0.0], focal_px=600.0)
    clip, raw = read_clip(paths), next(frames_of(video, np.array([0])))
    window = Window(*(int(v) for v in clip.crop), clip.resolution)
    assert clip.focal_px == pytest.approx(600 * clip.resolution / clip.crop[2])
    straight, bent = (np.abs(read_frame(paths, 0).astype(float) - window.cut(f)).mean() for f in (lens.straighten(raw), raw))
    assert straight < bent / 2


def test_a_lens_needs_its_focal_length_and_must_be_one(tmp_path: Path):
    video = open_video(str(write_video(tmp_path / "clip.mp4", numbered(12))))
    with pytest.raises(InputError, match="without a focal length"):
        extract_frames.choose_lens(video, settings(distortion=[0.1, 0.0, 0.0, 0.0, 0.0]))
    with pytest.raises(InputError, match="fold the picture .* focal_px 60 and pictures of 96x64 px"):
        extract_frames.choose_lens(video, settings(distortion=[-0.9, 0.0, 0.0, 0.0, 0.0], focal_px=60.0))
    assert extract_frames.choose_lens(video, settings()) is None


def test_points_of_a_steadied_frame_find_their_way_back_to_the_frame_as_it_was_filmed() -> None:
    turn = np.array([[1.01, -0.02], [0.02, 1.01]])
    similarities = np.stack([np.eye(2, 3), np.concatenate([turn, [[3.0], [-5.0]]], axis=1), np.eye(2, 3)])
    people = [None, object(), object()]
    back = np.array(to_filmed(Found(np.arange(3), people, similarities, [])))
    assert back.shape == (2, 2, 3)
    filmed = np.array([[100.0, 40.0], [7.5, 300.5]])
    assert np.allclose(carry_back(filmed, similarities[1]) @ back[0, :, :2].T + back[0, :, 2], filmed)
    assert np.allclose(to_filmed(Found(np.arange(3), people, None, [])), np.eye(2, 3))
