"""Hands on the page in a real browser: moving and zooming with mouse and fingers, and a picture to keep."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if name not in sys.modules:
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


chromium = _beside("chromium")

TARGET = "avatarPage.room.controls.target.toArray()"
FROM_TARGET = "avatarPage.room.camera.position.clone().sub(avatarPage.room.controls.target).toArray()"
CANVAS = (150.0, 200.0)  # px, on the avatar


@pytest.fixture
def standing(page: chromium.Browser) -> chromium.Browser:
    """The page with the person standing still, seen from the front, and no movement of the camera left over."""
    page.run("avatarPage.choose('still'), avatarPage.room.controls.enableDamping = false, avatarPage.look('front')")
    return page


def touch(page: chromium.Browser, kind: str, *points: tuple[float, float]) -> None:
    """Fingers on the screen; none for touchEnd."""
    page.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)])


def drag(page: chromium.Browser, starts: list[tuple[float, float]], ends: list[tuple[float, float]], *, steps: int = 4) -> None:
    """Fingers set down, moved in straight lines, and lifted."""
    touch(page, "touchStart", *starts)
    for step in range(1, steps + 1):
        touch(page, "touchMove", *(tuple(np.array(a) + (np.array(b) - a) * step / steps) for a, b in zip(starts, ends, strict=True)))
        time.sleep(0.03)
    touch(page, "touchEnd")


def test_the_right_button_moves_what_the_camera_looks_at_and_keeps_the_distance(standing: chromium.Browser) -> None:
    before, away = np.array(standing.run(TARGET)), np.array(standing.run(FROM_TARGET))
    x, y = CANVAS
    for kind, to in (("mousePressed", x), ("mouseMoved", x + 30), ("mouseMoved", x + 60), ("mouseReleased", x + 60)):
        standing.call("Input.dispatchMouseEvent", type=kind, x=to, y=y, button="right", buttons=2, clickCount=1)
    standing.wait_for(f"Math.abs({TARGET}[0] - {before[0]}) > 0.1")
    after = np.array(standing.run(TARGET))
    assert after[0] < before[0], "the person follows the hand to the right"
    assert np.allclose(standing.run(FROM_TARGET), away, atol=1e-6)


def test_one_finger_turns_two_come_nearer_and_move(standing: chromium.Browser) -> None:
    x, y = CANVAS
    away = np.array(standing.run(FROM_TARGET))
    drag(standing, [(x, y)], [(x + 80, y)])
    standing.wait_for(f"Math.abs({FROM_TARGET}[0]) > 0.5")
    assert np.linalg.norm(standing.run(FROM_TARGET)) == pytest.approx(np.linalg.norm(away), rel=1e-3)
    standing.run("avatarPage.look('front')")
    drag(standing, [(x - 20, y), (x + 20, y)], [(x - 70, y), (x + 70, y)])
    standing.wait_for(f"Math.hypot(...{FROM_TARGET}) < {0.7 * np.linalg.norm(away)}")
    standing.run("avatarPage.look('front')")
    before = np.array(standing.run(TARGET))
    drag(standing, [(x - 20, y), (x + 20, y)], [(x - 20, y - 60), (x + 20, y - 60)])
    standing.wait_for(f"{TARGET}[1] < {before[1] - 0.1}")


def test_a_picture_is_saved_as_png_under_the_name_of_what_it_shows(page: chromium.Browser) -> None:
    page.run("window.saved = [], HTMLAnchorElement.prototype.click = function () { saved.push([this.href, this.download]); }")
    page.run("avatarPage.choose('clip'), avatarPage.seek(0.4), document.getElementById('clear').checked || document.getElementById('clear').click()")
    page.run("document.getElementById('shot').click()")
    page.wait_for("saved.length == 1")
    address, name = json.loads(page.run("JSON.stringify(saved[0])"))
    picture = chromium.decode_png(address)
    assert name == "small-clip-0.40.png"
    assert picture.shape[2] == 4 and picture[0, 0, 3] == 0 and (picture[..., 3] > 250).mean() > 0.02, "the person before nothing"
    assert list(picture.shape[1::-1]) == page.run("[avatarPage.room.canvas.width, avatarPage.room.canvas.height]")
    page.run("document.getElementById('clear').click()")


def test_the_camera_follows_a_walking_person_until_told_not_to(page: chromium.Browser) -> None:
    page.run("avatarPage.choose('walk'), avatarPage.seek(0)")
    start, middle = np.array(page.run(TARGET)), np.array(page.run("avatarPage.middle.toArray()"))
    page.run("avatarPage.seek(avatarPage.motion.seconds / 2)")
    moved = np.array(page.run("avatarPage.middle.toArray()")) - middle
    assert np.linalg.norm(moved) > 0.2
    assert np.allclose(page.run(TARGET), start + moved, atol=1e-3)
    page.run("document.getElementById('follow').click(), avatarPage.seek(0)")
    assert np.allclose(page.run(TARGET), start + moved, atol=1e-6)
    page.run("document.getElementById('follow').click()")
