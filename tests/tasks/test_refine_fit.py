"""Claims about the stage refine_fit: when it passes the fit on, how it stops and goes on, and when it keeps the fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from model.fitting.appearance import Round
from model.fitting.fit import Silhouettes
from tasks import refine_fit
from tasks.artifacts import FrameSplit, SubjectPaths, read_track, subject_paths, write_track
from tasks.errors import InputError, Interrupted
from tasks.fit_state import read_fit_state, write_fit_state
from tasks.settings import load_settings
from tests.conftest import make_avatar
from tests.model.fitting_scene import SPREADS, Scene, make_scene

PARAMS = Path(__file__).parents[2] / "params.yaml"
KEPT_FRAMES = refine_fit.kept_frames


def write_params(**options) -> None:
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(PARAMS.read_text())
    section = values["refine_fit"]["options"]
    section |= {"rounds": 8, "carried": section["carried"] | {"tracks": 0}} | options
    with open("params.yaml", "w") as file:
        yaml.dump(values, file)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(8, fps=6.0)


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip) -> SubjectPaths:
    monkeypatch.chdir(tmp_path)
    write_params()
    paths = subject_paths("demo")
    write_track(paths.fit / "track.npz", clip.track)
    return paths


@pytest.fixture
def rounds(subject: SubjectPaths, scene: Scene, clip, atlas, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stage with its eight rounds made cheap: each moves the body by a centimetre. Lists the rounds that ran."""
    ran: list[int] = []
    write_fit_state(subject.fit / "state.npz", scene.seen, scene.truth)
    inputs = refine_fit.Clip(scene.body, None, scene.seen, Silhouettes(np.zeros((8, 64, 64), np.uint8), np.zeros(8)), clip.frames, clip.track)

    def refine(clip, avatar, state, *_, first_round, on_round, stop_asked, **__):
        for number in range(first_round, 8):
            state = dataclasses.replace(state, transl=state.transl + 0.01)
            ran.append(number)
            on_round(Round(number, state, 2.0 / (number + 1)))
            if stop_asked():
                break
        return state

    monkeypatch.setattr(refine_fit, "read_inputs", lambda *_: (inputs, scene.truth))
    monkeypatch.setattr(refine_fit, "kept_frames", lambda *_: clip.frames)
    monkeypatch.setattr(refine_fit, "heldout_psnr", lambda *_, **__: np.full(3, 20.0))
    monkeypatch.setattr(refine_fit, "untrained_avatar", lambda *_: make_avatar(atlas))
    monkeypatch.setattr(refine_fit, "refine_on_appearance", refine)
    monkeypatch.setattr(refine_fit, "judge", lambda clip, fitted, refined, spreads, before, after, off, psnrs: refine_fit.Refined(
        dataclasses.replace(fitted, transl=after.transl.float()), {"rounds": len(off), "points_off_px": off, "focal_px": [1.0, 1.0], "shape_solved": True, "kept": None}
    ))  # fmt: skip
    return ran


def test_what_the_fit_saw_and_found_comes_back_from_its_file(scene: Scene, tmp_path: Path) -> None:
    write_fit_state(tmp_path / "state.npz", scene.seen, scene.truth)
    seen, state = read_fit_state(tmp_path / "state.npz")
    for read, written in ((seen, scene.seen), (state, scene.truth)):
        for field in dataclasses.fields(written):
            old, new = getattr(written, field.name), getattr(read, field.name)
            assert torch.equal(new, old) if isinstance(old, torch.Tensor) else new == old, field.name


def test_an_imported_track_passes_unchanged_and_says_so(subject: SubjectPaths, capsys: pytest.CaptureFixture) -> None:
    refine_fit.main()
    assert torch.equal(read_track(subject.fit_refined / "track.npz", made_by="x").body_pose, read_track(subject.fit / "track.npz", made_by="x").body_pose)
    assert "imported" in json.loads((subject.fit_refined / "refined.json").read_text())["kept"]
    assert "stays as it is" in capsys.readouterr().out


def test_no_rounds_leave_the_fit_as_it_is(subject: SubjectPaths, scene: Scene) -> None:
    write_fit_state(subject.fit / "state.npz", scene.seen, scene.truth)
    write_params(rounds=0)
    refine_fit.main()
    assert "rounds is 0" in json.loads((subject.fit_refined / "refined.json").read_text())["kept"]


def test_the_stage_writes_the_refined_motion(subject: SubjectPaths, scene: Scene, rounds: list[int]) -> None:
    refine_fit.main()
    assert rounds == list(range(8))
    found = read_track(subject.fit_refined / "track.npz", made_by="x")
    assert torch.allclose(found.transl, scene.truth.transl.float() + 0.08, atol=1e-5)
    assert not subject.checkpoints.joinpath("refine_fit").exists()


def test_after_the_rounds_the_motion_adjusts_to_carried_places_and_lost_limbs_are_brought_back(
    subject: SubjectPaths, scene: Scene, rounds: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def adjust(clip, state, spreads, options, *, seed, on_round, stop_asked):
        assert len(rounds) == 8 and options.carried.tracks > 0
        return dataclasses.replace(state, transl=state.transl + 0.5)

    def bring_back(clip, avatar, state, before, *options, **named):
        assert torch.allclose(state.transl, before.transl + 0.5)
        return dataclasses.replace(state, transl=state.transl + 0.25), 3

    monkeypatch.setattr(refine_fit, "adjust_on_carried", adjust)
    monkeypatch.setattr(refine_fit, "bring_back_limbs", bring_back)
    write_params(side_rounds=[0], carried=YAML(typ="safe", pure=True).load(PARAMS.read_text())["refine_fit"]["options"]["carried"])
    refine_fit.main()
    assert torch.allclose(read_track(subject.fit_refined / "track.npz", made_by="x").transl, scene.truth.transl.float() + 0.83, atol=1e-5)
    assert json.loads((subject.fit_refined / "refined.json").read_text())["limbs_brought_back"] == 3
    assert "limbs brought back in 3 frames" in capsys.readouterr().out


def test_landmarks_and_outlines_are_held_to_as_loosely_as_this_stage_says(
    subject: SubjectPaths, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_to, kept = [], refine_fit.refine_on_appearance

    def refine(clip, avatar, state, spreads, *others, **named):
        held_to.append(spreads)
        return kept(clip, avatar, state, spreads, *others, **named)

    monkeypatch.setattr(refine_fit, "refine_on_appearance", refine)
    refine_fit.main()
    settings = load_settings()
    own, of_fit = settings.refine_fit, settings.fit_smpl
    assert (held_to[0].landmark, held_to[0].outline, held_to[0].prior) == (own.landmark, own.outline, of_fit.prior)
    assert own.landmark > of_fit.landmark and own.outline > of_fit.outline


def test_an_interrupted_refinement_goes_on_where_it_was(
    subject: SubjectPaths, scene: Scene, rounds: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    kept = refine_fit.refine_on_appearance
    monkeypatch.setattr(refine_fit, "refine_on_appearance", lambda *a, stop_asked, **k: _stop_after_three(kept, rounds, a, k))
    with pytest.raises(KeyboardInterrupt):
        refine_fit.main()
    assert not (subject.fit_refined / "track.npz").exists()
    monkeypatch.setattr(refine_fit, "refine_on_appearance", kept)
    refine_fit.main()
    assert rounds == [0, 1, 2, *range(3, 8)]
    assert "going on after round 3" in capsys.readouterr().out
    assert torch.allclose(read_track(subject.fit_refined / "track.npz", made_by="x").transl, scene.truth.transl.float() + 0.08, atol=1e-5)


def _stop_after_three(run, rounds: list[int], positional: tuple, named: dict):
    run(*positional, stop_asked=lambda: len(rounds) == 3, **named)
    raise KeyboardInterrupt


def test_a_signal_ends_the_stage_with_what_is_done_kept(subject: SubjectPaths, rounds: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    kept = refine_fit.save_checkpoint

    def save(folder, checkpoint):
        kept(folder, checkpoint)
        if checkpoint.record["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(refine_fit, "save_checkpoint", save)
    with pytest.raises(Interrupted, match="2 of 8 rounds"):
        refine_fit.main()
    assert rounds == [0, 1]


def test_changed_settings_start_anew(subject: SubjectPaths, rounds: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = refine_fit.refine_on_appearance
    monkeypatch.setattr(refine_fit, "refine_on_appearance", lambda *a, stop_asked, **k: _stop_after_three(kept, rounds, a, k))
    with pytest.raises(KeyboardInterrupt):
        refine_fit.main()
    monkeypatch.setattr(refine_fit, "refine_on_appearance", kept)
    write_params(steps=20)
    refine_fit.main()
    assert rounds == [0, 1, 2, *range(8)]


def test_a_motion_that_tells_less_of_the_kept_frames_is_not_taken(scene: Scene, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine_fit, "score_fit", lambda *_: type("Score", (), {"iou": np.array([0.9, 0.8])}))
    inputs = refine_fit.Clip(scene.body, None, scene.seen, None, clip.frames, dataclasses.replace(clip.track, body_pose=torch.zeros(8, 23, 3)))
    refined = dataclasses.replace(inputs.track, body_pose=scene.truth.body_pose.float())
    states = SPREADS, scene.truth, scene.truth, [1.0]
    before = np.array([20.0, 23.0, 18.0, 21.0])
    worse = refine_fit.judge(inputs, inputs.track, refined, *states, [before, before - [0.3, 0.1, 0.2, 0.2]])
    assert worse.track is inputs.track and "tells less of frames" in worse.record["kept"]
    for psnrs in ([before, before + 0.1], [before, before + [0.9, -0.8, 0.5, -0.7]], []):  # better; as chance has it; none kept
        better = refine_fit.judge(inputs, inputs.track, refined, *states, psnrs)
        assert better.track is refined and better.record["kept"] is None


def test_a_look_that_is_no_preset_is_refused(subject: SubjectPaths) -> None:
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(PARAMS.read_text())
    values["refine_fit"]["look"] = "quik"
    with open("params.yaml", "w") as file:
        yaml.dump(values, file)
    with pytest.raises(InputError, match="refine_fit.look is 'quik'"):
        load_settings()


def test_without_kept_frames_the_refined_motion_is_taken_unjudged(subject: SubjectPaths, rounds: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(*_, **__):
        raise AssertionError("there is nothing to judge by")

    monkeypatch.setattr(refine_fit, "heldout_psnr", judged)
    monkeypatch.setattr(refine_fit, "kept_frames", KEPT_FRAMES)
    monkeypatch.setattr(refine_fit, "read_clip", lambda _: None)
    monkeypatch.setattr(refine_fit, "read_segmentation", lambda _: None)
    monkeypatch.setattr(refine_fit, "split_frames", lambda *_, **__: FrameSplit(train=list(range(8)), heldout=[]))
    refine_fit.main()
    assert rounds == list(range(8)) and (subject.fit_refined / "track.npz").exists()
