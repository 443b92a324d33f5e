"""avatar compare: the figures of two or more runs, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from commands.project import command, user_path
from tasks.errors import InputError

STAGES = ("stage1", "stage2")
SETS = {"heldout_frames": "held-out, as stored", "heldout_frames_refitted": "held-out, refitted", "novel_views": "other cameras", "novel_poses": "other motion"}
SCORES = {"psnr": ("PSNR dB", 2, 1), "psnr_mask": ("PSNR inside dB", 2, 1), "ssim": ("SSIM", 4, 1), "lpips": ("LPIPS", 4, -1), "mask_iou": ("mask IoU", 4, 1)}
BODY = {"mpjpe_mm": "MPJPE mm", "pa_mpjpe_mm": "PA-MPJPE mm", "mpjpe_refined_mm": "MPJPE mm, refined", "pa_mpjpe_refined_mm": "PA-MPJPE mm, refined"}
PROTOCOL = ("commit", "preset", "image_size", "data_hash", "backend", "seed")


@command
def compare(
    runs: Annotated[list[str], typer.Argument(help="Two or more: subjects of results/, folders, or metrics.json files.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare the figures of runs; the difference is to the first. What makes two runs unlike is said below the table.

    Examples:

        avatar compare demo taiji

        avatar compare before/metrics.json results/demo/metrics.json
    """
    if len(runs) < 2:
        raise InputError("expected two runs or more: avatar compare before/metrics.json results/demo")
    found = [read_metrics(run) for run in runs]
    names = distinct_names(runs)
    rows = comparison(found)
    if as_json:
        typer.echo(json.dumps([{"figure": row[0], **dict(zip(names, row[1], strict=True))} for row in rows], indent=2))
        return
    show_comparison(names, rows, found)


def read_metrics(run: str) -> dict:
    """The figures of one run: a subject's name, a folder or a file.

    Raises:
        InputError: nothing there, or not what evaluate writes.
    """
    places = [user_path(run), user_path(run) / "metrics.json", Path("results") / run / "metrics.json"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        there = ", ".join(sorted(p.parent.name for p in Path("results").glob("*/metrics.json"))) or "none yet"
        raise InputError(f"expected a subject, a folder or a metrics.json, found nothing at {run}; subjects with figures: {there}")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(metrics, dict) or not isinstance(metrics.get("stage1"), dict):
        raise InputError(f"expected the figures that the stage evaluate writes, {path} holds others; run: dvc repro evaluate")
    return metrics


def distinct_names(runs: list[str]) -> list[str]:
    """Short names of runs that stay apart."""
    short = [Path(run).parent.name if Path(run).name == "metrics.json" else Path(run).name for run in runs]
    return [name if name and short.count(name) == 1 else run for name, run in zip(short, runs, strict=True)]


def comparison(found: list[dict]) -> list[tuple[str, list[float | None], int, int]]:
    """One row a figure that at least one run has: its name, values, digits, and +1 where more is better."""
    rows = []
    for stage in STAGES:
        for name, title in SETS.items():
            for score, (unit, digits, better) in SCORES.items():
                rows.append((f"{stage}: {title}, {unit}", [_number(run, stage, name, score) for run in found], digits, better))
    for key, title in BODY.items():
        rows.append((f"joints: {title}", [_number(run, "body", key) for run in found], 1, -1))
    timed = sorted({stage for run in found if isinstance(run.get("seconds"), dict) for stage in run["seconds"]})
    for stage in timed:
        rows.append((f"seconds: {stage}", [_number(run, "seconds", stage) for run in found], 0, -1))
    return [row for row in rows if any(value is not None for value in row[1])]


def unlike(found: list[dict]) -> list[str]:
    """What the runs do not share, so that their figures need care."""
    lines = []
    for key in PROTOCOL:
        values = [(run.get("protocol") or {}).get(key) for run in found]
        if any(value != values[0] for value in values):
            lines.append(f"{key}: " + " | ".join(str(value)[:16] for value in values))
    return lines


def show_comparison(names: list[str], rows: list[tuple[str, list[float | None], int, int]], found: list[dict]) -> None:
    """A table: green is better than the first, red is worse."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", *names)
    for title, values, digits, better in rows:
        cells = [_cell(value, values[0], digits, better) if i else _text(value, digits) for i, value in enumerate(values)]
        table.add_row(title, *cells)
    console = Console()
    console.print(table)
    differences = unlike(found)
    if differences:
        console.print("not alike in " + "\n  ".join(["these runs:", *differences]), highlight=False)


def _cell(value: float | None, first: float | None, digits: int, better: int) -> str:
    if value is None or first is None:
        return _text(value, digits)
    change = round(value - first, digits)
    if change == 0:
        return f"{_text(value, digits)} (=)"
    color = "green" if change * better > 0 else "red"
    return f"{_text(value, digits)} [{color}]({change:+.{digits}f})[/{color}]"


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _number(run: dict, *keys: str) -> float | None:
    value: object = run
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
