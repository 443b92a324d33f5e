"""The page of the quality bench: one line a stage, columns as far as there are figures, all else on the page left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.generated import write_between
from benchmarks.quality_page import END, PAGE, START, table

PROJECT = Path(__file__).parents[2]


def figures(psnr: float, *names: str) -> dict:
    return {"steps": 10, "seconds": {"wall": 61.4}} | {name: {"psnr": psnr, "psnr_mask": psnr - 9} for name in names}


def test_each_stage_has_a_line_and_columns_without_figures_are_left_out() -> None:
    text = table({"base": figures(30.0, "heldout", "novel_views") | {"stage2": figures(31.25, "heldout", "novel_views")}})
    assert "| base | 10 | 61 | 30.00 / 21.00 | 30.00 / 21.00 |" in text
    assert "| base, stage 2 | 10 | 61 | 31.25 / 22.25 | 31.25 / 22.25 |" in text
    assert "held out, stored | other cameras |" in text and "second motion" not in text


def test_a_row_that_lacks_a_figure_leaves_its_cell_empty() -> None:
    text = table({"demo": figures(30.0, "heldout", "novel_views"), "clip": figures(28.0, "heldout")})
    assert "| clip | 10 | 61 | 28.00 / 19.00 |  |" in text


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n(a)\nold\n(b)\nafter\n")
    write_between(page, "(a)", "(b)", "new")
    assert page.read_text() == "before\n(a)\n\nnew\n\n(b)\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="unpack"):
        write_between(page, "(a)", "(b)", "new")


def test_a_page_without_its_end_mark_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n(a)\nold")
    with pytest.raises(ValueError, match="unpack"):
        write_between(page, "(a)", "(b)", "new")
    assert page.read_text() == "before\n(a)\nold"


def test_the_page_has_its_marks() -> None:
    text = (PROJECT / PAGE).read_text(encoding="utf-8")
    assert text.index(START) < text.index(END)
