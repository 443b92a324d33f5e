"""DVC as a program of its own: the environment that stages run in, and a wait that Ctrl-C does not cut short."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tasks.errors import EXIT_INTERRUPTED

OFF_SWITCHES = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


def stage_environment() -> dict[str, str]:
    """The environment of a stage: this interpreter's programs come first, no tracked run is inherited, nothing reports home."""
    environment = OFF_SWITCHES | {key: value for key, value in os.environ.items() if key != "MLFLOW_RUN_ID"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def run_dvc(*arguments: str, folder: Path | None = None) -> int:
    """Run DVC on this terminal and return its exit status; Ctrl-C reaches the stage, which leaves its checkpoint first.

    A run that Ctrl-C ended has the status EXIT_INTERRUPTED; DVC itself reports it as it does every stage that fails.
    """
    process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments], cwd=folder, env=stage_environment())
    interrupted = False
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # the terminal has told the stage already
            interrupted = True
            process.send_signal(signal.SIGINT)
        else:
            return EXIT_INTERRUPTED if interrupted and status else status
