"""The report of one avatar: a single HTML file that needs no network and no other file.

Pictures travel inside as JPEG or WebP, everything else as one JSON block; report_template.html draws the page from it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.report_sections import Advice, PoseChange, ReportCoverage, ReportDoubts

TEMPLATE = Path(__file__).with_name("report_template.html")
PLACEHOLDER = "__CONTENT__"
MAX_CURVE_POINTS = 300
MAX_PICTURE_SIDE = 480  # px
MIN_PICTURE_SIDE = 160  # px
FRAMES_AT_FULL_SIZE = 130  # about 60 kB each with two stages, which keeps the file below 12 MB


@dataclass(frozen=True)
class ReportFrame:
    """One frame of the video beside the avatar; pictures are JPEG, the video's WebP.

    Attributes:
        frame_id: which frames/NNNNNN.png it is.
        time_s: time in the video, s.
        role: "train", "heldout" or "flagged".
        note: why the frame is not trusted, or "".
        video: the frame as it came.
        renders, errors: stage -> the avatar on white, and how far it is off (at half the size: it compresses badly).
        psnr: stage -> dB over the whole frame on white, None where there is nothing to compare with.
    """

    frame_id: int
    time_s: float
    role: str
    note: str
    video: bytes
    renders: dict[str, bytes]
    errors: dict[str, bytes]
    psnr: dict[str, float | None]


@dataclass(frozen=True)
class ReportMotion:
    """A motion to play: stage -> JPEG pictures in order."""

    title: str
    caption: str
    fps: float
    pictures: dict[str, list[bytes]]


@dataclass(frozen=True)
class ReportSheet:
    """A contact sheet, JPEG."""

    title: str
    caption: str
    picture: bytes


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        subject: the subject's name.
        summary: one sentence under the title.
        tiles: (label, value) of the figures at the top.
        fps: frames per second at which the comparison plays.
        frames: the comparison, frame by frame.
        middles: where the person stands in each of them, from left to right, 0..1.
        turntable: stage -> pictures all round the avatar.
        motions, sheets: what else there is to see.
        poses: some frames before and after the refinement of their poses.
        coverage: which parts of the body the camera saw.
        doubts: which frames of the fit are in doubt.
        advice: how to film better; empty where nothing is wrong.
        curves: stage -> term of the loss -> rows of (step, value).
        metrics: what metrics.json holds.
        error_scale: what the bright end of the error maps stands for.
        meanings: (name, sentence) explaining the figures.
        left_out: sentences about frames that never reached training.
        choices: (name, value) of what was chosen on the way.
        seconds: stage -> how long it took, s.
    """

    subject: str
    summary: str
    tiles: list[tuple[str, str]]
    fps: float
    frames: list[ReportFrame]
    middles: list[float]
    turntable: dict[str, list[bytes]]
    motions: list[ReportMotion]
    sheets: list[ReportSheet]
    poses: list[PoseChange]
    coverage: ReportCoverage
    doubts: ReportDoubts
    advice: list[Advice]
    curves: dict[str, dict[str, list[tuple[float, float]]]]
    metrics: Mapping[str, object]
    error_scale: str
    meanings: list[tuple[str, str]]
    left_out: list[str]
    choices: list[tuple[str, str]]
    seconds: dict[str, float]


def picture_side(num_frames: int) -> int:
    """The side, px, at which a report of so many frames stays small enough to send around."""
    side = MAX_PICTURE_SIDE * min(1.0, FRAMES_AT_FULL_SIZE / max(num_frames, 1)) ** 0.5
    return max(MIN_PICTURE_SIDE, round(side))


def thin_curve(rows: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A long curve by fewer points, each the mean of its neighbours, so that single noisy steps do not decide the picture."""
    if len(rows) <= MAX_CURVE_POINTS:
        return [(float(step), float(value)) for step, value in rows]
    parts = np.array_split(np.asarray(rows, dtype=np.float64), MAX_CURVE_POINTS)
    return [(round(float(part[:, 0].mean()), 1), float(part[:, 1].mean())) for part in parts]


def build_report(report: Report) -> str:
    """The page as HTML text. Whatever a name or a note holds is shown as text, never read as markup."""
    content = _plain(report)
    content["tiles"] = [{"label": label, "value": value} for label, value in report.tiles]
    content["curves"] = {
        stage: {name: thin_curve(rows) for name, rows in curves.items() if rows} for stage, curves in report.curves.items()
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for sign, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):  # no way out of the script element
        text = text.replace(sign, escaped)
    before, after = TEMPLATE.read_text(encoding="utf-8").split(PLACEHOLDER)
    return before + text + after


def _plain(value: object) -> object:
    """Dataclasses as mappings, pictures as base64: what JSON can hold."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
