"""The stage make_demo at a tiny size: what it writes is whole, and agrees with itself."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tasks.artifacts import frame_name
from tasks.make_demo import make_demo
from tasks.settings import MakeDemoSettings
from tasks.truth import Truth, read_truth

SETTINGS = MakeDemoSettings(
    seed=0, width=192, height=108, fps=5, seconds=2.0, second_seconds=1.0, novel_views=6, novel_pose_rows=2, novel_size=64, texture=128, crf=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo(SETTINGS, folder)
    return folder


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    truth = read_truth(folder / "truth")
    assert truth is not None
    return truth


def decoded(folder: Path) -> list[np.ndarray]:
    with av.open(str(folder / "clip.mp4")) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_clip_is_an_ordinary_video(folder: Path) -> None:
    capture = cv2.VideoCapture(str(folder / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 10 and capture.get(cv2.CAP_PROP_FPS) == 5
    with av.open(str(folder / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 192, 108)
    head = (folder / "clip.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # the index comes first
    assert len(decoded(folder)) == 10


def test_every_frame_has_its_true_mask(folder: Path, truth: Truth) -> None:
    assert sorted(path.name for path in (folder / "truth" / "masks").iterdir()) == [frame_name(k) for k in range(10)]
    for row in range(10):
        mask = truth.mask(row)
        assert mask.shape == (108, 192) and mask.dtype == np.uint8
        assert 0.02 < (mask > 127).mean() < 0.2


def test_masks_show_where_the_person_moves(folder: Path, truth: Truth) -> None:
    frames = np.stack(decoded(folder)).astype(float)
    empty = np.median(frames, axis=0)
    moving = np.abs(frames - empty).mean(axis=(1, 2, 3))
    assert moving.max() > 0.5
    never = np.max([truth.mask(row) for row in range(10)], axis=0) == 0
    far = never.copy()
    far[40:] = False  # the shadow moves too, on the ground
    assert np.abs(frames - empty)[:, far].mean() < 3.0  # levels of 255: sensor noise and compression only


def test_motions_are_kept_row_by_row(truth: Truth) -> None:
    assert truth.clip.body_pose.shape == (10, 23, 3) and truth.clip.joints.shape == (10, 24, 3)
    assert truth.second.transl.shape == (5, 3)
    assert np.isfinite(truth.clip.joints).all()


def test_true_joints_lie_in_true_masks(truth: Truth) -> None:
    for row in range(10):
        points = truth.clip.joints[row, [0, 1, 2, 3, 4, 5, 9, 12, 15]] @ truth.clip_w2c[:3, :3].T + truth.clip_w2c[:3, 3]
        assert (points[:, 2] > 3).all()
        pixels = points @ truth.clip_K.T
        columns, rows = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
        assert (truth.mask(row)[rows, columns] > 100).all()


@pytest.mark.parametrize(("kind", "count", "motion"), [("novel_views", 48, "clip"), ("novel_poses", 6, "second")])
def test_other_pictures_agree_with_their_cameras(truth: Truth, kind: str, count: int, motion: str) -> None:
    views = truth.views(kind)
    assert len(views) == count
    for view in views:
        assert view.image_rgba.shape == (64, 64, 4)
        assert not view.image_rgba[[0, -1], :, 3].any() and not view.image_rgba[:, [0, -1], 3].any()  # nobody is cut off
        joints = getattr(truth, motion).joints[view.row, [0, 3, 9, 4, 5]]
        points = joints @ view.w2c[:3, :3].T + view.w2c[:3, 3]
        pixels = points @ view.K.T
        columns, rows = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
        assert (view.image_rgba[rows, columns, 3] > 60).all()
        assert (view.image_rgba[view.image_rgba[..., 3] == 0] == 0).all()


def test_the_same_seed_films_the_same_clip(folder: Path, tmp_path: Path) -> None:
    make_demo(SETTINGS.model_copy(update={"novel_views": 1, "novel_pose_rows": 1}), tmp_path)
    assert (tmp_path / "clip.mp4").read_bytes() == (folder / "clip.mp4").read_bytes()
    mask = "truth/masks/000004.png"
    assert (tmp_path / mask).read_bytes() == (folder / mask).read_bytes()
