"""Where commands are tried: a project that has made nothing yet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commands import project

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's graph and settings, without any work in it."""
    for name in ("dvc.yaml", "params.yaml", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(project, "HERE", tmp_path)
    return tmp_path
