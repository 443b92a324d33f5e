"""Claims about the published protocols: what is compared with what, and that the truth itself scores as the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.body.track import BodyTrack
from model.camera import Camera
from tasks.artifacts import FrameSplit, SubjectPaths
from tasks.datasets import protocols
from tasks.datasets.frames import extract_dataset
from tasks.datasets.protocols import camera_of, measure_protocols, on_background, protocol_lines, target_of
from tasks.scoring import PSNR_CAP, Seen
from tasks.settings import load_settings
from tests.datasets import samples
from tests.datasets.samples import SIDE, picture, straight_mask

ROOT = Path(__file__).parents[2]


def track_for(resolution: int, K: np.ndarray, rows: int) -> BodyTrack:
    return BodyTrack(
        torch.zeros(2), torch.zeros(rows, 3), torch.zeros(rows, 23, 3), torch.zeros(rows, 3), torch.from_numpy(K).float(), torch.eye(4),
        resolution, resolution, torch.arange(rows), torch.ones(rows), 10.0, "open",
    )  # fmt: skip


def test_each_protocol_has_its_size_its_background_and_its_mask() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[4:12, 5:11] = 255
    mask[12, 5:11] = 100
    image = np.full((20, 20, 3), 51, np.uint8)
    native, black, white = (target_of(name, image, mask) for name in ("native_white", "540_black", "540_white"))
    assert native.image.shape == (20, 20, 3) and black.image.shape == white.image.shape == (10, 10, 3)
    assert np.allclose(native.image[5, 6], 0.2) and np.allclose(native.image[0, 0], 1) and np.allclose(native.image[12, 6], 1)
    assert np.allclose(black.image[3, 3], 0.2) and np.allclose(black.image[0, 0], 0) and set(np.unique(black.mask)) == {0.0, 1.0}
    assert np.allclose(white.image[0, 0], 1) and 0.2 < white.image[3, 2, 0] < 1, "the mask's edge stays soft"
    assert white.mask[3, 2] == pytest.approx(0.5)


def test_the_same_render_on_black_lacks_just_the_white_that_shone_through() -> None:
    alpha = np.array([[0.0, 0.25, 1.0]], np.float32)
    colour = np.float32(0.6)
    on_white = (alpha * colour + (1 - alpha))[..., None].repeat(3, 2)
    seen = on_background(Seen(on_white, alpha), "540_black")
    assert np.allclose(seen.image[..., 0], alpha * colour, atol=1e-6)
    assert on_background(Seen(on_white, alpha), "540_white").image is on_white


def test_a_protocols_camera_sees_the_datasets_own_picture(tmp_path: Path) -> None:
    paths = SubjectPaths(work=tmp_path / "work", results=tmp_path / "results")
    settings = load_settings(ROOT / "params.yaml").extract_frames.model_copy(update={"resolution": 64})
    clip = extract_dataset(paths, samples.neuman(tmp_path, 25), settings)
    track = track_for(clip.resolution, clip.K, len(clip.frame_ids))
    camera = camera_of("native_white", track, clip)
    assert (camera.width, camera.height) == (SIDE, 72)
    assert np.allclose(camera.K.numpy(), [[120, 0, 48], [0, 120, 36], [0, 0, 1]], atol=1e-3)
    half = camera_of("540_black", track, clip)
    assert (half.width, half.height) == (48, 36) and half.K[0, 0] == pytest.approx(60, abs=1e-3)


class TrueViewer:
    """Renders what the dataset shows, at any size: the perfect avatar."""

    def __init__(self, avatar: object, *, backend: str) -> None:
        self.darken = avatar

    def see(self, pose: object, camera: Camera) -> Seen:
        frame = int(pose.transl[0])
        mask = straight_mask(frame)[SIDE - 72 :]
        image = picture(mask).astype(np.float32) / 255 * mask[..., None] + (1 - mask[..., None])
        return Seen(np.clip(image - self.darken * mask[..., None], 0, 1).astype(np.float32), mask.astype(np.float32))


def test_held_out_frames_are_scored_with_both_of_their_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = SubjectPaths(work=tmp_path / "work", results=tmp_path / "results")
    settings = load_settings(ROOT / "params.yaml").extract_frames.model_copy(update={"resolution": 64})
    clip = extract_dataset(paths, samples.neuman(tmp_path, 25), settings)
    track = track_for(clip.resolution, clip.K, len(clip.frame_ids))
    refitted = replace(track, transl=torch.tensor([[float(source), 0, 0] for source in clip.source_frames]))
    monkeypatch.setattr(protocols, "Viewer", TrueViewer)
    split = FrameSplit(clip.dataset["train"], clip.dataset["heldout"])
    inputs = SimpleNamespace(clip=clip, split=split, avatars={"stage1": 0.0, "stage2": 0.1}, refined=track, refitted=refitted, lpips=None)
    measured = measure_protocols(inputs, backend="cpu")
    assert measured["dataset"]["frames"] == len(split.heldout) == 2 and "NeuMan" in measured["split"]
    assert measured["native_white"]["stage1"]["refitted"]["psnr"] == PSNR_CAP
    assert measured["native_white"]["stage1"]["refitted"]["mask_iou"] == 1.0
    assert measured["native_white"]["stage2"]["refitted"]["psnr_mask"] == pytest.approx(20, abs=0.01), "a tenth too dark"
    assert measured["native_white"]["stage1"]["stored"]["psnr"] < PSNR_CAP
    assert "540_black" not in measured, "half size belongs to People-Snapshot"
    assert any("native_white, stage1, poses refitted: PSNR 100" in line for line in protocol_lines(measured))
    assert measure_protocols(SimpleNamespace(clip=replace(clip, dataset=None), split=split), backend="cpu") is None


def test_lpips_is_given_values_as_the_publications_codes_do() -> None:
    """Theirs feeds 0..1 where ours scales to -1..1 first, so (x + 1) / 2 must arrive."""
    given = []
    target = protocols.Target(np.full((32, 32, 3), 0.5, np.float32), np.ones((32, 32), np.float32))
    protocols._score(Seen(np.zeros((32, 32, 3), np.float32), np.ones((32, 32), np.float32)), target, lambda *pictures: given.extend(pictures) or torch.tensor(0.0))
    assert float(given[0].mean()) == 0.5 and float(given[1].mean()) == 0.75
