"""Evaluation on a small made-up clip, with an avatar that is the truth itself: what it scores, writes and survives."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from scipy.spatial.transform import Rotation

from model.body.body_model import BodyModel, load_body_model
from model.body.track import BodyTrack
from model.camera import Camera
from model.gaussians import Gaussians, Rendered
from model.pose import BodyPose, track_pose
from model.render.rasterize import rasterize
from tasks.artifacts import ClipInfo, FrameSplit, Segmentation, SubjectPaths, frame_name, write_image, write_json
from tasks.evaluate import collect_metrics, record_run, write_results
from tasks.measurement import SETS, STAGES, Inputs, Measured, measure
from tasks.pictures import SheetColumn, contact_sheet, cut_square, error_map, person_square, spread_evenly
from tasks.provenance import data_hash
from tasks.report_content import FROM_VIDEO, curves_of, report_of
from tasks.scoring import PSNR_CAP, SCORES, Viewer, mean_scores, pose_at, track_joints
from tasks.settings import Settings, load_settings
from tasks.showcase import find_stand, look_from, sample_motion
from tasks.truth import Truth, TruthMotion, TruthView, read_truth, write_truth, write_truth_views

PROJECT = Path(__file__).parents[2]
SIZE = 64  # px
NUM_FRAMES = 12
VIDEO_FRAMES = 23  # every other one is kept
# our world -> the truth's world: what a single camera cannot know
SCALE, SHIFT = 1.25, np.array([0.4, -0.2, 1.5])
TURN = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()


class PointAvatar(torch.nn.Module):
    """Some of a body's vertices as coloured Gaussians: it renders like an avatar, and can be the truth exactly."""

    device, pose_encoder = torch.device("cpu"), None

    def __init__(self, body: BodyModel, betas: torch.Tensor) -> None:
        super().__init__()
        self.body = body.subset(torch.arange(0, body.num_vertices, 9))
        self.register_buffer("betas", betas)
        low, high = self.body.v_template.amin(0), self.body.v_template.amax(0)
        self.colors = (self.body.v_template - low) / (high - low)

    def attributes(self) -> None:
        return None

    def attributes_in(self, pose: BodyPose, decoded: None) -> None:
        return None

    def render(self, pose: BodyPose, camera: Camera, background: torch.Tensor, *, backend: str, attributes: object) -> Rendered:
        points = self.body.pose(self.betas, pose.global_orient, pose.body_pose, pose.transl).vertices
        gaussians = Gaussians(points, torch.full((len(points),), 0.015), self.colors, torch.ones(len(points)))
        return rasterize(gaussians, camera, background, backend=backend)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open")


@pytest.fixture(scope="module")
def settings() -> Settings:
    loaded = load_settings(PROJECT / "params.yaml")
    evaluate = loaded.evaluate.model_copy(update={"turntable_views": 4})
    return loaded.model_copy(update={"evaluate": evaluate})


@pytest.fixture(scope="module")
def track(body: BodyModel) -> BodyTrack:
    generator = torch.Generator().manual_seed(0)
    swing = torch.linspace(0, 1, NUM_FRAMES)[:, None, None]
    body_pose = 0.25 * torch.randn(1, body.num_joints - 1, 3, generator=generator) * swing
    facing = torch.tensor([math.pi, 0.0, 0.0])  # upright before a camera whose y points down
    focal = 1.1 * SIZE
    return BodyTrack(
        betas=0.3 * torch.randn(body.num_betas, generator=generator),
        global_orient=facing.expand(NUM_FRAMES, 3).clone(),
        body_pose=body_pose,
        transl=torch.tensor([0.0, 0.1, 2.6]) + torch.linspace(0, 0.1, NUM_FRAMES)[:, None],
        K=torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]]),
        w2c=torch.eye(4),
        width=SIZE,
        height=SIZE,
        frame_ids=torch.arange(NUM_FRAMES),
        confidence=torch.ones(NUM_FRAMES),
        fps=12.0,
        body="open",
    )


@pytest.fixture(scope="module")
def avatar(body: BodyModel, track: BodyTrack) -> PointAvatar:
    return PointAvatar(body, track.betas)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, avatar: PointAvatar, track: BodyTrack) -> SubjectPaths:
    """Frames and masks drawn with the avatar itself, and stand-ins for what training leaves."""
    root = tmp_path_factory.mktemp("subject")
    paths = SubjectPaths(work=root / "work", results=root / "results")
    viewer = Viewer(avatar, backend="cpu")
    for row in range(NUM_FRAMES):
        seen = viewer.see(track_pose(track, row), track.camera)
        write_image(paths.frames / frame_name(row), np.round(seen.image * 255).astype(np.uint8))
        write_image(paths.masks / frame_name(row), np.where(seen.image.min(axis=2) < 1, 255, 0).astype(np.uint8))
    write_json(paths.fit / "fit.json", {"distrusted": {"7": "joints accelerate by 90 m/s^2"}, "reprojection_px": 2.5})
    for stage in STAGES:
        (paths.work / stage).mkdir()
        (paths.work / stage / "avatar.safetensors").write_bytes(b"weights")
    return paths


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory, avatar: PointAvatar, body: BodyModel, track: BodyTrack) -> Truth:
    """The same person in another world: larger, turned and moved, filmed there by two more cameras."""
    folder = tmp_path_factory.mktemp("truth")
    orient = Rotation.from_matrix(TURN @ Rotation.from_rotvec(track.global_orient.numpy()).as_matrix()).as_rotvec()
    joints = body.pose(track.betas, track.global_orient, track.body_pose, track.transl).joints.numpy()
    joints = SCALE * joints @ TURN.T + SHIFT
    rows = np.repeat(np.arange(NUM_FRAMES), 2)[:VIDEO_FRAMES]  # rows that were not kept are near misses, not used below
    motion = TruthMotion(orient[rows], track.body_pose.numpy()[rows], np.zeros((VIDEO_FRAMES, 3)), joints[rows])
    clip_w2c = np.eye(4)
    clip_w2c[:3, :3], clip_w2c[:3, 3] = TURN.T, -TURN.T @ SHIFT  # the clip's camera, at rest in our world
    write_truth(folder, motion, motion, track.K.numpy(), clip_w2c)
    stand, viewer = find_stand(track, body, 0), Viewer(avatar, backend="cpu")
    for kind in ("novel_views", "novel_poses"):
        views = []
        for row, angle in ((0, 0.7), (5, 2.5), (11, 4.0)):
            camera = look_from(stand, angle, SIZE)
            seen = viewer.see(track_pose(track, row), camera)
            rgba = np.dstack([seen.image, np.where(seen.image.min(axis=2) < 1, 1.0, 0.0)])
            w2c = camera.w2c.double().numpy()
            there = np.eye(4)
            there[:3, :3] = w2c[:3, :3] @ TURN.T
            there[:3, 3] = SCALE * w2c[:3, 3] - there[:3, :3] @ SHIFT
            views.append(TruthView(np.round(rgba * 255).astype(np.uint8), camera.K.double().numpy(), there, 2 * row, f"at {angle}"))
        write_truth_views(folder / kind, views)
    return read_truth(folder)


@pytest.fixture(scope="module")
def inputs(avatar: PointAvatar, body: BodyModel, track: BodyTrack) -> Inputs:
    """An ordinary video: no truth, no LPIPS."""
    clip = ClipInfo(
        source="clip.mp4", source_width=SIZE, source_height=SIZE, source_fps=25.0, source_frames=list(range(0, VIDEO_FRAMES, 2)),
        times=[i / 12 for i in range(NUM_FRAMES)], frame_ids=list(range(NUM_FRAMES)), fps=12.0, resolution=SIZE,
        crop=[0, 0, SIZE], focal_px=1.1 * SIZE, focal_known=False, cx=SIZE / 2, cy=SIZE / 2,
        boxes=[[0.0, 0.0, SIZE, SIZE]] * NUM_FRAMES, dropped={"7": "it does not decode"}, notes=[],
    )  # fmt: skip
    history = [{"step": 10 * i, "seconds": float(i), "loss": 1 / (i + 1), "psnr": 20.0 + i} for i in range(5)]
    return Inputs(
        clip=clip,
        segmentation=Segmentation("landmarks", "BlazePose", {"4": "the mask is empty"}),
        split=FrameSplit(train=[0, 1, 2, 5, 6, 7, 8, 10, 11], heldout=[3, 9]),
        fitted=track,
        refined=track,
        refitted=track,
        body=body,
        avatars={"stage1": avatar, "stage2": avatar},
        histories={"stage1": history, "stage2": history},
        truth=None,
        lpips=None,
    )


def evaluate(paths: SubjectPaths, inputs: Inputs, settings: Settings) -> tuple[Measured, dict]:
    measured = measure(paths, inputs, backend="cpu", turntable_views=settings.evaluate.turntable_views)
    return measured, collect_metrics(paths, inputs, measured, settings, started=0.0)


@pytest.fixture(scope="module")
def ordinary(paths: SubjectPaths, inputs: Inputs, settings: Settings) -> tuple[Measured, dict]:
    return evaluate(paths, inputs, settings)


@pytest.fixture(scope="module")
def generated(paths: SubjectPaths, inputs: Inputs, settings: Settings, truth: Truth) -> tuple[Measured, dict]:
    return evaluate(paths, dataclasses.replace(inputs, truth=truth), settings)


def test_an_ordinary_video_has_every_key_and_null_where_there_is_no_truth(ordinary: tuple[Measured, dict]) -> None:
    metrics = json.loads(json.dumps(ordinary[1], allow_nan=False))
    for stage in STAGES:
        assert set(metrics[stage]) == set(SETS)
        for name in SETS:
            assert tuple(metrics[stage][name]) == SCORES
            known = name.startswith("heldout")
            for key, value in metrics[stage][name].items():
                assert (value is not None) == (known and key != "lpips"), (stage, name, key)
    assert metrics["body"] == dict.fromkeys(("mpjpe_mm", "pa_mpjpe_mm", "mpjpe_refined_mm", "pa_mpjpe_refined_mm"))
    assert metrics["seconds"]["evaluate"] > 0
    assert "Left out" in metrics["protocol"]["lpips"] and metrics["protocol"]["pictures"]["heldout_frames"] == 2


def test_an_avatar_that_is_the_truth_scores_as_near_as_eight_bits_allow(
    generated: tuple[Measured, dict], track: BodyTrack, body: BodyModel
) -> None:
    """Pictures are stored in 8 bits, whose rounding alone gives 20 log10(255) + 10 log10(12) = 58.9 dB."""
    metrics = generated[1]
    for name in SETS:
        scores = metrics["stage1"][name]
        assert 55 < scores["psnr"] <= PSNR_CAP and scores["ssim"] > 0.999 and scores["psnr_mask"] > 50, (name, scores)
    assert metrics["body"]["pa_mpjpe_mm"] < 1e-2 and metrics["body"]["pa_mpjpe_refined_mm"] < 1e-2
    joints = track_joints(track, body)
    by_size = 1000 * (SCALE - 1) * np.linalg.norm(joints - joints[:, :1], axis=-1).mean()
    assert metrics["body"]["mpjpe_mm"] == pytest.approx(by_size, rel=1e-3), "MPJPE forgives the place, not the size"
    assert metrics["protocol"]["alignment"]["scale"] == pytest.approx(SCALE, abs=1e-4)
    assert metrics["protocol"]["alignment"]["mean_joint_error_mm"] < 1e-2


def test_a_shifted_body_scores_less_and_a_bent_elbow_is_a_joint_error(
    paths: SubjectPaths, inputs: Inputs, settings: Settings, truth: Truth, track: BodyTrack, body: BodyModel
) -> None:
    shifted = dataclasses.replace(track, transl=track.transl + torch.tensor([0.05, 0.0, 0.0]))
    bent_pose = track.body_pose.clone()
    bent_pose[:, body.joint_names.index("left_elbow") - 1, 1] += 0.5
    bent = dataclasses.replace(track, body_pose=bent_pose)
    _, metrics = evaluate(paths, dataclasses.replace(inputs, truth=truth, refined=bent, refitted=shifted), settings)
    scores = metrics["stage2"]
    assert scores["heldout_frames_refitted"]["psnr"] < 30 and scores["heldout_frames_refitted"]["mask_iou"] < 0.9
    assert scores["heldout_frames_refitted"]["psnr"] < scores["heldout_frames"]["psnr"] < 50, "an elbow is less than a body"
    assert scores["novel_views"]["psnr"] < 50
    assert metrics["body"]["pa_mpjpe_refined_mm"] > metrics["body"]["pa_mpjpe_mm"] + 1


def test_results_are_written_whole_and_the_report_holds_all_frames(
    paths: SubjectPaths, inputs: Inputs, settings: Settings, generated: tuple[Measured, dict]
) -> None:
    write_results(paths, inputs, *generated, settings)
    assert {path.name for path in paths.results.iterdir()} == {"metrics.json", "report.html", "pictures"}
    names = {path.name for path in (paths.results / "pictures").iterdir()}
    assert names == {"heldout_frames.png", "novel_views.png", "novel_poses.png", "turntable.png", "turntable"}
    assert len(list((paths.results / "pictures" / "turntable").glob("*.png"))) == 4
    html = (paths.results / "report.html").read_text()
    content = json.loads(re.search(r'id="content">(.*?)</script>', html, flags=re.DOTALL).group(1))
    assert [frame["frame_id"] for frame in content["frames"]] == list(range(NUM_FRAMES))
    assert content["frames"][4]["role"] == "flagged" and "mask is empty" in content["frames"][4]["note"]
    assert {frame["frame_id"] for frame in content["frames"] if frame["role"] == "heldout"} == {3, 9}
    assert set(content["doubts"]["doubted"]) == {"4", "7"}, "by the segmentation and by the fit"
    assert content["coverage"]["num_frames"] == 9 and len(content["poses"]) == 9
    assert content["left_out"] == ["video frame 7: it does not decode"]
    assert set(content["curves"]) >= {"Stage 1: loss", "Stage 2: loss"}


def test_neither_the_filming_nor_an_earlier_page_is_counted_from_video_to_the_report(
    paths: SubjectPaths, inputs: Inputs, settings: Settings, ordinary: tuple[Measured, dict]
) -> None:
    measured, metrics = ordinary
    pipeline = list(YAML(typ="safe", pure=True).load((PROJECT / "dvc.yaml").read_text())["stages"])
    assert pipeline == ["make_demo", *FROM_VIDEO, "build_page"]
    report = report_of(paths, inputs, measured, metrics | {"seconds": dict.fromkeys(pipeline, 60.0)}, settings)
    assert dict(report.tiles)["from video to this page"] == f"{len(FROM_VIDEO)}.0 min"
    assert list(report.seconds) == ["make_demo", *FROM_VIDEO]


def test_an_unreachable_server_does_not_fail_the_evaluation_and_the_run_waits(
    paths: SubjectPaths, inputs: Inputs, settings: Settings, ordinary: tuple[Measured, dict], capsys: pytest.CaptureFixture[str]
) -> None:
    away = settings.tracking.model_copy(update={"enabled": True, "uri": "http://127.0.0.1:9"})
    settings = settings.model_copy(update={"tracking": away})
    measured, metrics = ordinary
    write_results(paths, inputs, measured, metrics, settings)
    record_run(paths, inputs, metrics, settings, started=0.0)
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: MLflow")]) == 1
    (waiting,) = (paths.work / "tracking_pending").iterdir()
    record = json.loads((waiting / "run.json").read_text())
    assert record["tags"]["segmenter"] == "landmarks" and len(record["tags"]["data_hash"]) == 64
    assert record["metrics"]["stage1/heldout_frames/psnr"] == metrics["stage1"]["heldout_frames"]["psnr"]
    assert record["curves"]["stage2/training/loss"][1] == [10, 0.5]
    kept = {path.relative_to(waiting / "artifacts").as_posix() for path in (waiting / "artifacts").rglob("*") if path.is_file()}
    assert {"report.html", "pictures/heldout_frames.png", "checkpoints/stage1/avatar.safetensors"} <= kept


def test_a_set_without_pictures_has_no_figures_and_a_missing_figure_does_not_count() -> None:
    assert mean_scores([]) == dict.fromkeys(SCORES)
    rows = [{"psnr": 20.0, "psnr_mask": None, "ssim": 0.5, "lpips": None, "mask_iou": 1.0}] * 2
    rows[1] = rows[1] | {"psnr": 30.0, "psnr_mask": 10.0}
    assert mean_scores(rows) == {"psnr": 25.0, "psnr_mask": 10.0, "ssim": 0.5, "lpips": None, "mask_iou": 1.0}


def test_the_data_hash_follows_names_and_bytes_but_not_the_place(tmp_path: Path) -> None:
    hashes = {}
    for name, content in (("one", b"a"), ("copy", b"a"), ("other", b"b")):
        (tmp_path / name / "frames").mkdir(parents=True)
        (tmp_path / name / "frames" / "000000.png").write_bytes(content)
        hashes[name] = data_hash(tmp_path / name / "frames")
    assert hashes["one"] == hashes["copy"] != hashes["other"]
    (tmp_path / "copy/frames/000000.png").rename(tmp_path / "copy/frames/000001.png")
    assert data_hash(tmp_path / "copy" / "frames") != hashes["one"]


def test_curves_leave_out_what_is_no_number() -> None:
    history = [{"step": 0, "seconds": 0.1, "loss": 1.0}, {"step": 10, "seconds": 0.2, "loss": math.nan, "psnr": 20.0}]
    assert curves_of(history) == {"loss": [(0, 1.0)], "psnr": [(10, 20.0)]}


def test_a_pose_between_two_rows_turns_and_moves_evenly(track: BodyTrack) -> None:
    times = np.arange(NUM_FRAMES) * 2.0
    exact, between = pose_at(track, times, 6.0), pose_at(track, times, 7.0)
    torch.testing.assert_close(exact.body_pose, track.body_pose[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(between.transl, (track.transl[3] + track.transl[4]) / 2)
    # joints here turn about one axis each, where halfway is the mean
    torch.testing.assert_close(between.body_pose, (track.body_pose[3] + track.body_pose[4]) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(pose_at(track, times, 99.0).transl, track.transl[-1])


def test_the_built_in_motion_moves_on_one_floor_in_front_of_the_camera(track: BodyTrack, body: BodyModel) -> None:
    stand = find_stand(track, body, 0)
    motion = sample_motion(track, body, stand)
    posed = body.pose(track.betas, motion.global_orient, motion.body_pose, motion.transl)
    joints = posed.joints
    assert (posed.vertices @ stand.up).amin(1).std() < 1e-4, "the lowest foot stays on the floor"
    wrist = joints[:, body.joint_names.index("left_wrist")] @ stand.up
    assert wrist.max() - wrist.min() > 0.5, "an arm is raised"
    left, right = (joints[0, body.joint_names.index(f"{side}_shoulder")] for side in ("left", "right"))
    camera = look_from(stand, 0.0, SIZE)
    x = camera.project(torch.stack([left, right]))[:, 0]
    assert x[0] > x[1], "somebody who faces us has the left shoulder on our right"


def test_a_sheet_has_one_column_a_frame_and_cuts_to_the_person() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 50:60] = 255
    x0, y0, side = person_square(mask)
    assert x0 + side > 60, "the square may reach over the border"
    assert cut_square(picture, (x0, y0, side), 32).shape == (32, 32, 3)
    sheet = contact_sheet(["a", "b"], [SheetColumn("one", [picture, picture], mask)] * 3)
    assert sheet.shape == (26 + 2 * 256, 104 + 3 * 256, 3)
    assert spread_evenly(20, 6) == [0, 4, 8, 11, 15, 19] and spread_evenly(3, 6) == [0, 1, 2] and spread_evenly(0, 6) == []


def test_an_error_map_is_black_where_nothing_is_off_and_brighter_where_more_is() -> None:
    target = np.ones((1, 3, 3), np.float32)
    image = target - np.array([0.0, 0.1, 0.25], np.float32)[None, :, None]
    brightness = error_map(image, target).sum(axis=2)[0]
    assert brightness[0] < 10 and brightness[0] < brightness[1] < brightness[2]
