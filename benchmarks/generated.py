"""The parts of a page that are written by a command, between two marks."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, start: str, end: str, text: str) -> None:
    """Replace what stands between the marks on a page; all else stays. ValueError where a mark is missing."""
    head, rest = page.read_text(encoding="utf-8").split(start)
    _, tail = rest.split(end)
    page.write_text(f"{head}{start}\n\n{text}\n\n{end}{tail}", encoding="utf-8")
