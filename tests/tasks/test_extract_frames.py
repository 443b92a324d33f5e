"""Claims about extract_frames: what it refuses and says, how it samples, and where the camera goes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from ruamel.yaml import YAML

from model.camera_motion import carry, carry_back, homography_of, measure_camera
from model.lens import Lens
from model.video import Window
from tasks import extract_frames
from tasks.artifacts import SubjectPaths, read_clip, read_frame
from tasks.camera_checks import CameraPath
from tasks.errors import InputError, run_stage
from tasks.extract_frames import Found, to_filmed
from tasks.video_file import frames_of, open_video
from tests.tasks.video_files import numbered, settings, write_video

PROJECT = Path(__file__).resolve().parents[2]
TAIJI = PROJECT.parent / "shared" / "data" / "taiji.mp4"
needs_taiji = pytest.mark.skipif(not TAIJI.is_file(), reason=f"needs a real clip at {TAIJI}")


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
    found = Found(np.arange(4), [person] * 4, CameraPath(None, []), [])
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
def test_a_camera_that_brightens_along_the_clip_is_evened_out(project, tmp_path: Path, man: list[np.ndarray]):
    brighter = [np.rint(frame * (0.7 + 0.02 * k)).astype(np.uint8) for k, frame in enumerate(man)]
    video = write_video(tmp_path / "clip.mp4", brighter)

    def corner(**changes: object) -> tuple[list[list[float]] | None, float]:
        """What is recorded, and how far a corner of the written frames changes its brightness."""
        paths = project(video, **changes)
        clip = read_clip(paths)
        level = [read_frame(paths, k)[-40:, :40].mean() for k in clip.frame_ids]
        return clip.exposure, np.ptp(level) / np.mean(level)

    as_filmed, evened = corner(even_exposure=False), corner()
    assert as_filmed[0] is None and as_filmed[1] > 0.3
    assert np.all(np.diff(np.mean(evened[0], axis=1)) > 0) and evened[1] < 0.05


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
    similarities = homography_of(np.stack([np.eye(2, 3), np.concatenate([turn, [[3.0], [-5.0]]], axis=1), np.eye(2, 3)]))
    similarities[1, 2, 0] = 1e-4  # seen from another side
    people = [None, object(), object()]
    back = np.array(to_filmed(Found(np.arange(3), people, CameraPath(similarities, []), [])))
    assert back.shape == (2, 3, 3)
    filmed = np.array([[100.0, 40.0], [7.5, 300.5]])
    assert np.allclose(carry(back[0], carry_back(filmed, similarities[1])), filmed)
    assert np.allclose(to_filmed(Found(np.arange(3), people, CameraPath(None, []), [])), np.eye(3))
