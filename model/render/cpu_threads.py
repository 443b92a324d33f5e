"""Threads for compiled kernels that release Python's lock.

The kernels run on plain Python threads and not on numba's own threading layers, because those either abort when two
callers meet (workqueue), or neither survive a fork nor share cores well with torch's OpenMP (omp). Each call cuts its
work into pieces that do not depend on the number of threads, and every piece writes its own part of the output, so
results are the same whatever the number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

PIECES_PER_THREAD = 4  # enough to even out tiles of unequal cost


def num_threads() -> int:
    """The number of threads in use: torch's, so that `torch.set_num_threads` rules both."""
    return max(1, torch.get_num_threads())


def run_pieces(work: Callable[[object], None], pieces: Sequence[object]) -> None:
    """Run `work` on every piece, in parallel, and return when all are done.

    Raises:
        Exception: what `work` raised on a piece.
    """
    helpers = min(num_threads(), len(pieces)) - 1
    if helpers <= 0:
        for piece in pieces:
            work(piece)
        return
    remaining = iter(range(len(pieces)))  # next() on a range iterator is atomic

    def drain() -> None:
        for index in remaining:
            work(pieces[index])

    tasks = [_pool(helpers, os.getpid()).submit(drain) for _ in range(helpers)]
    try:
        drain()
    finally:
        for task in tasks:
            task.result()


def split_range(count: int, pieces: int) -> list[tuple[int, int]]:
    """Cut 0..count into consecutive ranges of nearly equal length, none empty."""
    pieces = max(1, min(pieces, count))
    return [(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces) if count > 0]


@lru_cache(maxsize=4)
def _pool(helpers: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, one set a process: those of a parent do not live on in a forked child."""
    del process
    return ThreadPoolExecutor(helpers, thread_name_prefix="rasterize")
