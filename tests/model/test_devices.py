"""Claims about where an avatar is trained: every step runs on a device that refuses tensors of another, as a GPU does."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.avatar import Avatar, PoseEncoderOptions
from model.avatar_file import load_avatar, save_avatar, with_pose_encoder, with_pose_shapes
from model.checkpoint import load_checkpoint, save_checkpoint
from model.pose import track_pose
from model.pose_refinement import PoseCorrection
from model.pose_shapes import PoseShapeOptions
from model.refitting import keep_what_helps, refine_poses
from model.render import rasterize as interface
from model.render.rasterize import choose_device
from model.training import Training, TrainingOptions, run_training, settle_statistics
from model.unseen import fill_unseen, point_visibility
from model.uv.position_maps import bake_position_maps
from tasks import training_run
from tasks.errors import InputError
from tasks.scoring import Viewer


def _helper(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


FAKE_PACKAGES, second_device = _helper("cuda_packages").FAKE_PACKAGES, _helper("second_device").second_device


@pytest.fixture(params=list(FAKE_PACKAGES))
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device apart from the CPU, where one of the CUDA backends draws."""
    monkeypatch.setattr(interface, "choose_backend", lambda wanted, device: "cpu" if torch.device(device).type == "cpu" else request.param)
    packages = SimpleNamespace(import_module=FAKE_PACKAGES.__getitem__)
    monkeypatch.setattr(interface, "importlib", packages)
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda parameter: None)  # it knows real devices only
    with second_device() as there:
        yield there


def train(avatar: Avatar, clip, options: TrainingOptions, device: torch.device | str, backend: str = "auto") -> Training:
    training = Training(avatar.to(device), PoseCorrection(clip.track), clip.frames, options, lpips=None, backend=backend, seed=0)
    run_training(training, on_step=lambda _: None, stop_asked=lambda: False)
    return training


def test_the_second_device_refuses_what_a_gpu_refuses() -> None:
    with second_device() as there:
        near, far = torch.ones(3), torch.ones(3, device=there)
        assert (far.device.type, (far + 1).device, far.cpu().device.type) == ("lazy", far.device, "cpu")
        for mix in (lambda: near * far, lambda: torch.stack([near, far]), lambda: near[far.long()], lambda: far.numpy()):
            with pytest.raises((RuntimeError, TypeError)):
                mix()
        far[torch.tensor([1])] = 4.0
        assert (far * torch.tensor(2.0)).tolist() == [2.0, 8.0, 2.0]


def test_both_stages_train_apart_from_the_cpu_and_come_to_the_same_losses(avatar: Avatar, clip, options: TrainingOptions, device) -> None:
    options = dataclasses.replace(options, steps=2, pose_start=0.0)
    twin = copy.deepcopy(avatar)
    found, wanted = train(avatar, clip, options, device), train(twin, clip, options, "cpu")
    assert found.correction.joints.abs().max() > 0
    # float32 in another order of summation, grown by Adam's division by small gradients
    assert np.allclose([loss for loss, _ in found.recent], [loss for loss, _ in wanted.recent], rtol=2e-3)

    maps = bake_position_maps(twin.atlas, track_pose(clip.track))
    frames = dataclasses.replace(clip.frames, position_maps=maps)
    rates = dataclasses.replace(options.rates, pose_encoder=5e-3, poses=None)
    second = dataclasses.replace(options, steps=1, rates=rates)
    grow = {
        "encoder": lambda stage1: with_pose_encoder(stage1, PoseEncoderOptions(base_width=4, depth=2, reach=0.3)),
        "shapes": lambda stage1: with_pose_shapes(stage1, PoseShapeOptions(keys=3, reach=0.3, fade=0.01)),
    }
    for name, design in grow.items():
        losses = []
        for stage1, place in ((avatar, device), (twin, "cpu")):
            torch.manual_seed(1)
            stage1.known_poses = clip.track.body_pose.to(place)
            losses.append([loss for loss, _ in train(design(stage1), dataclasses.replace(clip, frames=frames), second, place).recent])
        assert np.allclose(*losses, rtol=5e-3), name


def test_what_follows_training_runs_apart_from_the_cpu_too(trained: Avatar, clip, options: TrainingOptions, device, tmp_path: Path) -> None:
    avatar = copy.deepcopy(trained).to(device).requires_grad_(True)
    settle_statistics(avatar)
    correction = PoseCorrection(clip.track)
    with torch.no_grad():
        correction.joints[3] = 0.5
    keep_what_helps(avatar, correction, clip.frames, backend="auto")
    correction.spread(clip.frames.rows)
    assert float(correction.joints.detach().abs().max()) == 0
    refined = correction.corrected()
    fill_unseen(avatar, point_visibility(avatar, refined, clip.frames.rows[:1], refined.camera, backend="auto"))
    refine_poses(avatar.requires_grad_(False), refined, dataclasses.replace(clip.frames, rows=clip.frames.rows[:1]), steps=1, backend="auto")
    picture = Viewer(avatar, backend="auto").see(track_pose(clip.track, 1), clip.track.camera).image
    save_avatar(tmp_path / "avatar.safetensors", avatar)
    again = Viewer(load_avatar(tmp_path / "avatar.safetensors"), backend="cpu").see(track_pose(clip.track, 1), clip.track.camera).image
    assert np.abs(picture - again).max() < 2e-3
    assert avatar.bake().albedo.device == device


def test_a_checkpoint_moves_between_devices(avatar: Avatar, clip, options: TrainingOptions, device, tmp_path: Path) -> None:
    options = dataclasses.replace(options, steps=1)
    twin = copy.deepcopy(avatar)
    there = train(avatar, clip, options, device)
    save_checkpoint(tmp_path, there.checkpoint("key"))
    here = Training(twin, PoseCorrection(clip.track), clip.frames, dataclasses.replace(options, steps=2), lpips=None, backend="cpu", seed=1)
    here.resume(load_checkpoint(tmp_path))
    run_training(here, on_step=lambda _: None, stop_asked=lambda: False)
    assert here.step_number == 2
    there.resume(load_checkpoint(tmp_path))
    there.step()
    assert here.recent[-1][0] == pytest.approx(there.recent[-1][0], rel=2e-3)


# ------------------------------------------------------------------------------------------------------ the choice


def nothing_is_installed(name: str):
    raise ImportError(f"No module named {name!r}")


def test_without_a_gpu_auto_is_the_cpu_and_a_cuda_backend_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match=r"render\.backend: .*'gsplat' needs a CUDA GPU.*use 'auto' or 'cpu'"):
        training_run.find_device("gsplat")


def test_with_a_gpu_auto_takes_it_where_a_rasteriser_is_and_says_so_where_none_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(interface, "importlib", SimpleNamespace(import_module=FAKE_PACKAGES.__getitem__))
    assert choose_device("auto").type == choose_device("gsplat").type == "cuda" and choose_device("cpu").type == "cpu"
    monkeypatch.setattr(interface, "importlib", SimpleNamespace(import_module=nothing_is_installed))
    assert training_run.find_device("auto").type == "cpu"
    assert "pip install gsplat" in capsys.readouterr().out
    with pytest.raises(InputError, match="pip install gsplat"):
        training_run.find_device("gsplat")


def test_a_package_that_imports_and_cannot_draw_is_noticed_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "choose_device", lambda backend: torch.device("cuda"))
    monkeypatch.setattr(training_run, "choose_backend", lambda backend, device: "gsplat")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch, "ones", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no kernel image")))
    with pytest.raises(InputError, match=r"gsplat imports but cannot draw on this GPU: RuntimeError: no kernel image(.|\n)*render\.backend: cpu"):
        training_run.find_device("gsplat")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", list(FAKE_PACKAGES))
def test_twenty_steps_on_a_gpu_come_to_the_losses_of_the_cpu(avatar: Avatar, clip, options: TrainingOptions, backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    options = dataclasses.replace(options, steps=20)
    twin = copy.deepcopy(avatar)
    found, wanted = train(avatar, clip, options, "cuda", backend), train(twin, clip, options, "cpu", "cpu")
    # the packages cut footprints farther out and clamp alpha differently: about one grey level in a picture
    for one, other in zip(found.history, wanted.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.03)
