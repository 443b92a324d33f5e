"""Claims about the fit stage: it reads frames and masks, writes a track, numbers and a picture, and refuses bad input clearly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from model.body.body_model import load_body_model
from model.camera import Camera
from model.fitting.fit import Silhouettes
from model.fitting.landmarks import MissingDetectorError, PoseLandmarks
from model.fitting.objective import fit_body_of
from tasks import fit_smpl
from tasks.artifacts import ClipInfo, Segmentation, SubjectPaths, read_json, read_track, write_image, write_json
from tasks.body import read_body
from tasks.errors import InputError
from tasks.settings import BodySettings, FitSmplSettings, load_settings

FRAMES, SIZE, FOCAL = 5, 128, 240.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings() -> FitSmplSettings:
    return load_settings(ROOT / "params.yaml").fit_smpl


@pytest.fixture
def paths(tmp_path: Path) -> SubjectPaths:
    return SubjectPaths(work=tmp_path / "work", results=tmp_path / "results")


def clip_info() -> ClipInfo:
    return ClipInfo(
        source="clip.mp4", source_width=SIZE, source_height=SIZE, source_fps=25.0, source_frames=[0, 2, 4, 6, 8],
        times=[0.08 * k for k in range(FRAMES)], frame_ids=list(range(FRAMES)), fps=12.5, resolution=SIZE, crop=[0, 0, SIZE],
        focal_px=FOCAL, focal_known=False, cx=SIZE / 2, cy=SIZE / 2, boxes=[[0, 0, SIZE, SIZE]] * FRAMES, dropped={}, notes=[],
    )  # fmt: skip


def write_clip(paths: SubjectPaths, *, mask_size: int = SIZE, flagged: dict[str, str] | None = None) -> None:
    write_json(paths.frames / "clip.json", vars(clip_info()))
    write_json(paths.masks / "segmentation.json", vars(Segmentation("landmarks", "pose_landmark_full", flagged or {})))
    mask = np.zeros((mask_size, mask_size), np.uint8)
    mask[10:118, 45:83] = 255
    for frame in range(FRAMES):
        write_image(paths.frames / f"{frame:06d}.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
        write_image(paths.masks / f"{frame:06d}.png", mask)


def standing_person() -> PoseLandmarks:
    """The landmarks of the open body at rest in front of the clip's camera."""
    model = load_body_model("open")
    body = fit_body_of(model)
    rest = model.landmarks(*model.rest(model.v_template.new_zeros(model.num_betas))).double()
    camera_points = rest * rest.new_tensor([1, -1, -1]) + rest.new_tensor([0, 0, 3.8])
    info = clip_info()
    K = rest.new_tensor(info.K)
    points = Camera(K, rest.new_tensor(np.eye(4)), SIZE, SIZE).project(camera_points).numpy()
    hips = camera_points[[23, 24]].mean(0)
    assert body.landmarks.weights.shape[0] == len(points) == 33
    return PoseLandmarks(points, np.ones(33), (camera_points - hips).numpy(), 1.0, None, (0, 0, SIZE, SIZE), points[[23, 11]])


def run(paths: SubjectPaths, settings: FitSmplSettings) -> dict:
    clip = fit_smpl.read_inputs(paths)
    model = load_body_model("open")
    body = fit_body_of(model)
    detected = fit_smpl.detect(paths, clip)
    seen = fit_smpl.see(detected, clip, settings)
    state = fit_smpl.fit(body, seen, clip, settings)
    score = fit_smpl.score_fit(body, seen, clip.silhouettes, fit_smpl.spreads_of(settings), state)
    details = fit_smpl.Detailed(fit_smpl.track_of(clip, model, seen, state, score))
    return fit_smpl.write_fit(paths, clip, model, body, detected, seen, state, score, details)


def test_the_stage_writes_a_track_numbers_and_a_picture(
    paths: SubjectPaths, settings: FitSmplSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(paths, flagged={"3": "empty"})
    people = [standing_person()] * 4 + [None]
    monkeypatch.setattr(fit_smpl, "track_clip", lambda images, **_: people)
    record = run(paths, settings)
    track = read_track(paths.fit / "track.npz", made_by="fit_smpl")
    assert track.num_frames == FRAMES and track.frame_ids.tolist() == [0, 1, 2, 3, 4] and track.body == "open"
    assert track.K[0, 2] == SIZE / 2 and track.fps == 12.5
    assert track.confidence[4] <= 0.1 < track.confidence[0] and track.confidence.max() <= 1
    assert set(record["distrusted"]) >= {"3", "4"} and "flagged" in record["distrusted"]["3"]
    assert record == read_json(paths.fit / "fit.json", made_by="fit_smpl")
    assert record["reprojection_share_of_height"] < 0.02 and 1.4 < record["height_m"] < 2.1
    assert (paths.fit / "overlay.png").stat().st_size > 1000 and (paths.fit / "overlay.mp4").stat().st_size > 1000
    page = (paths.fit / "fit.html").read_text()
    assert "the mask is flagged" in page and f"{record['iou_mean']:.3f}" in page
    assert "5 frames fitted" in fit_smpl.summary(record)


def test_masks_of_another_size_are_refused(paths: SubjectPaths) -> None:
    write_clip(paths, mask_size=64)
    with pytest.raises(InputError, match="segment_person"):
        fit_smpl.read_inputs(paths)


def test_missing_frames_name_the_stage_to_run(paths: SubjectPaths) -> None:
    with pytest.raises(InputError, match="dvc repro extract_frames"):
        fit_smpl.read_inputs(paths)


def test_a_clip_without_landmarks_is_refused(paths: SubjectPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((FRAMES, 8, 8, 3), np.uint8)
    clip = fit_smpl.Clip(clip_info(), images, Silhouettes(images[..., 0], np.ones(FRAMES)))
    monkeypatch.setattr(fit_smpl, "track_clip", lambda images, **_: [None] * FRAMES)
    with pytest.raises(InputError, match="no landmarks"):
        fit_smpl.detect(paths, clip)


def test_a_missing_detector_is_said_in_its_own_words(paths: SubjectPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: np.ndarray, **_: object) -> None:
        raise MissingDetectorError("run: make setup")

    images = np.zeros((FRAMES, 8, 8, 3), np.uint8)
    clip = fit_smpl.Clip(clip_info(), images, Silhouettes(images[..., 0], np.ones(FRAMES)))
    monkeypatch.setattr(fit_smpl, "track_clip", fail)
    with pytest.raises(InputError, match="make setup"):
        fit_smpl.detect(paths, clip)


def test_an_unknown_body_model_is_refused(tmp_path: Path) -> None:
    settings = BodySettings(model=str(tmp_path / "smpl.npz"), uv=None)
    with pytest.raises(InputError, match="there is no body model at"):
        read_body(settings)


def test_a_body_without_a_uv_layout_is_refused_where_a_surface_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = dataclasses.replace(load_body_model("open"), uv=None)  # as SMPL's own files are
    monkeypatch.setattr("tasks.body.load_body_model", lambda *_, **__: bare)
    settings = BodySettings(model="SMPL.pkl", uv=None)
    assert read_body(settings) is bare
    with pytest.raises(InputError, match="no UV layout.*body.uv"):
        read_body(settings, with_uv=True)


def test_a_telephones_focal_length_is_trusted_more_than_a_guess_and_less_than_a_measured_one(settings: FitSmplSettings) -> None:
    guessed, told, measured = (
        fit_smpl.focal_spread(dataclasses.replace(clip_info(), focal_known=known, focal_from_file=file), settings) for known, file in ((False, False), (True, True), (True, False))
    )
    assert measured < told < guessed == settings.focal_spread
