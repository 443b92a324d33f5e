"""The report: one file that needs nothing else, holds every frame, and shows text as text."""

from __future__ import annotations

import base64
import dataclasses
import json
import re

import cv2
import numpy as np
import pytest

from tasks.pictures import encode_jpeg, encode_webp
from tasks.report import (
    MAX_CURVE_POINTS,
    MAX_PICTURE_SIDE,
    MIN_PICTURE_SIDE,
    Report,
    ReportFrame,
    ReportMotion,
    ReportSheet,
    build_report,
    picture_side,
    thin_curve,
)
from tasks.report_sections import Advice, CoverageRow, DoubtSeries, DoubtThumb, PoseChange, ReportCoverage, ReportDoubts

NUM_FRAMES = 7
SCORES = {"psnr": 28.5, "psnr_mask": 20.0, "ssim": 0.96, "lpips": None, "mask_iou": 0.95}


def a_report() -> Report:
    rng = np.random.default_rng(0)
    picture = lambda: encode_jpeg(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8), max_side=32)  # noqa: E731
    frames = [
        ReportFrame(
            frame_id=i,
            time_s=i / 10,
            role="heldout" if i == 3 else "train",
            note="",
            video=picture(),
            renders={"stage1": picture(), "stage2": picture()},
            errors={"stage1": picture(), "stage2": picture()},
            psnr={"stage1": 27.0, "stage2": None},
        )
        for i in range(NUM_FRAMES)
    ]
    return Report(
        subject="demo",
        summary="seven frames",
        tiles=[("PSNR", "28.5 dB")],
        fps=10.0,
        frames=frames,
        middles=[0.5] * NUM_FRAMES,
        turntable={"stage1": [picture()], "stage2": [picture()]},
        motions=[ReportMotion("a motion", "built in", 10.0, {"stage2": [picture()]})],
        sheets=[ReportSheet("held-out frames", "video, avatar, error", picture())],
        poses=[PoseChange(2, 3.5, picture(), picture())],
        coverage=ReportCoverage(
            num_frames=6, often_frames=5, total=0.7, pictures=[("front", picture()), ("back", picture())],
            rows=[CoverageRow("arms", 0.8, 0.6, 4, 0.9, 0.7), CoverageRow("crown", 0.0, 0.0, 0, None, None)],
            colors=["#440154", "#fde725"], never="#d65434",
        ),
        doubts=ReportDoubts([("landmarks missed by", "3 px")], {1: "joints accelerate"}, [DoubtSeries("confidence", "", [0.9, None], True)], [DoubtThumb(1, "joints accelerate", picture())]),
        advice=[Advice("turn_round", "Turn round.", "Only 4% of the back was seen.")],
        curves={"stage1": {"total": [(0, 1.0), (1, 0.5)]}, "stage2": {}},
        metrics={"stage1": {"heldout_frames": SCORES}, "stage2": {"heldout_frames": SCORES}, "body": {"mpjpe_mm": None}},
        error_scale="0.25",
        meanings=[("PSNR", "how far off")],
        left_out=[],
        choices=[("LPIPS", "left out")],
        seconds={"evaluate": 12.0},
    )


def content_of(html: str) -> dict:
    blocks = re.findall(r'<script type="application/json" id="content">(.*?)</script>', html, flags=re.DOTALL)
    assert len(blocks) == 1
    return json.loads(blocks[0])


def test_the_report_holds_every_frame_and_each_opens() -> None:
    report = a_report()
    content = content_of(build_report(report))
    assert [frame["frame_id"] for frame in content["frames"]] == list(range(NUM_FRAMES))
    for shown, frame in zip(content["frames"], report.frames, strict=True):
        for data in (shown["video"], *shown["renders"].values(), *shown["errors"].values()):
            assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR).shape == (24, 32, 3)
        assert base64.b64decode(shown["renders"]["stage2"]) == frame.renders["stage2"]


def test_the_report_asks_the_network_and_other_files_for_nothing() -> None:
    html = build_report(a_report())
    assert not re.search(r"https?:|//[a-z0-9.-]+\.[a-z]{2,}/", html, flags=re.IGNORECASE)
    assert not re.search(r"<(link|iframe|object|embed)\b|@import|\bfetch\(|XMLHttpRequest|WebSocket|\burl\(|import\(", html)
    assert not re.search(r"<(script|img)[^>]+\bsrc=", html)


def test_a_name_that_looks_like_markup_stays_text() -> None:
    nasty = "</script><script>alert(1)</script>&amp;"
    report = dataclasses.replace(a_report(), subject=nasty, choices=[(nasty, nasty)])
    html = build_report(report)
    assert "alert(1)</script>" not in html
    assert content_of(html)["subject"] == nasty


def test_a_figure_that_is_no_number_is_refused_rather_than_breaking_the_page() -> None:
    with pytest.raises(ValueError, match="JSON"):
        build_report(dataclasses.replace(a_report(), seconds={"evaluate": float("nan")}))


def test_a_long_clip_gets_smaller_pictures_of_bounded_total_area() -> None:
    sides = [picture_side(n) for n in (1, 120, 240, 480, 2000)]
    assert sides == sorted(sides, reverse=True) and sides[0] == sides[1] == MAX_PICTURE_SIDE and sides[-1] == MIN_PICTURE_SIDE
    assert picture_side(480) ** 2 * 480 <= 1.02 * picture_side(130) ** 2 * 130


def test_thinning_a_curve_keeps_its_mean_and_its_ends() -> None:
    rows = [(step, 1.0 / (1 + step)) for step in range(3 * MAX_CURVE_POINTS)]
    thin = thin_curve(rows)
    assert len(thin) == MAX_CURVE_POINTS
    assert np.mean([value for _, value in thin]) == pytest.approx(np.mean([value for _, value in rows]))
    assert thin[0][0] == 1 and thin[-1][0] == rows[-1][0] - 1
    assert thin_curve(rows[:5]) == [(float(step), value) for step, value in rows[:5]]


def test_a_picture_is_packed_no_larger_than_asked_and_opens_as_it_was() -> None:
    smooth = np.add.outer(np.arange(60), np.arange(90))[..., None].repeat(3, 2).astype(np.uint8)
    for encode in (encode_jpeg, encode_webp):
        opened = cv2.imdecode(np.frombuffer(encode(smooth, max_side=200), np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(opened.astype(int) - smooth).mean() < 2
        assert cv2.imdecode(np.frombuffer(encode(smooth, max_side=45), np.uint8), cv2.IMREAD_COLOR).shape == (30, 45, 3)


def test_the_new_sections_travel_whole() -> None:
    content = content_of(build_report(a_report()))
    assert content["advice"] == [{"rule": "turn_round", "do": "Turn round.", "seen": "Only 4% of the back was seen."}]
    assert content["coverage"]["rows"][1] == {"part": "crown", "seen": 0.0, "often": 0.0, "frames": 0, "left": None, "right": None}
    assert content["doubts"]["doubted"] == {"1": "joints accelerate"}
    for data in (content["poses"][0]["before"], content["doubts"]["worst"][0]["picture"], content["coverage"]["pictures"][0][1]):
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR).shape == (24, 32, 3)
