"""Claims about hands and face in the stage: what reaches the track, what stays relaxed and is said, and that open bodies stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tests.model.smplx_sample import write_smplx

from model.body.body_model import BodyModel, load_body_model
from model.body.track import BodyTrack
from model.fitting.appearance import as_track
from model.fitting.hands import SIDES, PartLandmarks
from model.fitting.observations import FitState
from model.fitting.parts import FACE_POINTS, parts_of
from tasks import hands_and_face
from tasks.artifacts import ClipInfo
from tasks.settings import BodySettings, HandsAndFaceSection, load_settings

FRAMES, SIZE, FOCAL, ZOOM = 10, 128, 240.0, 4
FLIP, AWAY = torch.tensor([1.0, -1, -1]), torch.tensor([0, 0, 3.8])
PARAMS = Path(__file__).parents[2] / "params.yaml"
FIST = 0.9  # rad that every joint of the fingers is bent beyond the relaxed hand


@pytest.fixture
def section() -> HandsAndFaceSection:
    return load_settings(PARAMS).fit_smpl.hands_and_face.model_copy(update={"min_palm": 18.0, "min_face": 18.0, "num_expressions": 2})


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> BodySettings:
    return BodySettings(model=str(write_smplx(tmp_path_factory.mktemp("body"))), uv=None)


def clip_info(source: str = "absent.mp4", *, traced: bool = True) -> ClipInfo:
    side = SIZE * ZOOM
    return ClipInfo(
        source=source, source_width=side + 60, source_height=side, source_fps=25.0, source_frames=list(range(FRAMES)),
        times=[0.1 * k for k in range(FRAMES)], frame_ids=list(range(FRAMES)), fps=10.0, resolution=SIZE, crop=[20, 0, side],
        focal_px=FOCAL, focal_known=False, cx=SIZE / 2, cy=SIZE / 2, boxes=[[0, 0, SIZE, SIZE]] * FRAMES, dropped={}, notes=[],
        to_filmed=[[[1, 0, 7], [0, 1, -3], [0, 0, 1]]] * FRAMES if traced else None,
    )  # fmt: skip


def standing(model: BodyModel) -> BodyTrack:
    """The body at rest in front of the camera, upright: rest places times FLIP, 3.8 m away."""
    zeros = torch.zeros(FRAMES, 3)
    pelvis = model.rest(torch.zeros(model.num_betas, dtype=model.dtype))[1][0].float()
    return BodyTrack(
        betas=torch.zeros(model.num_betas), global_orient=zeros + torch.tensor([np.pi, 0, 0]), body_pose=torch.zeros(FRAMES, model.num_joints - 1, 3),
        transl=zeros + AWAY + (FLIP - 1) * pelvis, K=torch.tensor([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1.0]]), w2c=torch.eye(4),
        width=SIZE, height=SIZE, frame_ids=torch.arange(FRAMES), confidence=torch.ones(FRAMES), fps=10.0, body=model.name,
    )  # fmt: skip


class Seer:
    """In the place of the networks: the true points of fists and of an open mouth, in the pictures that it is shown."""

    def __init__(self, model: BodyModel, scale: float, corner: tuple[float, float], blind: tuple[str, ...] = ()) -> None:
        self.blind, self.shapes, self.points = blind, set(), {}
        joints = model.rest(torch.zeros(model.num_betas, dtype=torch.float64))[1]
        for part in parts_of(model, torch.zeros(model.num_betas)):
            solid = (part.place(truth_of(part)) + joints[part.root]) * FLIP + AWAY
            pixels = (FOCAL * solid[:, :2] / solid[:, 2:] + SIZE / 2).numpy() * scale + np.array(corner)
            self.points[part.name] = pixels

    def hand(self, image: np.ndarray, points: np.ndarray, side: str, palm_px: float, *, min_presence: float) -> PartLandmarks | None:
        assert np.allclose(points[list(SIDES[side])], points[SIDES[side][0]])
        return self._seen(f"{side} hand", image, self.points[f"{side} hand"])

    def face(self, image: np.ndarray, points: np.ndarray, *, min_presence: float) -> PartLandmarks | None:
        whole = np.zeros((468, 2))
        whole[list(FACE_POINTS)] = self.points["face"]
        return self._seen("face", image, whole)

    def _seen(self, name: str, image: np.ndarray, points: np.ndarray) -> PartLandmarks | None:
        self.shapes.add(image.shape[:2])
        return None if name in self.blind else PartLandmarks(points, 1.0)


def truth_of(part) -> torch.Tensor:
    values = part.usual.clone()
    if part.name == "face":
        values[0] = 0.3
    else:
        values[:12] += FIST
    return values


def run(monkeypatch: pytest.MonkeyPatch, body: BodySettings, section: HandsAndFaceSection, clip: ClipInfo, *, scale: float, corner=(0.0, 0.0), blind=()):
    model = load_body_model(body.model)
    seer = Seer(load_body_model(body.model, num_expressions=2, dtype=torch.float64), scale, corner, blind)
    monkeypatch.setattr(hands_and_face, "HandAndFaceReader", lambda: seer)
    images, points = np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8), np.full((FRAMES, 33, 2), SIZE / 2)
    track = standing(model)
    return hands_and_face.fit_hands_and_face(track, model, body, clip, images, points, np.ones(FRAMES), section), track, model, seer


def test_fingers_and_jaw_reach_the_track_and_the_body_does_not_move(monkeypatch, body, section):
    small = section.model_copy(update={"min_palm": 4.0, "min_face": 4.0})
    done, before, model, _ = run(monkeypatch, body, small, clip_info(), scale=1.0)
    bend = lambda name: float(done.track.body_pose[:, model.joint_names.index(name) - 1].norm(dim=-1).median())  # noqa: E731
    assert bend("left_index2") > 0.9 and bend("right_ring2") > 0.9 and 0.15 < bend("jaw") < 0.4
    assert torch.equal(done.track.body_pose[:, :21], before.body_pose[:, :21]) and torch.equal(done.track.transl, before.transl)
    assert done.track.expression.shape == (FRAMES, 2)
    assert set(done.record) == {"left hand", "right hand", "face"} and all("fitted" in note for note in done.notes)


def test_hands_too_small_stay_relaxed_and_it_is_said(monkeypatch, body, section):
    done, _, model, seer = run(monkeypatch, body, section, clip_info(), scale=1.0)
    assert any(note.startswith("left hand left relaxed: it is 7 px of the video, expected 18") for note in done.notes) and not seer.shapes
    relaxed = done.track.body_pose[:, model.joint_names.index("left_index2") - 1]
    assert 0.2 < float(relaxed[0].norm()) < 0.7 and torch.equal(relaxed, relaxed[:1].expand_as(relaxed))
    assert float(done.track.body_pose[:, model.joint_names.index("jaw") - 1].abs().max()) == 0 and done.track.expression is None


def test_a_hand_that_is_never_seen_stays_relaxed_beside_one_that_is_fitted(monkeypatch, body, section):
    small = section.model_copy(update={"min_palm": 4.0, "min_face": 4.0})
    done, *_ = run(monkeypatch, body, small, clip_info(), scale=1.0, blind=("right hand",))
    assert "right hand left relaxed: it is seen in 0 of 10 frames" in done.notes and done.record["left hand"]["seen"] == FRAMES


def test_the_videos_own_frames_are_looked_at_where_they_hold_more(monkeypatch, body, section, tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (SIZE * ZOOM + 60, SIZE * ZOOM))
    for _ in range(FRAMES):
        writer.write(np.full((SIZE * ZOOM, SIZE * ZOOM + 60, 3), 90, np.uint8))
    writer.release()
    done, *_, seer = run(monkeypatch, body, section, clip_info(str(path)), scale=ZOOM, corner=(27.0, -3.0))
    assert seer.shapes == {(SIZE * ZOOM, SIZE * ZOOM + 60)} and all("fitted" in note for note in done.notes)
    assert done.record["left hand"]["points_off_px"] < 1  # in frames' own px: the way there and back is one
    tiny = section.model_copy(update={"min_palm": 4.0, "min_face": 4.0})
    *_, seer = run(monkeypatch, body, tiny, clip_info(str(path), traced=False), scale=1.0)
    assert seer.shapes == {(SIZE, SIZE)}  # steadied or straightened frames are not the video's own


def test_an_open_body_comes_back_as_it_is(section):
    model = load_body_model("open")
    track = standing(model)
    done = hands_and_face.fit_hands_and_face(
        track, model, BodySettings(model="open", uv=None), clip_info(), np.zeros((FRAMES, 8, 8, 3), np.uint8), np.zeros((FRAMES, 33, 2)),
        np.ones(FRAMES), section,
    )  # fmt: skip
    assert done.track is track and not done.record and not done.notes


def test_fingers_outlast_the_refinement_of_the_body(body):
    model = load_body_model(body.model)
    pose = torch.rand(FRAMES, model.num_joints - 1, 3)
    fitted = replace(standing(model), body_pose=pose, expression=torch.rand(FRAMES, 2))
    refined = as_track(fitted, SimpleNamespace(focal_px=500.0), at_rest(model))
    assert torch.equal(refined.body_pose[:, 21:], pose[:, 21:]) and not refined.body_pose[:, :21].any()
    assert torch.equal(refined.expression, fitted.expression)
    open_model = load_body_model("open")
    assert not as_track(standing(open_model), SimpleNamespace(focal_px=500.0), at_rest(open_model)).body_pose.any()


def at_rest(model) -> FitState:
    """A fit of a body that does not move at all."""
    zeros = lambda *shape: torch.zeros(*shape, dtype=torch.float64)  # noqa: E731
    return FitState(
        betas=zeros(model.num_betas), root=torch.eye(3, dtype=torch.float64).expand(FRAMES, 3, 3), transl=zeros(FRAMES, 3),
        body_pose=zeros(FRAMES, model.num_joints - 1, 3), offsets=zeros(33, 3), log_focal=zeros(()), tilt=zeros(2), camera_height=zeros(()), lean=zeros(3),
    )  # fmt: skip
