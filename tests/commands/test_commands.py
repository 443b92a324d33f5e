"""The command line: what each command calls, what it prints, and how it ends when its input is at fault."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from commands import compare, doctor, filming, plan, project, run
from commands.main import app
from model.motion.camera_paths import PATHS
from model.motion.library import LIBRARY
from tasks import animate_video
from tasks.animate import OWN_MOTION
from tasks.errors import InputError, Interrupted
from tasks.export_avatar import FORMATS

PROJECT = Path(__file__).parents[2]
COMMANDS = ("run", "view", "animate", "motions", "render", "export", "compare", "plan", "doctor")


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


# --------------------------------------------------------------------------------------------------- help, completion


def test_help_names_every_command() -> None:
    text = call("--help").output
    assert all(f" {name} " in text for name in COMMANDS)
    assert "--install-completion" in text


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "motions"])
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0 and "Example" in result.output and f"avatar {name}" in result.output


def test_what_is_offered_for_completion_is_what_there_is() -> None:
    assert sorted(filming.MOTIONS) == sorted([*LIBRARY, OWN_MOTION])
    assert sorted(filming.CAMERAS) == sorted(PATHS)
    from commands.export import FORMATS as OFFERED

    assert sorted(OFFERED) == sorted([*FORMATS, "all"])


def test_completion_offers_motions_that_begin_as_typed() -> None:
    result = CliRunner().invoke(app, [], env={"_AVATAR_COMPLETE": "complete_bash", "COMP_WORDS": "avatar animate --motion w", "COMP_CWORD": "3"}, prog_name="avatar")
    assert set(result.output.split()) == {"walk", "wave"}


def test_an_unknown_command_is_refused() -> None:
    assert call("fly").exit_code == 2


# --------------------------------------------------------------------------------------------------------------- run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What DVC was asked for, instead of doing it."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(run, "run_dvc", lambda *words: calls.append(words))
    return calls


def test_run_brings_the_last_stage_up_to_date(here: Path, asked: list) -> None:
    result = call("run")
    assert result.exit_code == 0 and asked == [("repro", "build_page")]


def test_the_last_stage_is_one_that_nothing_reads() -> None:
    text = (PROJECT / "dvc.yaml").read_text()
    assert f"  {project.LAST_STAGE}:\n" in text
    assert project.LAST_STAGE in (PROJECT / "Makefile").read_text()


def test_run_with_a_video_points_the_settings_at_it(here: Path, asked: list) -> None:
    (here / "My Clip.mp4").write_bytes(b"x")
    result = call("run", "My Clip.mp4", "--to", "fit_smpl")
    assert result.exit_code == 0 and asked == [("repro", "fit_smpl")]
    assert "name: my-clip" in (here / "params.yaml").read_text()
    assert call("run", "demo").exit_code == 0 and "name: demo" in (here / "params.yaml").read_text()


def test_a_video_is_found_from_where_the_command_was_typed(here: Path, asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "below").mkdir()
    (here / "below" / "clip.mp4").write_bytes(b"x")
    monkeypatch.chdir(here / "below")
    monkeypatch.setattr(project, "HERE", here / "below")
    assert call("run", "clip.mp4").exit_code == 0
    assert str(here / "below" / "clip.mp4") in (here / "params.yaml").read_text()


@pytest.mark.parametrize("video", ["none.mp4", "https://example.org/a.mp4", "."])
def test_what_is_no_video_leaves_the_settings_alone(here: Path, asked: list, video: str) -> None:
    before = (here / "params.yaml").read_text()
    result = call("run", video)
    assert result.exit_code == 2 and asked == [] and "expected a video file" in result.output
    assert (here / "params.yaml").read_text() == before


def test_forcing_runs_one_stage_again_after_what_it_reads_is_up_to_date(here: Path, asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ask_graph", lambda target: GRAPH)
    call("run", "--to", "d", "--force")
    assert asked == [("repro", "b", "c"), ("repro", "--single-item", "--force", "d")]
    asked.clear()
    call("run", "--to", "a", "--force")  # reads from no stage
    assert asked == [("repro", "--single-item", "--force", "a")]


def test_ctrl_c_ends_a_run_with_130_and_no_word_of_the_set_up(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dvc:
        """DVC whose stage was interrupted; its status is that of any stage that fails."""

        told = False

        def wait(self) -> int:
            if not self.told:
                raise KeyboardInterrupt
            return 255

        def send_signal(self, _: int) -> None:
            self.told = True

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Dvc())
    result = call("run")
    assert result.exit_code == 130 and "error" not in result.output
    (here / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(animate_video, "cache_folder", lambda _: here)
    with pytest.raises(Interrupted, match="run the same command again"):
        animate_video.fit_video(str(here / "a.mp4"), here)


# ----------------------------------------------------------------------------------------------------- animate, render


def test_motions_are_listed_with_their_lengths() -> None:
    result = call("motions")
    assert result.exit_code == 0
    for name in LIBRARY:
        assert any(line.startswith(name) and " s " in line for line in result.output.splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("animate", "--motion", "walk"), "dvc repro train_stage"),
        (("animate", "--motion", "walk", "--avatar", "no.safetensors"), "found nothing"),
        (("animate", "--motion", "walk", "--subject", "nobody"), "work/nobody"),
        (("animate", "--motion", "walk", "--subject", "../elsewhere"), "expected the name of a subject"),
        (("render", "--stage", "stage9"), "expected a stage stage1 or stage2"),
        (("render", "--stage", "stage1", "--avatar", "no.safetensors"), "leave one of them out"),
        (("animate", "--motion", "walk", "--subject", "demo", "--avatar", "no.safetensors"), "leave one of them out"),
    ],
)
def test_without_an_avatar_one_line_says_what_to_do(here: Path, words: tuple[str, ...], message: str) -> None:
    result = call(*words)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output


def test_animate_wants_a_motion() -> None:
    assert call("animate").exit_code == 2


@pytest.mark.parametrize(("text", "size"), [("720", (720, 720)), ("1920x1080", (1920, 1080)), ("64X48", (64, 48))])
def test_sizes_are_one_number_or_two(text: str, size: tuple[int, int]) -> None:
    assert filming.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "1x2x3", "-4", "1.5x2", "7²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="720 or 1920x1080"):
        filming.parse_size(text)


# -------------------------------------------------------------------------------------------------------------- view


def test_view_hands_over_subject_and_port(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view_avatar = pytest.importorskip("tasks.view_avatar")
    calls: list[list[str]] = []
    monkeypatch.setattr(view_avatar, "main", calls.append)
    assert call("view", "--port", "9000", "--wait").exit_code == 0
    assert calls == [["--subject", "demo", "--port", "9000", "--wait"]]


# ------------------------------------------------------------------------------------------------------------ export


def test_export_without_a_format_lists_them() -> None:
    result = call("export")
    assert result.exit_code == 0 and all(name in result.output for name in FORMATS)


def test_export_of_an_unknown_format_is_refused(here: Path) -> None:
    result = call("export", "fbx")
    assert result.exit_code == 2 and "fbx" in result.output


# ----------------------------------------------------------------------------------------------------------- compare


def metrics(psnr: float, commit: str = "abc") -> dict:
    scores = {"psnr": psnr, "psnr_mask": None, "ssim": 0.95, "lpips": None, "mask_iou": 0.9}
    sets = {name: scores for name in ("heldout_frames", "novel_views")}
    return {"stage1": sets, "stage2": sets, "body": {"mpjpe_mm": 50.0}, "seconds": {"fit_smpl": 100.0}, "protocol": {"commit": commit, "preset": "quick"}}


def write_metrics(path: Path, record: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def test_runs_are_compared_by_subject_folder_or_file(here: Path) -> None:
    write_metrics(here / "results" / "demo" / "metrics.json", metrics(26.0))
    write_metrics(here / "before" / "metrics.json", metrics(25.5, commit="xyz"))
    result = call("compare", "demo", "before", "before/metrics.json")
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if "stage1: held-out, as stored, PSNR dB" in line)
    assert "26.00" in row and row.count("25.50 (-0.50)") == 2
    assert "commit: abc | xyz" in result.output and "LPIPS" not in result.output


def test_compared_figures_can_be_read_by_programs(here: Path) -> None:
    for name, value in (("a", 20.0), ("b", 21.0)):
        write_metrics(here / name / "metrics.json", metrics(value))
    rows = json.loads(call("compare", "a", "b", "--json").output)
    assert rows[0] == {"figure": "stage1: held-out, as stored, PSNR dB", "a": 20.0, "b": 21.0}


@pytest.mark.parametrize(
    ("record", "message"), [("{", "no JSON"), ({"loss": 1}, "expected the figures"), ([1], "expected the figures"), ({"stage1": 3}, "expected the figures")]
)
def test_a_file_without_figures_is_refused(here: Path, record: object, message: str) -> None:
    write_metrics(here / "a" / "metrics.json", metrics(20.0))
    write_metrics(here / "b" / "metrics.json", record)
    result = call("compare", "a", "b")
    assert result.exit_code == 2 and message in result.output


def test_a_run_that_is_not_there_names_those_that_are(here: Path) -> None:
    write_metrics(here / "results" / "taiji" / "metrics.json", metrics(20.0))
    result = call("compare", "taiji", "nobody")
    assert result.exit_code == 2 and "subjects with figures: taiji" in result.output
    assert call("compare", "taiji").exit_code == 2


def test_better_is_told_from_worse_by_the_figure() -> None:
    assert "green" in compare._cell(21.0, 20.0, 2, 1) and "red" in compare._cell(60.0, 50.0, 1, -1)
    assert compare._cell(20.001, 20.0, 2, 1).endswith("(=)")


def test_equal_folder_names_stay_apart() -> None:
    assert compare.distinct_names(["a/metrics.json", "b/results/metrics.json"]) == ["a", "results"]
    assert compare.distinct_names(["x/demo", "y/demo"]) == ["x/demo", "y/demo"]


# -------------------------------------------------------------------------------------------------------------- plan

GRAPH = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}, "e": {"d"}}


def test_what_follows_a_changed_stage_runs_too() -> None:
    stages = plan.make_plan(GRAPH, {"b": "changed: x"}, {"me": {"b": 10.0}, "you": {"d": 4.0}, "they": {"d": 8.0}}, "me")
    assert [(s.name, s.why) for s in stages] == [("a", None), ("b", "changed: x"), ("c", None), ("d", "after b"), ("e", "after d")]
    by_name = {s.name: s for s in stages}
    assert (by_name["b"].seconds, by_name["b"].from_subject) == (10.0, "me")
    assert (by_name["d"].seconds, by_name["d"].from_subject) == (6.0, "other subjects")
    assert by_name["e"].seconds is None


def test_stages_come_after_what_they_read() -> None:
    order = plan.in_order(GRAPH)
    assert all(order.index(parent) < order.index(name) for name, parents in GRAPH.items() for parent in parents)


def test_seconds_of_all_subjects_are_read_and_damaged_ones_skipped(tmp_path: Path) -> None:
    for subject, stage, text in (("a", "fit_smpl", '{"seconds": 3.5}'), ("a", "evaluate", "{"), ("b", "fit_smpl", '{"seconds": 4}')):
        (tmp_path / subject / "seconds").mkdir(parents=True, exist_ok=True)
        (tmp_path / subject / "seconds" / f"{stage}.json").write_text(text)
    assert plan.read_all_seconds(tmp_path) == {"a": {"fit_smpl": 3.5}, "b": {"fit_smpl": 4.0}}


def test_a_plan_is_read_from_what_dvc_says(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "dag": 'strict digraph {\n"film";\n"fit";\n"build_page";\n"aside";\n"film" -> "fit";\n"fit" -> "build_page";\n"film" -> "aside";\n}\n',
        "status": json.dumps({"fit": [{"changed deps": {"model/a.py": "modified", "params.yaml": {"fit.x": "modified"}}}, "changed command"]}),
    }
    monkeypatch.setattr(plan, "_dvc", lambda *words: answers[words[0]])
    rows = json.loads(call("plan", "--json").output)
    assert [(row["name"], row["why"]) for row in rows] == [
        ("film", None),
        ("fit", "changed: model/a.py, fit.x; its command changed"),
        ("build_page", "after fit"),
    ]
    assert "2 stages" in call("plan").output
    refused = call("plan", "--to", "aside2")
    assert refused.exit_code == 2 and "expected a stage" in refused.output


def test_nothing_to_do_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_dvc", lambda *words: {"dag": '"build_page";\n', "status": "{}"}[words[0]])
    assert "everything is up to date" in call("plan").output


@pytest.mark.slow
def test_the_real_graph_and_status_are_understood() -> None:
    result = call("plan", "--json")
    assert result.exit_code == 0
    names = [row["name"] for row in json.loads(result.output)]
    assert names.index("extract_frames") < names.index("fit_smpl") < names.index("train_stage1") and names[-1] == project.LAST_STAGE


@pytest.mark.parametrize(("seconds", "text"), [(3, "3 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert plan.duration(seconds) == text


# ------------------------------------------------------------------------------------------------------------ doctor


def test_the_doctor_finds_this_set_up_well_enough_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = {finding.about: finding for finding in doctor.examine()}
    for about in ("Python", "packages", "servers", "GPU", "params.yaml", "body model", "segmentation", "LPIPS", "disk, project"):
        assert about in findings
    assert findings["packages"].state == "ok" and findings["body model"].state == "ok"
    assert all(finding.advice for finding in findings.values() if finding.state == "bad")


@pytest.mark.parametrize(
    ("prefect", "fastapi", "clashes"), [("3.8.8", "0.150.0", False), ("3.8.8", "0.151.0", True), ("3.8.8", "0.156.2", True), ("3.8.8", "1.0", True), ("3.9.0", "0.156.0", False), (None, "0.150.0", True)]
)
def test_servers_that_clash_are_named(prefect: str | None, fastapi: str, clashes: bool) -> None:
    assert (doctor.clash(prefect, fastapi) is not None) == clashes


def test_a_missing_package_and_another_version_are_told_apart(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda name: {"numpy": None, "scipy": "1.0"}.get(name, doctor.read_pins((here / "constraints.txt").read_text()).get(name, "1")))
    findings = {finding.about: finding for finding in doctor.check_packages()}
    assert findings["packages"].state == "bad" and "numpy" in findings["packages"].found
    assert findings["versions"].state == "note" and "scipy 1.0 (tried with" in findings["versions"].found


def test_a_check_that_breaks_is_a_finding_and_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_nothing() -> list:
        raise OSError("no such thing")

    monkeypatch.setattr(doctor, "CHECKS", (doctor.check_python, check_nothing))
    result = call("doctor")
    assert result.exit_code == 1 and "no such thing" in result.output
    assert json.loads(call("doctor", "--json").output)[1]["state"] == "bad"


@pytest.mark.parametrize(
    ("change", "about", "state"),
    [
        (("video: data/demo/clip.mp4", "video: gone.mp4"), "video", "ok"),  # the demo films itself
        (("name: demo", "name: other"), "video", "bad"),
        (("model: open", "model: gone.pkl"), "body model", "bad"),
        (("method: auto", "method: rembg"), "segmentation", "bad"),
        (("seed: 0", "sead: 0"), "params.yaml", "bad"),
    ],
)
def test_settings_that_cannot_work_are_found(here: Path, change: tuple[str, str], about: str, state: str) -> None:
    text = (here / "params.yaml").read_text()
    assert change[0] in text
    (here / "params.yaml").write_text(text.replace(change[0], change[1], 1))
    checks = {"body model": doctor.check_body_model, "segmentation": doctor.check_weights}
    findings = [finding for finding in checks.get(about, doctor.check_settings_file)() if finding.about == about]
    assert [finding.state for finding in findings] == [state]


def test_the_folder_of_a_dataset_is_as_good_as_a_video(here: Path) -> None:
    (here / "params.yaml").write_text((here / "params.yaml").read_text().replace("name: demo", "name: other", 1).replace("data/demo/clip.mp4", "subject", 1))
    (here / "subject").mkdir()
    states = []
    for name in (None, "camera.pkl", "masks.hdf5"):
        if name is not None:
            (here / "subject" / name).touch()
        states.append(next(finding.state for finding in doctor.check_settings_file() if finding.about == "video"))
    assert states == ["bad", "bad", "ok"]


def test_a_full_disk_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, int(0.5e9)))
    assert {finding.state for finding in doctor.check_disk()} == {"bad"}


def test_the_console_script_is_declared() -> None:
    assert 'avatar = "commands.main:app"' in (PROJECT / "pyproject.toml").read_text()
