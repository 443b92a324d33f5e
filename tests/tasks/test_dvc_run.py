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


def test_a_stage_sees_this_interpreter_first_and_no_foreign_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody else's")
    environment = stage_environment()
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert "MLFLOW_RUN_ID" not in environment and environment["DO_NOT_TRACK"] == "1"


def test_ctrl_c_waits_for_the_stage_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    class Stage:
        def wait(self) -> int:
            if not sent:
                raise KeyboardInterrupt
            return -signal.SIGINT

        def send_signal(self, number: int) -> None:
            sent.append(number)

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Stage())
    assert dvc_run.run_dvc("repro") == -signal.SIGINT and sent == [signal.SIGINT]
