"""params.yaml is typed and strict, and its errors say where, what was expected and what came."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tasks.choose_subject import choose_subject, subject_name
from tasks.errors import InputError
from tasks.settings import check_settings, load_settings

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def values() -> dict:
    return YAML(typ="safe", pure=True).load(PARAMS.read_text())


def test_the_committed_settings_fit() -> None:
    settings = load_settings(PARAMS)
    assert settings.preset in settings.presets
    assert {"quick", "paper"} <= set(settings.presets)


def test_an_unknown_key_is_refused_with_its_path(values: dict) -> None:
    values["extract_frames"]["resolutoin"] = 512
    with pytest.raises(InputError, match=r"extract_frames\.resolutoin: unknown key"):
        check_settings(values, name="params.yaml")


def test_a_missing_key_is_refused_with_its_path(values: dict) -> None:
    del values["extract_frames"]["resolution"]
    with pytest.raises(InputError, match=r"extract_frames\.resolution: missing"):
        check_settings(values, name="params.yaml")


@pytest.mark.parametrize("wrong", ["512", 512.5, True, None, [512]])
def test_a_wrong_type_is_refused_with_what_came(values: dict, wrong: object) -> None:
    values["extract_frames"]["resolution"] = wrong
    with pytest.raises(InputError, match=r"extract_frames\.resolution: .*came"):
        check_settings(values, name="params.yaml")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("make_demo.seed", -1),
        ("make_demo.seed", 2**32),
        ("refine_fit.outline", float("inf")),
        ("refine_fit.options.carried.every", 0),
        ("refine_fit.options.carried.window", 2),
        ("refine_fit.options.first_steps", 0),
        ("refine_fit.options.steps", 0),
        ("refine_fit.options.later_rate", 0.0),
        ("refine_fit.options.points", 0),
        ("refine_fit.options.tracks", 0),
        ("refine_fit.options.strength", {"first": 0.0, "last": 300.0}),
        ("refine_fit.options.point_spread", {"first": 0.03, "last": 0.0}),
        ("presets.quick.train_stage1.training.steps", 0),
        ("presets.quick.train_stage1.training.max_minutes", 0.0),
        ("presets.quick.train_stage1.training.frames_per_step", 0),
        ("presets.quick.train_stage1.training.checkpoint_every", 0),
        ("presets.quick.train_stage1.training.rates.poses.spans", [0.24, -1]),
        ("presets.quick.train_stage1.training.rates.poses.spans", [1e-4]),
        ("presets.quick.train_stage1.network.width", 0),
        ("presets.quick.train_stage1.network.layers", 0),
        ("presets.quick.train_stage1.network.features", 0),
        ("presets.quick.train_stage1.network.smoother_kernel", 4),
        ("presets.quick.train_stage1.network.skip_layer", 4),
        ("presets.quick.train_stage1.network.scale_floor", 0.6),
        ("presets.quick.train_stage1.network.scale_start", 1.5),
        ("presets.quick.train_stage1.network.scale_ceiling", 0.6),
        ("presets.quick.train_stage2.training.steps", 0),
        ("presets.quick.train_stage2.pose_shapes.reach", 0.0),
        ("presets.quick.train_stage2.pose_shapes.fade", 0.0),
        ("presets.paper.train_stage2.pose_encoder.base_width", 0),
        ("presets.paper.train_stage2.pose_encoder.depth", 0),
        ("presets.paper.train_stage2.pose_encoder.reach", 0.0),
    ],
)
def test_a_value_that_nothing_can_be_computed_with_is_refused(values: dict, path: str, value: object) -> None:
    put(values, path, value)
    *_, section, key = path.split(".")
    with pytest.raises(InputError, match=rf"{section}\b.*{key}.*, came"):
        check_settings(values, name="params.yaml")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("refine_fit.options.rounds", 0),
        ("refine_fit.options.adjust_steps", 0),
        ("refine_fit.options.carried.tracks", 0),
        ("presets.quick.train_stage1.training.max_minutes", None),
        ("presets.quick.train_stage1.training.rates.networks", 0),
        ("presets.quick.train_stage1.training.rates.poses.spans", []),
        ("presets.quick.train_stage1.network.scale_floor", 0.0),
    ],
)
def test_a_value_that_switches_something_off_fits(values: dict, path: str, value: object) -> None:
    put(values, path, value)
    check_settings(values, name="params.yaml")


def put(values: dict, path: str, value: object) -> None:
    """Set the value at a dotted path."""
    *sections, key = path.split(".")
    for name in sections:
        values = values[name]
    values[key] = value


def test_a_subject_name_with_spaces_is_refused(values: dict) -> None:
    values["subject"]["name"] = "my clip"
    with pytest.raises(InputError, match="no spaces"):
        check_settings(values, name="params.yaml")


@pytest.mark.parametrize("fps", [5.0, None])
def test_either_a_number_of_frames_or_a_rate_is_given(values: dict, fps: float | None) -> None:
    values["extract_frames"] |= {"fps": fps, "num_frames": None if fps is None else 100}
    with pytest.raises(InputError, match="either extract_frames.num_frames or extract_frames.fps"):
        check_settings(values, name="params.yaml")


def test_an_unknown_preset_names_those_there_are(values: dict) -> None:
    values["preset"] = "fast"
    with pytest.raises(InputError, match="paper, quick"):
        check_settings(values, name="params.yaml")


def test_exponents_are_numbers_as_yaml_1_2_says(tmp_path: Path) -> None:
    text = PARAMS.read_text().replace("margin: 0.12", "margin: 1e-1")
    (tmp_path / "params.yaml").write_text(text)
    assert load_settings(tmp_path / "params.yaml").extract_frames.margin == pytest.approx(0.1)


def test_broken_yaml_and_a_missing_file_are_clear(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="project's root"):
        load_settings(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("subject: [")
    with pytest.raises(InputError, match="no valid YAML"):
        load_settings(tmp_path / "params.yaml")


def test_choosing_a_clip_changes_the_subject_and_keeps_the_comments(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS.read_text())
    clip = tmp_path / "Mein Tänzer 01.MP4"
    clip.write_bytes(b"x")
    choose_subject(str(clip), params)
    subject = load_settings(params).subject
    assert (subject.name, subject.video) == ("mein-tanzer-01", str(clip))
    assert "# px that the largest view" in params.read_text()
    choose_subject("demo", params)
    assert load_settings(params) == load_settings(PARAMS)
    assert params.read_text().count(": null") == PARAMS.read_text().count(": null")


@pytest.mark.parametrize(
    ("path", "message"),
    [("https://example.org/clip.mp4", "address"), (".", "folder"), ("missing.mp4", "nothing at")],
)
def test_a_path_that_is_no_file_leaves_the_settings_as_they_were(tmp_path: Path, path: str, message: str) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS.read_text())
    with pytest.raises(InputError, match=message):
        choose_subject(path, params)
    assert params.read_text() == PARAMS.read_text()


@pytest.mark.parametrize(("file", "name"), [("a b.mp4", "a-b"), ("Ünï.mov", "uni"), ("漢.mp4", "clip"), ("demo.mp4", "demo-clip")])
def test_any_file_name_gives_a_legal_subject(file: str, name: str) -> None:
    assert subject_name(Path(file)) == name
