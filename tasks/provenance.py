"""Where a result comes from: the commit, the data and the versions of what computed it."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def code_commit() -> str | None:
    """The commit of the code, with "-dirty" where tracked files differ from it; None without git or outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def data_hash(*folders: Path) -> str:
    """SHA-256 over the names and bytes of all files in the folders: equal data, equal hash."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            total.update(f"{folder.name}/{path.relative_to(folder).as_posix()}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def library_versions() -> dict[str, str]:
    """The versions that a figure can depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy", "numba", "torchmetrics")}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
