"""Files and folders that are there whole or not at all: written beside their place, and renamed when they are finished."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

LEFT_BEHIND = 24 * 3600.0  # s after which nobody writes any more what a process that does not run here has begun


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`; when the block ends well it takes the place of `path`, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield scratch
        with open(scratch, "rb") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield an empty scratch folder; when the block ends well it takes the place of `path`, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.*"):
        process = left.name.removeprefix(f".{path.name}.").removesuffix(left.suffix)
        if left.suffix not in (".part", ".old") or not process.isdecimal() or _runs(int(process)):
            continue  # somebody else's folder, or one that is being written
        if left.suffix == ".old" and not path.exists():  # killed between the two renames
            os.rename(left, path)
        elif time.time() - left.stat().st_mtime > LEFT_BEHIND:
            shutil.rmtree(left, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
        if path.exists():
            os.rename(path, old)
        os.rename(scratch, path)
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether another process of this number runs on this machine; on others that share the disk it may."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
