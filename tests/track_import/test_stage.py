"""Claims about the fit stage with an imported track: it settles, judges, refuses, and writes what the stage's own fit writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch

from model.body.body_model import BodyModel, load_body_model
from model.body.track_import.imported import MEAN_PELVIS
from model.fitting.fit import Silhouettes
from model.fitting.objective import fit_body_of
from model.fitting.observations import observe
from model.fitting.outline import render_faces
from tasks import fit_smpl
from tasks.artifacts import ClipInfo, SubjectPaths, read_json, read_track, subject_paths
from tasks.errors import InputError
from tasks.settings import FitSmplSettings, load_settings

FRAMES, SIZE = 3, 160
FOCAL = float(np.hypot(SIZE, SIZE))  # WHAM's own guess
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Scene:
    """A stout and tall person whose masks are known."""

    clip: fit_smpl.Clip
    orient: np.ndarray
    pose: np.ndarray
    pelvis: np.ndarray


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open")


@pytest.fixture(scope="module")
def scene(body: BodyModel) -> Scene:
    betas = torch.zeros(body.num_betas)
    betas[:2] = torch.tensor([0.8, 1.0])
    pose = np.zeros((FRAMES, 23, 3))
    pose[:, 15, 2], pose[:, 16, 2] = -np.linspace(0.9, 1.1, FRAMES), np.linspace(0.9, 1.1, FRAMES)
    orient = np.tile([np.pi, 0, 0], (FRAMES, 1))
    pelvis = np.array([0.0, 0.05, 3.2]) + np.linspace(0, 0.1, FRAMES)[:, None] * [1, 0, 0]
    info = ClipInfo(
        source="clip.mp4", source_width=SIZE, source_height=SIZE, source_fps=25.0, source_frames=[0, 1, 2], times=[0.0, 0.04, 0.08],
        frame_ids=[0, 1, 2], fps=25.0, resolution=SIZE, crop=[0, 0, SIZE], focal_px=FOCAL, focal_known=False, cx=SIZE / 2, cy=SIZE / 2,
        boxes=[[0, 0, SIZE, SIZE]] * FRAMES, dropped={}, notes=[],
    )  # fmt: skip
    rest_pelvis = body.rest(betas)[1][0].numpy()
    masks = []
    for row in range(FRAMES):
        parts = [torch.tensor(part).float() for part in (orient[row], pose[row], pelvis[row] - rest_pelvis)]
        v = body.pose(betas, *parts).vertices.double().numpy()
        pixels = v[:, :2] / v[:, 2:] * FOCAL + SIZE / 2
        masks.append(np.where(render_faces(pixels, v[:, 2], body.faces.numpy(), SIZE, SIZE)[0] >= 0, 255, 0).astype(np.uint8))
    masks = np.stack(masks)
    assert masks[:, [0, -1]].max() == 0, "the whole person is in the picture"
    return Scene(fit_smpl.Clip(info, np.full((FRAMES, SIZE, SIZE, 3), 90, np.uint8), Silhouettes(masks, np.ones(FRAMES))), orient, pose, pelvis)


def settings_for(file: Path) -> FitSmplSettings:
    return load_settings(ROOT / "params.yaml").fit_smpl.model_copy(update={"import_track": str(file)})


def wham_file(folder: Path, scene: Scene, frames: list[int], *, moved: float = 0.0) -> Path:
    """The person, three per cent too far away as another program would have it."""
    places = scene.pelvis * [1.03, 1.03, 1.03] + [moved, 0, 0] - np.array(MEAN_PELVIS["smpl"])
    pose = np.concatenate([scene.orient, scene.pose.reshape(FRAMES, -1)], 1)
    person = {"pose": pose[frames], "trans": places[frames], "betas": np.full((len(frames), 10), 2.0), "frame_ids": np.array(frames)}
    joblib.dump({0: person}, folder / "wham_output.pkl")
    return folder / "wham_output.pkl"


def test_betas_of_another_body_are_left_out_and_the_shape_is_settled_on_the_masks(tmp_path: Path, scene: Scene, body: BodyModel) -> None:
    paths = SubjectPaths(work=tmp_path / "work", results=tmp_path / "results")
    imported = fit_smpl.read_import(scene.clip, body, settings_for(wham_file(tmp_path, scene, [0, 2])))
    assert not imported.own_shape and imported.found.tolist() == [True, False, True]
    record = fit_smpl.use_import(paths, scene.clip, body, imported)
    assert record["iou_mean"] > 0.9, "0.75 for the mean body in the file's place"
    assert record["import"]["format"] == "WHAM" and record["import"]["frames_matched"] == 2
    said = " ".join(record["import"]["notes"])
    assert "rotations carry over, betas do not" in said and "1 frames have no row" in said
    track = read_track(paths.fit / "track.npz", made_by="fit_smpl")
    assert track.frame_ids.tolist() == [0, 1, 2] and track.body == "open" and track.width == SIZE
    assert track.confidence[1] < 0.5 < track.confidence[0] and "1" in record["distrusted"]
    assert record == read_json(paths.fit / "fit.json", made_by="fit_smpl")
    assert (paths.fit / "overlay.png").stat().st_size > 1000


def test_a_track_that_does_not_cover_the_person_is_refused_and_shown(tmp_path: Path, scene: Scene, body: BodyModel) -> None:
    paths = SubjectPaths(work=tmp_path / "work", results=tmp_path / "results")
    imported = fit_smpl.read_import(scene.clip, body, settings_for(wham_file(tmp_path, scene, [0, 1, 2], moved=1.2)))
    with pytest.raises(InputError, match="covers only 0.*import_refused.png"):
        fit_smpl.use_import(paths, scene.clip, body, imported)
    assert (paths.work / "import_refused.png").stat().st_size > 1000 and not paths.fit.exists()


def test_a_refined_import_passes_the_same_gate(tmp_path: Path, scene: Scene, body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(ROOT / "params.yaml")
    chosen = settings_for(wham_file(tmp_path, scene, [0, 1, 2])).model_copy(update={"import_refine": True})
    score = SimpleNamespace(iou=np.array([0.2, np.nan, 0.3]))
    stand_ins = {
        "load_settings": settings.model_copy(update={"fit_smpl": chosen}), "read_inputs": scene.clip, "read_body": body, "detect": None, "see": None,
        "refine_import": (None, None), "score_fit": score, "scenes_of": None, "draw_sheet": np.zeros((8, 8, 3), np.uint8),
    }  # fmt: skip
    for name, result in stand_ins.items():
        monkeypatch.setattr(fit_smpl, name, lambda *_, result=result: result)
    with pytest.raises(InputError, match="the WHAM track .* covers only 0.25 .*mean of 2 frames"):
        fit_smpl.main()
    paths = subject_paths(settings.subject.name)
    assert (paths.work / "import_refused.png").exists() and not paths.fit.exists()


def test_without_an_import_nothing_is_read(scene: Scene, body: BodyModel) -> None:
    settings = load_settings(ROOT / "params.yaml").fit_smpl
    assert settings.import_track is None
    assert fit_smpl.read_import(scene.clip, body, settings) is None


@pytest.mark.slow
def test_a_refined_import_comes_nearer_to_the_landmarks(tmp_path: Path, scene: Scene, body: BodyModel) -> None:
    """The start is the file's; elbows that it bends too little are bent by the landmarks."""
    true = body.to(dtype=torch.float64)
    betas = torch.zeros(true.num_betas, dtype=torch.float64)
    betas[:2] = torch.tensor([0.8, 1.0])
    pose = scene.pose.copy()
    pose[:, 17, 1] = -1.0  # left elbow, rad
    pixels, world = [], []
    for row in range(FRAMES):
        parts = [torch.tensor(part) for part in (scene.orient[row], pose[row], scene.pelvis[row] - true.rest(betas)[1][0].numpy())]
        posed = true.pose(betas, *parts)
        marks = true.landmarks(posed.vertices, posed.joints)
        pixels.append((marks[:, :2] / marks[:, 2:] * FOCAL + SIZE / 2).numpy())
        world.append((marks - marks[[23, 24]].mean(0)).numpy())
    info = scene.clip.info
    guess = observe(
        np.stack(pixels), np.ones((FRAMES, 33)), np.stack(world), np.array(info.times), focal_px=2 * FOCAL, focal_spread=0.03,
        principal=(info.cx, info.cy),
    )  # fmt: skip
    settings = settings_for(wham_file(tmp_path, scene, [0, 1, 2]))
    imported = fit_smpl.read_import(scene.clip, body, settings)
    fit_body = fit_body_of(body)
    seen, state = fit_smpl.refine_import(fit_body, guess, scene.clip, imported, settings)
    assert seen.focal_px == pytest.approx(FOCAL, rel=1e-4), "the file's camera is kept"
    bent = float(state.body_pose[1, 17].norm())
    assert float(imported.track.body_pose[1, 17].norm()) < 0.05 and 0.6 < bent < 1.5
    score = fit_smpl.score_fit(fit_body, seen, scene.clip.silhouettes, fit_smpl.spreads_of(settings), state)
    assert np.nanmean(score.reprojection_px) < 3
