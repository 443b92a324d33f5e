"""How long work tells how far it is: a bar with the remaining time on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Yield `show(done, note="")`: how many of `total` steps are done, and a word about them (a loss, for example)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console) as progress:
        task = progress.add_task(what, total=total, note="")
        yield lambda done, note="": progress.update(task, completed=done, note=note)


def _lines(console: Console, what: str, total: int) -> Callable[..., None]:
    """Print at most one line every ten seconds, and one at the end."""
    start = last = time.monotonic()

    def show(done: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES and done < total:
            return
        last = now
        left = (now - start) / max(done, 1) * (total - done)
        console.print(f"{what}: {done}/{total}, {now - start:.0f} s, {left:.0f} s left {note}".rstrip(), highlight=False)

    return show
