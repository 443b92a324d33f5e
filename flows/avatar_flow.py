"""The flow avatar-flow: brings each stage of dvc.yaml up to date, one Prefect task a stage, in the graph's order.

DVC owns the graph and the cache; Prefect says when, how often to try again, and shows what happens. Serve it under the
name avatar-flow/local with: python -m flows.avatar_flow
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import networkx
from dvc.repo import Repo
from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun

from tasks.dvc_run import stage_environment
from tasks.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED

PROJECT = Path(__file__).resolve().parents[1]
RETRIES = 2
RETRY_DELAY_SECONDS = 10
OUTPUT_LINES_KEPT = 30
GRACE = 10.0  # s; Prefect ends the flow's own process 30 s after a cancellation


class StageFailed(Exception):
    """A stage ended with an error; `bad_input` says that trying again cannot help."""

    def __init__(self, stage: str, output: str, *, bad_input: bool) -> None:
        super().__init__(f"stage {stage} failed:\n{output}")
        self.bad_input = bad_input


def stages_in_order(target: str, project: Path = PROJECT) -> list[str]:
    """The stages that `target` needs, itself last, each after everything that it reads."""
    with Repo(str(project)) as repo:
        graph = repo.index.graph  # an edge leads from a stage to the stage it reads from
        by_name = {stage.name: stage for stage in graph}
        if target not in by_name:
            raise ValueError(f"expected a stage of dvc.yaml ({', '.join(sorted(by_name))}), came {target!r}")
        needed = graph.subgraph({by_name[target], *networkx.descendants(graph, by_name[target])})
        return [stage.name for stage in networkx.lexicographical_topological_sort(needed.reverse(), key=lambda s: s.name)]


async def can_be_retried(_task: object, _run: TaskRun, state: State) -> bool:
    """Bad input and Ctrl-C stay what they are; a machine's faults may pass."""
    try:
        await state.aresult()
    except StageFailed as failure:
        return not failure.bad_input
    except BaseException:
        return True
    return False


@task(retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=can_be_retried)
def bring_up_to_date(stage: str, project: Path) -> None:
    """Run one stage through DVC, if anything that it reads has changed."""
    logger = get_run_logger()
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    process = subprocess.Popen(
        command, cwd=project, env=stage_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,  # a group of its own, which stop_stage reaches whole
    )
    lines: list[str] = []
    try:
        for line in process.stdout:
            if line.strip():
                lines.append(line.rstrip())
                logger.info(line.rstrip())
        status = process.wait()
    except BaseException:
        stop_stage(process)
        raise
    if status:
        output = "\n".join(lines[-OUTPUT_LINES_KEPT:])
        final = any(f"exited with {code}" in output for code in (EXIT_BAD_INPUT, EXIT_INTERRUPTED))
        raise StageFailed(stage, output, bad_input=final)


def stop_stage(process: subprocess.Popen) -> None:
    """Tell DVC and its stage to stop, as Ctrl-C in a terminal tells them, and wait while the stage leaves its checkpoint.

    Who takes no notice for GRACE seconds is told by SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        told, end = False, time.monotonic() + GRACE
        while process.returncode is None and time.monotonic() < end:
            with contextlib.suppress(BaseException):  # Prefect sends SIGTERM soon after a terminal's Ctrl-C
                if not told:
                    told = True
                    os.killpg(process.pid, number)  # DVC alone takes no notice while a stage runs
                process.communicate(timeout=max(0.0, end - time.monotonic()))  # reads on, for a full pipe would hold the stage up


@flow(name="avatar-flow")
def avatar_flow(target: str = "build_page", project: str = str(PROJECT)) -> list[str]:
    """Make the avatar that params.yaml describes, up to the stage `target`; returns the stages in the order they ran."""
    stages = stages_in_order(target, Path(project))
    for stage in stages:
        bring_up_to_date.with_options(name=stage, task_run_name=stage)(stage, Path(project))
    return stages


if __name__ == "__main__":
    avatar_flow.serve(name="local")
