"""The figures of the bench over people, on cases whose answer is known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from benchmarks.accuracy_page import END, PAGE, START, WORDS, judged, tables
from benchmarks.cast import FILM, MEMBERS, VARIANTS, Member, _keep_current, film_settings, stage_keys, true_height, true_K, variant_paths, variant_settings
from benchmarks.people import heading_errors, known_distance_height, longest_run, wrong_sides
from benchmarks.quality import for_person
from tasks.artifacts import subject_paths
from tasks.settings import load_settings

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


def standing(frames: int = 3) -> np.ndarray:
    """Joints 4 m away, legs straight down, arms out to the sides in the picture's plane."""
    joints = np.tile(np.array([0.0, 0.0, 4.0]), (frames, 24, 1))
    for side, (shoulder, elbow, wrist) in ((1, (16, 18, 20)), (-1, (17, 19, 21))):
        for j, x in ((shoulder, 0.2), (elbow, 0.45), (wrist, 0.7)):
            joints[:, j] += [side * x, -0.4, 0]
    for j, y in ((1, 0.1), (4, 0.5), (7, 0.9), (2, 0.1), (5, 0.5), (8, 0.9)):
        joints[:, j] += [0.1 if j in (1, 4, 7) else -0.1, y, 0]
    return joints


def test_a_limb_mirrored_in_depth_is_on_the_wrong_side() -> None:
    truth, ours = standing(), standing()
    truth[1:, 20, 2] -= 0.2
    ours[1:, 20, 2] += 0.2
    wrong = wrong_sides(ours, truth)
    assert wrong["left arm"].tolist() == [False, True, True]
    assert not any(wrong[limb].any() for limb in ("right arm", "left leg", "right leg"))


def test_a_limb_that_hardly_slopes_has_no_side() -> None:
    truth, ours = standing(), standing()
    truth[:, 20, 2] -= 0.2
    ours[:, 20, 2] += 0.03
    assert not wrong_sides(ours, truth)["left arm"].any()


@pytest.mark.parametrize(("flags", "longest"), [("", 0), ("0010", 1), ("110111", 3), ("1111", 4)])
def test_the_longest_run(flags: str, longest: int) -> None:
    assert longest_run(np.array([c == "1" for c in flags], dtype=bool)) == longest


def test_a_body_turned_round_is_off_by_half_a_turn() -> None:
    upside = np.diag([1.0, -1.0, -1.0])  # the world's y points up, the camera's down
    orient = Rotation.from_rotvec(np.deg2rad(np.outer([0, 40, 170], [0, 1, 0])))
    truth = SimpleNamespace(clip_w2c=np.eye(4), clip=SimpleNamespace(global_orient=orient.as_rotvec()))
    truth.clip_w2c[:3, :3] = upside
    seen = Rotation.from_matrix(upside @ orient.as_matrix())
    turned = seen * Rotation.from_rotvec(np.deg2rad(np.outer([0, 10, 180], [0, 1, 0])))
    track = SimpleNamespace(w2c=torch.eye(4), global_orient=torch.from_numpy(turned.as_rotvec()))
    errors = heading_errors(track, truth, SimpleNamespace(source_frames=[0, 1, 2]))
    np.testing.assert_allclose(errors, [0, 10, 180], atol=1e-3)


def test_a_known_distance_settles_the_height() -> None:
    """A body fitted too small and too near by the same share, through a lens thought too long: it looks the same."""
    K = np.diag([1000.0, 1000.0, 1.0])
    track = SimpleNamespace(K=torch.tensor(np.diag([1100.0, 1100.0, 1.0])))
    errors = SimpleNamespace(distance=np.full(4, 4.0), depth=np.full(4, 1000 * (4.0 * 0.9 * 1.1 - 4.0)))
    assert known_distance_height(0.9 * 1.8, track, errors, K) == pytest.approx(1.8)


def test_the_true_camera_follows_the_cut() -> None:
    truth = SimpleNamespace(clip_K=np.array([[1400.0, 0, 640], [0, 1400, 360], [0, 0, 1]]))
    K = true_K(truth, SimpleNamespace(crop=[300.0, 20.0, 680.0], resolution=340))
    np.testing.assert_allclose(K, [[700, 0, 170], [0, 700, 170], [0, 0, 1]])


def test_a_change_of_settings_touches_a_stage_and_those_after_it() -> None:
    settings = load_settings()
    other = settings.model_copy(update={"segment_person": settings.segment_person.model_copy(update={"max_flagged_share": 0.123})})
    one, two = stage_keys(settings, "film"), stage_keys(other, "film")
    assert {stage for stage in one if one[stage] != two[stage]} == {"segment_person", "fit_smpl"}
    assert all(one[stage] != again for stage, again in stage_keys(settings, "another film").items())


def test_what_is_current_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    member, product = MEMBERS["ada"], tmp_path / "product"
    monkeypatch.setattr(Member, "paths", property(lambda self: subject_paths(str(tmp_path))))

    def make() -> None:
        made.append("made")
        product.touch()

    for key, as_is, count in (("a", False, 1), ("a", False, 1), ("b", True, 1), ("b", False, 2)):
        _keep_current(member, "stage", key, product, make, as_is=as_is)
        assert len(made) == count


def test_the_demo_is_filmed_as_params_say_and_the_others_shorter() -> None:
    settings = load_settings()
    assert film_settings(MEMBERS["demo"], settings) == settings.make_demo
    ada = film_settings(MEMBERS["ada"], settings)
    assert ada.seed == 1 and ada.fps == FILM["fps"] and ada.width == settings.make_demo.width


def test_quality_takes_a_member_of_the_cast() -> None:
    settings = for_person(load_settings(), MEMBERS["bela"])
    assert settings.subject.name == "cast-bela" and settings.subject.truth == "data/cast/bela/truth"


def fitted(**changes: object) -> dict[str, object]:
    """The figures of a fit that meets every target."""
    row = {
        "frames": 80, "mpjpe": 50.0, "pa": 30.0, "worst_mpjpe": 90.0, "depth_mm": -100.0, "distance_m": 4.0, "height_m": 1.75, "true_height_m": 1.8,
        "height_at_known_distance_m": 1.79, "iou": 0.90, "iou_ceiling": 0.91, "flipped_frames": 0, "processor_seconds_per_frame": 0.5,
        "wrong_side_frames": {"left arm": 4, "right arm": 0, "left leg": 0, "right leg": 0},
    }  # fmt: skip
    return row | changes


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, None), ({"mpjpe": 61.0}, "{}, mean"), ({"pa": 41.0}, "{}, mean"), ({"height_at_known_distance_m": 1.76}, "height where"),
        ({"iou": 0.89}, "silhouette"), ({"flipped_frames": 1}, "frames that face the wrong way, {}"),
        ({"wrong_side_frames": {"left leg": 6}}, "a limb on the wrong side, longest, {}"), ({"turntable": {"mpjpe": 41.0, "pa": 20.0}}, "turntables, {}"),
    ],
)  # fmt: skip
def test_a_missed_target_is_said_to_be(changes: dict, missed: str | None) -> None:
    said = [what for what, *_, met in judged({"somebody": {"fit": fitted(**changes)}}) if not met]
    assert len(said) == (missed is not None) and all(what.startswith(missed.format(WORDS["fit"])) for what in said)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [({}, None), ({"pa": 41.0}, "{}, mean"), ({"flipped_frames": 1}, "frames that face the wrong way, {}"), ({"turntable": {"mpjpe": 30.0, "pa": 26.0}}, "turntables, {}")],
)  # fmt: skip
def test_what_the_look_makes_of_a_fit_is_judged_by_itself(changes: dict, missed: str | None) -> None:
    said = [what for what, *_, met in judged({"somebody": {"fit": fitted(), "look": fitted(**changes)}}) if not met]
    assert len(said) == (missed is not None) and all(what.startswith(missed.format(WORDS["look"])) for what in said)


def test_a_wrong_focal_length_is_compared_with_the_right_one() -> None:
    row = {"fit": fitted(), "focal_right": fitted(mpjpe=44.0), "focal_wrong": fitted(mpjpe=50.0)}
    (what,) = [found for found in judged({"somebody": row}) if found[0].startswith("focal length 1.5")]
    assert what[1] == "+6.0 mm" and not what[4]


def test_the_page_shows_every_person_and_what_was_not_run() -> None:
    report = {"machine": "a machine", "torch": "2", "commit": "abc", "people": {"one": {"fit": fitted()}, "two": {"fit": fitted(), "refined": fitted(mpjpe=33.0)}}}
    text = tables(report)
    assert "| one | 50 / 30 | not run |" in text and "| two | 50 / 30 | 33 / 30 |" in text
    assert all(mark in PAGE.read_text(encoding="utf-8") for mark in (START, END))


def test_what_a_variant_knows_its_refinement_on_the_look_knows_too() -> None:
    settings, member = load_settings(), MEMBERS["ada"]
    knowing = variant_settings(member, VARIANTS["perfect_points_height"], settings)
    assert knowing.fit_smpl.height == true_height(member) and knowing.fit_smpl.landmark == knowing.refine_fit.landmark < settings.refine_fit.landmark
    assert knowing.refine_fit.focal_spread < settings.refine_fit.focal_spread
    assert variant_settings(member, VARIANTS["fit"], settings) == settings


def test_a_variant_shares_frames_and_masks_and_nothing_else() -> None:
    own, other = MEMBERS["ada"].paths, variant_paths(MEMBERS["ada"], "perfect_points")
    assert (other.frames, other.masks) == (own.frames, own.masks)
    assert len({own.fit, own.fit_refined, other.fit, other.fit_refined}) == 4
