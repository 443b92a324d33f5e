"""Writes the tables of docs/quality.md from the reports of benchmarks/quality.py, and of benchmarks/people.py where that has trained.

    python -m benchmarks.quality_page
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.generated import write_between
from benchmarks.people import REPORT as PEOPLE

PAGE, REPORTS = Path("docs/quality.md"), Path("benchmarks/reports")
TABLES = {  # report: heading
    "quality_minutes.json": "By time, true poses",
    "quality_minutes_fitted.json": "By time, its own fit",
    "quality_taiji.json": "By time, a real clip",
    "quality_ablation.json": "What each ingredient is worth",
}
START, END = "<!-- tables: python -m benchmarks.quality_page -->", "<!-- end of tables -->"
COLUMNS = {  # name: what is scored
    "held out, refitted": "heldout_refitted", "held out, stored": "heldout", "other cameras": "novel_views", "second motion": "novel_poses",
}  # fmt: skip


def main() -> None:
    reports = {heading: json.loads((REPORTS / name).read_text(encoding="utf-8")) for name, heading in TABLES.items() if (REPORTS / name).exists()}
    people = json.loads(PEOPLE.read_text(encoding="utf-8"))
    trained = {name: row["refined"] for name, row in people["people"].items() if "refined" in row}
    reports |= {"Six people, stage 1 on their own fits": people | {"rows": trained}} if trained else {}
    write_between(PAGE, START, END, "\n\n".join(section(heading, report) for heading, report in reports.items()))


def section(heading: str, report: dict) -> str:
    """A heading, how the figures were made, and the table."""
    return f"## {heading}\n\n`{report['command']}`, {report['machine']}, commit {report['commit']}.\n\n{table(report['rows'])}"


def table(rows: dict[str, dict]) -> str:
    """One line for each stage of each row; columns that no row has are left out."""
    lines = [line for name, row in rows.items() for line in ((name, row), (f"{name}, stage 2", row.get("stage2"))) if line[1]]
    columns = {heading: key for heading, key in COLUMNS.items() if any(key in figures for _, figures in lines)}
    head = ["| whole picture / inside the mask, dB | steps | s | " + " | ".join(columns) + " |", "|---" * (len(columns) + 3) + "|"]
    return "\n".join([*head, *(_line(name, figures, columns) for name, figures in lines)])


def _line(name: str, figures: dict, columns: dict[str, str]) -> str:
    cells = [f"{figures[key]['psnr']:.2f} / {figures[key]['psnr_mask']:.2f}" if key in figures else "" for key in columns.values()]
    return f"| {name} | {figures['steps']} | {figures['seconds']['wall']:.0f} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
