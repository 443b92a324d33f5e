"""The page in a real browser: it draws what the project's own renderer draws, plays, obeys, and asks nobody for anything."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import math
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from model.camera import Camera
from model.lamp_light import MEAN_SHARE
from model.motion.library import library_motion
from model.motion.placement import placement_of_track, skeleton_of_avatar
from model.pose import BodyPose, track_pose

def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if name not in sys.modules:
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


chromium, small_run = _beside("chromium"), _beside("small_run")
render = small_run.render

ENOUGH_DB = 40.0  # measured 55 and more; 25 is asked for


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * math.log10(float(np.square(a - b).mean()))


def still(page: chromium.Browser, **options: object) -> np.ndarray:
    """A finished picture of the page, 0..1."""
    return chromium.decode_png(page.run(f"avatarPage.still({json.dumps(options)})")).astype(np.float64) / 255


def seen_by(camera: Camera) -> dict:
    """A camera in the words of the page."""
    return {"K": camera.K.tolist(), "w2c": camera.w2c.tolist(), "width": camera.width, "height": camera.height, "background": "#ffffff"}


def from_side(camera: Camera, middle: list[float], degrees: float) -> Camera:
    """The same camera carried around a point, about the vertical."""
    turn = torch.eye(4)
    turn[:3, :3] = torch.from_numpy(Rotation.from_euler("y", degrees, degrees=True).as_matrix()).float()
    turn[:3, 3] = torch.tensor(middle) - turn[:3, :3] @ torch.tensor(middle)
    return Camera(camera.K, camera.w2c @ turn, camera.width, camera.height)


def bent(pose: BodyPose, joint: int, degrees: list[float]) -> BodyPose:
    """A pose with one joint turned further about its own axes."""
    vectors = pose.body_pose.clone()
    turned = Rotation.from_rotvec(vectors[joint - 1].numpy()) * Rotation.from_rotvec(np.deg2rad(degrees))
    vectors[joint - 1] = torch.from_numpy(turned.as_rotvec()).float()
    return BodyPose(pose.global_orient, vectors, pose.transl)


@pytest.mark.parametrize(("row", "degrees"), [(0, 0), (2, 0), (4, 90), (4, 180), (1, -40)])
def test_a_picture_equals_the_projects_own_render_of_the_same_pose_and_camera(
    page: chromium.Browser, run: small_run.Run, row: int, degrees: float
) -> None:
    camera = from_side(run.track.camera, [0.1, 0.0, 4.0], degrees)
    ours = render(run, track_pose(run.track, row), camera)
    theirs = still(page, motion="clip", row=row, **seen_by(camera))
    assert (ours < 0.9).any(axis=-1).mean() > 0.05, "somebody is to be seen"
    assert psnr(ours, theirs[..., :3]) > ENOUGH_DB


def test_shadows_fall_on_the_body_where_the_projects_own_fall(page: chromium.Browser, run: small_run.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    joint, camera = run.body.joint_names.index("left_shoulder"), run.track.camera
    pose = bent(track_pose(run.track, 0), joint, [0, -90, 0])  # an arm before the body
    ours = render(run, pose, camera)
    page.run(f"avatarPage.bend({joint}, [0, -90, 0])")
    theirs = still(page, motion="clip", row=0, **seen_by(camera))[..., :3]
    page.run(f"avatarPage.bend({joint}, [0, 0, 0])")

    class NothingInTheWay:
        def share(self, which: np.ndarray, means: np.ndarray, normals: np.ndarray) -> np.ndarray:
            return np.maximum(normals[which] @ run.avatar.lamp.numpy(), 0) - MEAN_SHARE

    monkeypatch.setattr("model.posing.cast_shadows", lambda means, lamp: NothingInTheWay())
    without = render(run, pose, camera)
    shadowed = np.abs(ours - without).max(-1) > 0.04
    assert shadowed.mean() > 0.005, "there are shadows"
    assert np.abs(theirs - ours)[shadowed].mean() < 0.2 * np.abs(without - ours)[shadowed].mean()


def test_light_carried_around_the_person_is_that_of_a_lamp_in_another_place(page: chromium.Browser, run: small_run.Run) -> None:
    pose, camera = track_pose(run.track, 0), run.track.camera
    turn = torch.from_numpy(Rotation.from_euler("y", -110, degrees=True).as_matrix()).float()  # the track's y points down
    page.run("avatarPage.turnLight(110)")
    theirs = still(page, motion="clip", row=0, **seen_by(camera))[..., :3]
    page.run("avatarPage.turnLight(0)")
    back = still(page, motion="clip", row=0, **seen_by(camera))[..., :3]
    before, lit = render(run, pose, camera), copy.deepcopy(run.avatar)
    with torch.no_grad():
        lit.lamp.copy_(turn @ lit.lamp)
        lit.light[:3] = turn @ lit.light[:3]
    assert psnr(render(dataclasses.replace(run, avatar=lit), pose, camera), theirs) > ENOUGH_DB
    assert psnr(before, back) > ENOUGH_DB > 35 > psnr(before, theirs)


def test_a_motion_of_the_library_is_posed_as_the_project_poses_it(page: chromium.Browser, run: small_run.Run) -> None:
    skeleton = skeleton_of_avatar(run.avatar)
    squat = placement_of_track(run.track, skeleton).carry(library_motion("squat", skeleton))
    ours = render(run, squat[50], run.track.camera)
    theirs = still(page, motion="squat", row=50, **seen_by(run.track.camera))
    assert psnr(ours, theirs[..., :3]) > ENOUGH_DB
    assert psnr(ours, render(run, squat[0], run.track.camera)) < 25, "the row matters"


def test_a_bent_joint_is_the_joints_own_turn(page: chromium.Browser, run: small_run.Run) -> None:
    pose, joint = track_pose(run.track, 1), run.body.joint_names.index("left_elbow")
    page.run(f"avatarPage.bend({joint}, [10, -80, 20])")
    theirs = still(page, motion="clip", row=1, **seen_by(run.track.camera))
    assert psnr(render(run, bent(pose, joint, [10, -80, 20]), run.track.camera), theirs[..., :3]) > ENOUGH_DB
    page.run(f"avatarPage.bend({joint}, [0, 0, 0])")
    theirs = still(page, motion="clip", row=1, **seen_by(run.track.camera))
    assert psnr(render(run, pose, run.track.camera), theirs[..., :3]) > ENOUGH_DB


def test_loading_asks_the_network_for_nothing(fresh_page: chromium.Browser) -> None:
    page = fresh_page
    still(page, motion="clip", row=0, width=64, height=64)
    schemes = {address.split(":")[0] for address in page.requests}
    assert "file" in schemes and schemes <= {"file", "data", "blob"}
    assert [address for address in page.requests if address.startswith("file:")] == [page.requests[0]], "one file, and no other"
    assert page.errors == []


def test_the_first_picture_of_a_paused_page_is_as_good_as_a_later_one(fresh_page: chromium.Browser) -> None:
    page = fresh_page
    page.run("avatarPage.seek(0.5), avatarPage.look('back')")
    first, second = still(page, width=200, height=200), still(page, width=200, height=200)
    assert np.abs(first - second).max() == 0


def test_after_a_jump_of_view_the_first_picture_drawn_is_a_finished_one(page: chromium.Browser) -> None:
    """No half body with the old view's culling: the last picture stays until the splats are sorted."""
    page.run("(window.drawn = [], window.drawing = avatarPage.room.renderer.render.bind(avatarPage.room.renderer), 0)")
    page.run(
        "avatarPage.room.renderer.render = (scene, camera) => { drawing(scene, camera);"
        "if (scene === avatarPage.room.scene) drawn.push(avatarPage.room.canvas.toDataURL()); }; 0"
    )
    try:
        for view in ("back", "left"):
            page.wait_for("!avatarPage.room.dirty && !avatarPage.room.settling && !avatarPage.room.spark.sorting")
            page.run(f"drawn.length = 0, avatarPage.look('{view}'), 0")
            first = chromium.decode_png(page.wait_for("drawn[0]"))[..., :3] / 255
            finished = still(page, width=first.shape[1], height=first.shape[0])[..., :3]
            assert np.abs(first - finished).max() < 0.02
    finally:
        page.run("avatarPage.room.renderer.render = drawing, 0")


@pytest.mark.slow
def test_in_a_low_narrow_window_neither_buttons_nor_player_cover_the_person(browser: chromium.Browser, run: small_run.Run) -> None:
    try:
        browser.open(run.page, size=(360, 420), query="?play=0&motion=walk")
        browser.wait_for("location.search == '?play=0&motion=walk' && document.body?.dataset.state == 'ready'")
        head_and_feet = browser.run(
            "(() => { const { room, middle } = avatarPage; room.camera.updateMatrixWorld(); const whole = room.canvas.getBoundingClientRect();"
            "return [room.height, 0].map((y) => whole.top + (1 - middle.clone().setY(y).project(room.camera).y) / 2 * whole.height); })()"
        )
        panels = browser.run("[document.getElementById('views').getBoundingClientRect().bottom, document.getElementById('player').getBoundingClientRect().top]")
        assert panels[0] <= head_and_feet[0] < head_and_feet[1] <= panels[1]
    finally:
        browser.open(run.page, size=(640, 420), query="?play=0")
        browser.wait_for("location.search == '?play=0' && document.body?.dataset.state == 'ready'")


@pytest.mark.slow
def test_it_plays_at_a_measured_rate_and_starts_again_at_the_end(page: chromium.Browser) -> None:
    page.run("avatarPage.play(true)")
    rate = page.wait_for("avatarPage.rate >= 2 && avatarPage.rate")  # frames in the last second; a graphics card draws 60
    print(f"{rate} frames a second, in software, {small_run.SIZE} px")
    seconds = page.run("avatarPage.motion.seconds")
    seen, deadline = [page.run("avatarPage.time")], time.monotonic() + 20
    while time.monotonic() < deadline and not any(later < earlier for earlier, later in zip(seen, seen[1:], strict=False)):
        time.sleep(0.05)
        seen.append(page.run("avatarPage.time"))
    assert 0 <= min(seen) and max(seen) <= seconds and len(set(seen)) > 3
    assert seen[-1] < seen[-2], "it repeats"
    assert page.run("document.getElementById('rate').textContent").endswith("frames/s")


def test_the_video_shows_the_frame_of_the_avatars_pose(page: chromium.Browser, run: small_run.Run) -> None:
    for row in (3, 0):
        page.run(f"avatarPage.choose('clip'), avatarPage.seek({row / 5})")
        assert page.run(f"document.getElementById('frame').src.endsWith(avatarPage.content.video.frames[{row}])")
        assert f"frame {row}" in page.run("document.getElementById('caption').textContent")
    page.run("avatarPage.choose('squat')")
    assert page.run("document.getElementById('video').hidden"), "no video shows a squat"


def test_the_videos_camera_frames_the_avatar_as_the_video_does(page: chromium.Browser, run: small_run.Run) -> None:
    page.run("avatarPage.choose('clip'), avatarPage.look('video'), avatarPage.paint('#ffffff', false)")
    size = small_run.SIZE
    through = still(page, row=2, width=size, height=size)
    assert psnr(through[..., :3], render(run, track_pose(run.track, 2), run.track.camera)) > ENOUGH_DB


def test_the_person_stands_on_the_floor_and_faces_whoever_opens_the_page(page: chromium.Browser) -> None:
    middle = page.run("avatarPage.choose('still'), avatarPage.look('front'), avatarPage.middle.toArray()")
    assert np.allclose(np.array(middle)[[0, 2]], 0, atol=0.05)
    forward = page.run("(() => { const j = avatarPage.avatar.pose(avatarPage.motion.poseAt(0)).joints; const names = avatarPage.content.skeleton.names;"
                       "const at = (n) => avatarPage.room.camera.position.clone().set(...j[names.indexOf(n)]).applyMatrix4(avatarPage.room.toPage).toArray();"
                       "return [at('left_ankle'), at('left_foot'), at('head')]; })()")  # fmt: skip
    ankle, toes, head = map(np.array, forward)
    assert 0 < toes[1] < ankle[1] < 0.2 and head[1] > 1.2, "heights in metres, y up"
    assert toes[2] > ankle[2] + 0.05, "toes towards the viewer"
    assert ankle[0] > 0.03, "the left foot to the viewer's right"


@pytest.mark.slow
def test_the_address_chooses_motion_time_and_view_and_nonsense_does_no_harm(browser: chromium.Browser, run: small_run.Run) -> None:
    try:
        for query, state in (
            ("?motion=wave&time=1.5&view=back&play=0", ["wave", 1.5, "back", False]),
            ("?motion=nothing&time=soon&view=%3Cb%3E&play=0", ["clip", 0, "front", False]),
        ):
            browser.open(run.page, size=(500, 300), query=query)
            browser.wait_for(f"location.search == {json.dumps(query)} && document.body?.dataset.state == 'ready'")
            pressed = "document.querySelector('#views [aria-pressed=true]').dataset.view"
            assert browser.run(f"[avatarPage.motion.name, avatarPage.time, {pressed}, avatarPage.playing]") == state
            assert browser.errors == []
    finally:
        browser.open(run.page, size=(640, 420), query="?play=0")
        browser.wait_for("location.search == '?play=0' && document.body?.dataset.state == 'ready'")


def test_a_picture_can_be_clear_and_of_any_colour(page: chromium.Browser) -> None:
    clear = still(page, width=80, height=80, background=None)
    assert clear.shape[2] == 4 and clear[0, 0, 3] == 0 and clear[..., 3].max() > 0.99
    red = still(page, width=80, height=80, background="#ff0000")
    assert red[0, 0, :3].tolist() == [1, 0, 0]


def test_dragging_turns_the_camera_and_the_wheel_brings_it_nearer(page: chromium.Browser) -> None:
    page.run("avatarPage.choose('still'), avatarPage.look('front')")
    where = "(() => { const c = avatarPage.room.camera.position, t = avatarPage.room.controls.target; return [c.x - t.x, c.y - t.y, c.z - t.z]; })()"
    before = np.array(page.run(where))
    for kind, x in (("mousePressed", 150), ("mouseMoved", 200), ("mouseMoved", 250), ("mouseReleased", 250)):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=200, button="left", buttons=1, clickCount=1)
    page.wait_for(f"Math.abs({where}[0]) > 0.5")
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=150, y=200, deltaX=0, deltaY=-240)
    page.wait_for(f"Math.hypot(...{where}) < {0.97 * np.linalg.norm(before)}")


def test_every_control_on_the_panel_works(page: chromium.Browser) -> None:
    page.run("document.querySelector('[data-view=back]').click(), document.querySelector('#motions [value=wave]').click()")
    assert page.run("avatarPage.motion.name") == "wave" and page.run("avatarPage.playing")
    page.run("document.getElementById('play').click()")
    assert not page.run("avatarPage.playing")
    page.run("(() => { const s = document.getElementById('scrub'); s.value = 1.25; s.oninput({ target: s }); })()")
    assert page.run("avatarPage.time") == pytest.approx(1.25, abs=1e-6)
    page.run("document.querySelector('#backgrounds [data-color=\"#15181c\"]').click()")
    assert page.run("avatarPage.background") == "#15181c"
    page.run("(() => { const b = document.querySelectorAll('#sliders input')[2]; b.value = 45; b.oninput(); })()")
    assert page.run("[...avatarPage.extra.values()]") == [[0, 0, 45]]
    page.run("document.getElementById('reset-pose').click()")
    assert page.run("avatarPage.extra.size") == 0
    page.run("(() => { const s = document.getElementById('light-turn'); s.value = 90; s.oninput({ target: s }); })()")
    assert page.run("avatarPage.lightTurn") == 90
    page.run("avatarPage.turnLight(0)")
    page.run("document.getElementById('turntable').click()")
    page.wait_for("Math.abs(avatarPage.room.camera.position.x) > 0.02")
    assert page.errors == []


@pytest.mark.slow
def test_without_webgl2_the_page_says_so_in_words(run: small_run.Run) -> None:
    if chromium.find_chromium() is None:
        pytest.skip("no Chromium on this machine")
    with chromium.chromium(*chromium.NO_GL) as browser:
        browser.open(run.page)
        browser.wait_for("document.body?.dataset.state == 'no-webgl2'")
        assert "WebGL 2" in browser.run("document.getElementById('message').innerText")
        assert not browser.run("document.getElementById('message').hidden")
        assert browser.errors == []


def test_the_stage_says_what_it_made_and_the_page_what_it_shows(run: small_run.Run) -> None:
    assert "avatar.html" in run.said and "MB, 7 motions" in run.said
    assert "within 29.8 dB of the video" in run.page.read_text(encoding="utf-8")
