"""Claims about the training stages: what they write, how they stop and go on. They run on the tiny clip of conftest.py."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from model.avatar_file import load_avatar
from model.checkpoint import load_checkpoint
from model.uv.atlas import BodySurface, UvAtlas, bake_atlas
from tasks import bake_pose_maps, bake_uv_maps, train_stage1, train_stage2, training_run
from tasks.artifacts import (
    ClipInfo,
    SubjectPaths,
    frame_name,
    read_npz,
    read_track,
    subject_paths,
    write_image,
    write_json,
    write_npz,
    write_track,
)
from tasks.errors import InputError, Interrupted
from tasks.options import options_from, section_of
from tasks.settings import load_settings

PARAMS = Path(__file__).parents[2] / "params.yaml"


ENCODER = {"base_width": 4, "depth": 2, "reach": 0.35}


def write_params(folder: Path, *, stage1_steps: int = 12, stage2: dict | None = None, **network) -> None:
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(PARAMS.read_text())
    quick = values["presets"]["quick"]
    quick["train_stage1"]["network"] |= {"features": 4, "width": 16, "layers": 2} | network
    quick["train_stage1"]["training"] |= {"steps": stage1_steps, "max_minutes": None, "checkpoint_every": 4}
    quick["train_stage2"]["training"] |= {"steps": 6, "max_minutes": None}
    quick["train_stage2"] |= stage2 or {}
    values["split"]["heldout_every"] = 4
    with open(folder / "params.yaml", "w") as file:
        yaml.dump(values, file)


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip, atlas: UvAtlas) -> SubjectPaths:
    """The tiny clip as the stages before training would have left it."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    paths = subject_paths("demo")
    count, size = clip.track.num_frames, clip.track.width
    for k in range(count):
        write_image(paths.frames / frame_name(k), clip.frames.images[k])
        write_image(paths.masks / frame_name(k), clip.frames.masks[k])
    info = ClipInfo(
        source="tiny", source_width=size, source_height=size, source_fps=10.0, source_frames=list(range(count)),
        times=[k / 10 for k in range(count)], frame_ids=list(range(count)), fps=10.0, resolution=size, crop=[0.0, 0.0, float(size)],
        focal_px=100.0, focal_known=True, cx=32.0, cy=32.0, boxes=[[0.0, 0.0, 64.0, 64.0]] * count, dropped={}, notes=[],
    )  # fmt: skip
    write_json(paths.frames / "clip.json", dataclasses.asdict(info))
    write_json(paths.masks / "segmentation.json", {"method": "landmarks", "model": "none", "flagged": {"5": "empty"}})
    write_track(paths.fit_refined / "track.npz", clip.track)
    write_npz(paths.uv / "atlas.npz", **atlas.arrays())
    return paths


@pytest.mark.parametrize("published", [False, True], ids=["pose shapes", "pose encoder"])
def test_the_training_stages_write_what_they_promise(subject: SubjectPaths, published: bool) -> None:
    if published:
        write_params(Path(), stage2={"pose_encoder": ENCODER, "pose_shapes": None})
    train_stage1.main()
    bake_pose_maps.main()
    train_stage2.main()
    first, second = (load_avatar(p / "avatar.safetensors") for p in (subject.stage1, subject.stage2))
    assert not first.follows_pose and second.follows_pose and (second.pose_encoder is not None) == published
    assert len(first.known_poses) == 5  # eight frames, two held out, one flagged
    assert read_track(subject.stage1 / "track.npz", made_by="train_stage1").num_frames == 8
    assert read_npz(subject.pose_maps / "pose_maps.npz", made_by="bake_pose_maps")["maps"].shape == (8, 3, 16, 16)
    for stage in (subject.stage1, subject.stage2):
        history = json.loads((stage / "history.json").read_text())
        assert all(np.isfinite(list(entry.values())).all() for entry in history)
    assert {"train_stage1", "train_stage2"} <= {p.stem for p in subject.seconds.glob("*.json")}
    assert not (subject.checkpoints / "stage1").exists()


@pytest.mark.parametrize("encoder", [ENCODER, None], ids=["both", "neither"])
def test_stage_2_wants_one_design(subject: SubjectPaths, encoder: dict | None) -> None:
    train_stage1.main()
    bake_pose_maps.main()
    write_params(Path(), stage2={"pose_encoder": encoder} | ({} if encoder else {"pose_shapes": None}))
    with pytest.raises(InputError, match="either pose_encoder or pose_shapes"):
        train_stage2.main()


def test_frames_held_out_and_flagged_are_not_trained_on(subject: SubjectPaths) -> None:
    _, _, frames = train_stage1.read_inputs(subject, load_settings())
    assert frames.rows.tolist() == [0, 1, 3, 4, 7]


def test_an_interrupt_leaves_a_checkpoint_and_the_next_run_equals_an_uninterrupted_one(
    subject: SubjectPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    train_stage1.main()
    wanted = load_avatar(subject.stage1 / "avatar.safetensors").state_dict()
    before = (subject.stage1 / "avatar.safetensors").read_bytes()

    step = training_run.Training.step

    def step_then_ctrl_c(self) -> None:
        step(self)
        if self.step_number == 6:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training_run.Training, "step", step_then_ctrl_c)
    with pytest.raises(Interrupted, match="step 6"):
        train_stage1.main()
    assert load_checkpoint(subject.checkpoints / "stage1").record["step"] == 6
    assert (subject.stage1 / "avatar.safetensors").read_bytes() == before
    monkeypatch.setattr(training_run.Training, "step", step)
    train_stage1.main()
    assert "going on from step 6" in capsys.readouterr().out
    found = load_avatar(subject.stage1 / "avatar.safetensors").state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(
    subject: SubjectPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "run_training", lambda *_, **__: False)
        with pytest.raises(Interrupted):
            train_stage1.main()
    write_params(Path(), stage1_steps=5)
    train_stage1.main()
    assert "starting anew" in capsys.readouterr().out


def test_a_checkpoint_of_another_surface_is_not_gone_on_from(
    subject: SubjectPaths, tube: BodySurface, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "run_training", lambda *_, **__: False)
        with pytest.raises(Interrupted):
            train_stage1.main()
    finer = bake_atlas(tube, resolution=40, map_resolution=24, density=None)  # as many points, on a larger feature map
    assert finer.num_points == len(read_npz(subject.uv / "atlas.npz", made_by="bake_uv_maps")["points_rest"])
    write_npz(subject.uv / "atlas.npz", **finer.arrays())
    train_stage1.main()
    assert "starting anew" in capsys.readouterr().out


def test_pictures_of_another_size_than_the_track_are_refused(subject: SubjectPaths, clip) -> None:
    wrong = dataclasses.replace(clip.track, width=32)
    with pytest.raises(InputError, match="dvc repro fit_smpl"):
        training_run.load_training_frames(subject, wrong, [0, 1])


def test_an_absent_backbone_is_said_once_and_lpips_left_out(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert training_run.find_lpips(0.2) is None
    assert capsys.readouterr().out.count("\n") == 1
    assert training_run.find_lpips(0.0) is None and capsys.readouterr().out == ""


def test_bake_uv_maps_samples_the_fitted_shape(subject: SubjectPaths, clip) -> None:
    from model.body.body_model import load_body_model

    body = load_body_model()
    tall = torch.zeros(body.num_betas)
    tall[0] = 2.0
    heights = []
    for betas in (torch.zeros(body.num_betas), tall):
        write_track(subject.fit_refined / "track.npz", dataclasses.replace(clip.track, betas=betas))
        bake_uv_maps.main()
        points = UvAtlas.from_arrays(read_npz(subject.uv / "atlas.npz", made_by="bake_uv_maps")).points_rest
        heights.append(float(points[:, 1].max() - points[:, 1].min()))
    assert abs(heights[1] - heights[0]) > 0.01


def test_a_section_refuses_what_its_dataclass_does_not_have() -> None:
    @dataclasses.dataclass(frozen=True)
    class Inner:
        rate: float

    @dataclasses.dataclass(frozen=True)
    class Outer:
        steps: int
        inner: Inner | None

    globals().update(Inner=Inner)
    section = section_of(Outer)
    good = section.model_validate({"steps": 3, "inner": {"rate": 0.5}})
    assert options_from(good, Outer) == Outer(3, Inner(0.5))
    assert options_from(section.model_validate({"steps": 3, "inner": None}), Outer) == Outer(3, None)
    for bad in ({"steps": 3}, {"steps": 3.5, "inner": None}, {"steps": -1, "inner": None}, {"steps": 3, "inner": {"rate": "fast"}}):
        with pytest.raises(ValueError):
            section.model_validate(bad)
    with pytest.raises(ValueError):
        section.model_validate({"steps": 3, "inner": None, "speed": 1})


def test_a_checkpoint_belongs_to_the_avatar_that_it_grew_from(subject: SubjectPaths) -> None:
    train_stage1.main()
    avatar, settings = load_avatar(subject.stage1 / "avatar.safetensors"), load_settings()
    track, _, frames = train_stage1.read_inputs(subject, settings)
    seal = lambda: training_run.fingerprint(settings.chosen.train_stage2, frames, track, avatar=avatar)  # noqa: E731
    before = seal()
    assert seal() == before
    with torch.no_grad():
        next(avatar.parameters()).view(-1)[0] += 1e-3
    assert seal() != before
