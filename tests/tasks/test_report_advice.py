"""Suggestions on how to film better: each rule speaks from its threshold on and only then, and a good clip gets none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from model.camera_motion import CameraMotion
from tasks import report_advice as rules
from tasks.camera_checks import judge_camera
from tasks.report_advice import RULES, advise
from tasks.report_filming import Filming, camera_moved
from tasks.settings import ExtractFramesSettings
from tasks.video_file import VideoFile

GOOD = Filming(
    source_width=1080, source_height=1920, person_px=1200.0, seconds=10.0, frames=100, dropped=0, turned_deg=350.0,
    seen={"head, front": 1.0, "head, back": 0.9, "crown": 0.8, "torso, front": 1.0, "torso, back": 1.0, "arms": 0.9, "armpits": 0.8, "hands": 0.9, "soles": 0.1},
    sides={"arms": (0.9, 0.9), "hands": (0.9, 0.9), "legs": (1.0, 1.0), "feet": (0.9, 0.9)},
    cut={"bottom": 0, "top": 0, "left": 0, "right": 0}, sharpness=0.2, blurred=0, brightness=0.8, burnt=0.0, exposure_drift=0.0, evened=0.0,
    outline_contrast=30.0, camera_px=0.0, camera_share=0.0, others=0, flagged=0, doubted=0,
)  # fmt: skip


def seen(**shares: float) -> dict[str, float]:
    return dict(GOOD.seen) | {name.replace("_", ", "): share for name, share in shares.items()}


BELOW = 1e-6
CASES = {  # rule -> (what is wrong, what is just not wrong, words that the text must hold)
    "turn_round": (
        {"seen": seen(torso_back=rules.HIDDEN_SHARE - 0.01), "turned_deg": 170.0},
        {"seen": seen(torso_back=rules.HIDDEN_SHARE), "turned_deg": 170.0},
        ("49%", "170°"),
    ),
    "show_front": ({"seen": seen(torso_front=rules.HIDDEN_SHARE - 0.01)}, {"seen": seen(torso_front=rules.HIDDEN_SHARE)}, ("49%",)),
    "keep_inside": ({"cut": {"bottom": 34}}, {"cut": {"bottom": rules.CUT_FRAMES}}, ("Feet", "bottom", "34 of 100")),
    "come_nearer": ({"person_px": 210.0}, {"person_px": rules.SMALL_PERSON_PX}, ("210 px", "1920 px")),
    "hold_still": ({"camera_px": 25.0, "camera_share": 0.02}, {"camera_px": 5.0, "camera_share": rules.CAMERA_SHARE}, ("25 px", "2.0%")),
    "stay_in_view": ({"dropped": 12}, {"dropped": 5}, ("12 of 112",)),
    "clear_masks": ({"flagged": 16}, {"flagged": 15}, ("16 of 100",)),
    "plain_poses": ({"doubted": 16}, {"doubted": 15}, ("16 of 100",)),
    "show_both_sides": ({"sides": {"arms": (0.4, 0.8)}}, {"sides": {"arms": (0.5, 0.8 - BELOW)}}, ("left", "40%", "80%")),
    "lift_arms": ({"seen": seen(armpits=0.02)}, {"seen": seen(armpits=rules.HIDDEN_ARMPITS)}, ("2%", "armpits")),
    "show_hands": ({"seen": seen(hands=0.2)}, {"seen": seen(hands=rules.HIDDEN_SHARE)}, ("20%",)),
    "show_crown": ({"seen": seen(crown=0.1)}, {"seen": seen(crown=rules.HIDDEN_CROWN)}, ("10%", "head")),
    "film_longer": ({"seconds": 2.5}, {"seconds": rules.SHORT_SECONDS}, ("2.5 s", "100")),
    "move_slowly": ({"blurred": 11}, {"blurred": 10}, ("11 of 100",)),
    "focus": ({"sharpness": 0.01}, {"sharpness": rules.SOFT_DETAIL}, ("0.01",)),
    "more_light": ({"brightness": 0.2}, {"brightness": rules.DIM}, ("20%",)),
    "less_light": ({"burnt": 0.3}, {"burnt": rules.BURNT_SHARE}, ("30%",)),
    "lock_exposure": ({"exposure_drift": 0.2}, {"exposure_drift": rules.EXPOSURE_DRIFT}, ("20%",)),
    "other_background": ({"outline_contrast": 4.0}, {"outline_contrast": rules.LIKE_BACKGROUND}, ("4",)),
    "alone": ({"others": 1}, {"others": 0}, ("another person",)),
}


def test_every_rule_has_its_case() -> None:
    assert {rule.__name__ for rule in RULES} == set(CASES) and len(RULES) == len(CASES)


def test_a_well_filmed_clip_gets_no_suggestion() -> None:
    assert advise(GOOD) == []


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_speaks_beyond_its_threshold_and_alone(rule: str) -> None:
    wrong, just_right, words = CASES[rule]
    (advice,) = advise(dataclasses.replace(GOOD, **wrong))
    assert advice.rule == rule and advice.do.endswith(".")
    assert all(word in advice.seen for word in words), advice.seen
    assert advise(dataclasses.replace(GOOD, **just_right)) == []


def test_strong_evening_is_told_as_less_exact_than_a_locked_camera() -> None:
    (advice,) = advise(dataclasses.replace(GOOD, evened=0.4))
    assert advice.rule == "lock_exposure" and "40%" in advice.seen and "evened" in advice.seen
    assert advise(dataclasses.replace(GOOD, evened=rules.EVENED)) == []


def test_what_is_not_known_is_not_judged() -> None:
    unknown = dict.fromkeys(("sharpness", "brightness", "burnt", "exposure_drift", "outline_contrast"), float("nan"))
    assert advise(dataclasses.replace(GOOD, **unknown, seen={}, sides={})) == []


def test_a_back_that_a_full_turn_did_not_show_asks_for_no_turn() -> None:
    assert advise(dataclasses.replace(GOOD, seen=seen(torso_back=0.1), turned_deg=rules.FULL_TURN_DEG)) == []


def test_each_edge_that_cuts_is_named() -> None:
    found = advise(dataclasses.replace(GOOD, cut={"bottom": 10, "left": 7}))
    assert [advice.rule for advice in found] == ["keep_inside"] * 2
    assert "bottom" in found[0].do and "left" in found[1].do


def test_a_person_who_fills_a_lying_picture_is_told_to_film_upright_and_not_to_come_nearer() -> None:
    (full,) = advise(dataclasses.replace(GOOD, source_width=640, source_height=360, person_px=340.0))
    assert "upright" in full.do and "nearer" not in full.do
    (far,) = advise(dataclasses.replace(GOOD, source_width=1280, source_height=720, person_px=200.0))
    assert "nearer" in far.do and "upright" in far.do


@pytest.mark.parametrize("allowed", [False, True])
def test_the_note_of_a_moving_camera_is_read_back_in_pixels_of_the_video(allowed: bool) -> None:
    """The words are extract_frames': should they change, this fails."""
    width, scale = 64, 0.5
    pictures, video = [np.zeros((36, width, 3), np.uint8)] * 3, VideoFile(Path("clip.mp4"), round(width / scale), 72, 1.0, 25.0, 3, 0.12, np.arange(3) / 25, None)
    moved = 0.08 if allowed else 0.012
    still = np.repeat(np.eye(3)[None, :2], 3, axis=0)
    motion = CameraMotion(reference=1, to_frame=still, moved_px=np.array([0.0, 0.0, moved * width]))
    settings = ExtractFramesSettings.model_construct(allow_moving_camera=allowed)
    camera = judge_camera(motion, pictures, [None] * 3, video, np.arange(3), settings, focal_px=150.0, focal_known=False)
    px, share = camera_moved(["another note", *camera.notes])
    assert px == pytest.approx(moved * width / scale, abs=0.5) and share == pytest.approx(moved, abs=1e-3)
    assert camera_moved(["the background shows too little to tell whether the camera stood still"]) == (0.0, 0.0)
