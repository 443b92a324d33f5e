"""Claims about what can be looked at of a fit: the film shows what was fitted, the page says the numbers and the doubts."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

from model.fitting.film import SIDE, STRIP, FitScenes, draw_pair, draw_strip
from model.fitting.picture import OUTLINE
from tasks.fit_page import chart, doubt_table, joint_map, landmark_misses, write_film, write_page

FRAMES, SIZE = 6, 120
BOX = np.array([[x, y, z] for x in (-0.25, 0.25) for y in (-0.8, 0.8) for z in (-0.15, 0.15)])
FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])


@pytest.fixture
def scenes() -> FitScenes:
    """A box of a person who walks to the right, 3 m away; the third frame is doubted."""
    x = np.linspace(-0.3, 0.3, FRAMES)
    place = np.stack([x, np.zeros(FRAMES), np.full(FRAMES, 3.0)], 1)
    joints = place[:, None] + np.array([[0, 0, 0], [0, -0.75, 0], [0, 0.75, 0]])
    mask = np.zeros((FRAMES, SIZE, SIZE), np.uint8)
    mask[:, 20:100, 45:75] = 255
    return FitScenes(
        images=np.full((FRAMES, SIZE, SIZE, 3), 60, np.uint8), masks=mask, surface=lambda frame: BOX + place[frame], joints=joints,
        faces=FACES, parents=np.array([-1, 0, 0]), focal_px=150.0, principal=(SIZE / 2, SIZE / 2), level=np.eye(3),
        points=np.full((FRAMES, 33, 2), 60.0), certainty=np.full((FRAMES, 33), 0.5), joint_confidence=np.ones((FRAMES, 3)), confidence=np.array([1.0, 1, 0.3, 1, 1, 1]), reasons={2: "landmarks are missed by 9 px"},
        times=np.arange(FRAMES) / 10, captions=["IoU 0.90"] * FRAMES,
    )  # fmt: skip


def test_the_outline_lies_where_the_body_projects(scenes: FitScenes):
    picture = draw_pair(scenes, 4)
    assert picture.shape == (SIDE, SIDE + SIDE // 2, 3)
    x0, y0, side = scenes.window(4)
    picture[-40:, :60] = 0  # the legend, in the outline's colour
    rows, columns = np.nonzero((np.abs(picture[:, :SIDE].astype(int) - OUTLINE) < 40).all(-1))
    seen = np.array([columns.min(), columns.max(), rows.min(), rows.max()]) * side / SIDE + np.array([x0, x0, y0, y0])
    corners = scenes.project(scenes.surface(4))
    expected = np.stack([corners.min(0), corners.max(0)], 1).ravel()
    assert np.abs(seen - expected).max() < 1.5  # px of the frame


def test_the_shown_part_keeps_its_size_and_stays_in_the_picture(scenes: FitScenes):
    windows = np.array([scenes.window(frame) for frame in range(FRAMES)])
    assert len(set(windows[:, 2])) == 1 and (windows[:, :2] >= 0).all() and (windows[:, :2] + windows[:, 2:] <= SIZE).all()
    assert (np.diff(windows[:, 0]) >= 0).all()


def test_the_strip_marks_doubted_frames_and_the_present_one(scenes: FitScenes):
    strip = draw_strip(scenes, 5, 600)
    assert strip.shape == (STRIP, 600, 3)
    red = (strip[STRIP - 6].astype(int) - (222, 84, 60) == 0).all(-1)
    assert np.flatnonzero(red).min() == 200 and np.flatnonzero(red).max() == 299


def test_the_film_has_every_frame(scenes: FitScenes, tmp_path: Path):
    write_film(tmp_path / "overlay.mp4", scenes, fps=10.0)
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == FRAMES and (frames[0].width, frames[0].height) == (SIDE + SIDE // 2, SIDE + STRIP)


def test_landmarks_are_grouped_and_those_never_sure_are_not_known():
    misses = np.full((2, 33), np.nan)
    misses[:, 15], misses[0, 16] = 4.0, 7.0
    groups = landmark_misses(misses)
    assert groups["wrists"] == pytest.approx(5.0) and groups["knees"] is None


def test_runs_of_one_doubt_share_a_line():
    table = doubt_table({"4": "a <b>", "5": "a <b>", "9": "a <b>"}, range(10))
    assert "4 to 5" in table and "<td>9</td>" in table and "a &lt;b&gt;" in table and table.count("<tr>") == 3


def test_a_chart_breaks_where_nothing_is_known():
    drawn = chart(np.array([1.0, 2.0, np.nan, 1.0]), [1], [10, 11, 12, 13])
    assert drawn.count("M") == 2 and "frame 10" in drawn and "frame 13" in drawn and drawn.count('class="bad"') == 1
    assert "Not known" in chart(np.full(3, np.nan), [], [0, 1, 2])


def test_the_map_of_joints_is_darker_where_more_error_is_expected():
    spread = np.stack([np.zeros(400), np.linspace(0, 0.15, 400)], 1)
    drawn = joint_map(spread, ("pelvis", "left_hip"), range(400))
    shades = [float(part.split('"')[0]) for part in drawn.split('opacity="')[1:]]
    assert len(shades) <= 150 and shades == sorted(shades) and shades[0] < 0.02 and shades[-1] > 0.98
    assert "left hip" in drawn and "pelvis" not in drawn and ">75<" in drawn and "frame 399" in drawn


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path):
    record = {"reprojection_px": 3.14, "iou_mean": None, "frames": 3, "distrusted": {"1": "the mask is flagged"}, "landmark_px": {"knees": 2.0}}
    path = tmp_path / "fit.html"
    write_page(path, title="Body fit of <me>", record=record, series={"silhouette IoU": np.array([0.9, 0.8, 0.7])},
               joint_spread=np.full((3, 2), 0.075), joint_names=("pelvis", "left_hip"), frame_ids=[0, 1, 2],
               doubted=[1], notes=["the camera shook"])  # fmt: skip
    page = path.read_text()
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            opened.extend(value for name, value in attrs if name in ("src", "href"))

    Reader().feed(page)
    assert opened == ["overlay.mp4"]
    assert "3.1 px" in page and "Body fit of &lt;me&gt;" in page and "the mask is flagged" in page and "the camera shook" in page
    assert "knees missed by" in page
