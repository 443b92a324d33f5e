"""How the quality bench turns its arguments into settings."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks.quality import ENDLESS, changed

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def values() -> dict:
    return YAML(typ="safe", pure=True).load((PROJECT / "params.yaml").read_text(encoding="utf-8"))


def arguments(**given: object) -> Namespace:
    return Namespace(**({"steps": None, "refit_steps": None, "exact": False, "stage2": False} | given))


def test_minutes_end_a_training_and_steps_do_not(values: dict) -> None:
    training = changed(values, {}, arguments(), 3.0).chosen.train_stage1.training
    assert training.max_minutes == 3.0 and training.steps == ENDLESS


def test_both_stages_share_the_minutes_as_the_preset_does(values: dict) -> None:
    own = changed(values, {}, arguments(), None).chosen
    both = changed(values, {}, arguments(stage2=True), 10.0).chosen
    first, second = (stage.training.max_minutes for stage in (both.train_stage1, both.train_stage2))
    assert first + second == pytest.approx(10.0)
    assert first / second == pytest.approx(own.train_stage1.training.max_minutes / own.train_stage2.training.max_minutes)
    assert both.train_stage2.training.steps == ENDLESS


def test_a_preset_without_a_limit_shares_the_minutes_evenly(values: dict) -> None:
    values["preset"] = "paper"
    both = changed(values, {}, arguments(stage2=True), 10.0).chosen
    assert both.train_stage1.training.max_minutes == both.train_stage2.training.max_minutes == 5.0


def test_true_poses_stay_as_they_are(values: dict) -> None:
    assert changed(values, {}, arguments(exact=True), None).chosen.train_stage1.training.rates.poses is None


def test_a_row_changes_what_it_names_and_nothing_else(values: dict) -> None:
    one, other = (changed(values, changes, arguments(steps=7), None) for changes in ({"train_stage1.light": "none"}, {}))
    assert one.chosen.train_stage1.light == "none" and one.chosen.train_stage1.training == other.chosen.train_stage1.training
    assert other.chosen.train_stage1.training.steps == 7
