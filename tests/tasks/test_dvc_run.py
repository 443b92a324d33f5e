"""DVC as a program of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import dvc_run
from tasks.dvc_run import stage_environment
from tasks.errors import EXIT_INTERRUPTED


def test_a_stage_sees_this_interpreter_first_and_no_foreign_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody else's")
    environment = stage_environment()
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert "MLFLOW_RUN_ID" not in environment and environment["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize(("of_dvc", "told"), [(255, EXIT_INTERRUPTED), (252, EXIT_INTERRUPTED), (0, 0)])  # a stage's 130 is DVC's 255
def test_ctrl_c_waits_for_the_stage_to_end_and_is_told_from_a_failure(monkeypatch: pytest.MonkeyPatch, of_dvc: int, told: int) -> None:
    sent: list[int] = []

    class Stage:
        def wait(self) -> int:
            if not sent:
                raise KeyboardInterrupt
            return of_dvc

        def send_signal(self, number: int) -> None:
            sent.append(number)

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Stage())
    assert dvc_run.run_dvc("repro") == told and sent == [signal.SIGINT]


def test_a_failure_without_ctrl_c_keeps_the_status_of_dvc(tmp_path: Path) -> None:
    (tmp_path / "dvc.py").write_text("raise SystemExit(255)")  # python -m finds it before DVC itself
    assert dvc_run.run_dvc("repro", folder=tmp_path) == 255
