"""The flow runs the graph of dvc.yaml, each stage after what it reads."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from flows import avatar_flow
from flows.avatar_flow import StageFailed, bring_up_to_date, can_be_retried, stages_in_order

PROJECT = Path(__file__).parents[2]
DVC = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as DVC does while a stage runs
subprocess.run([sys.executable, "stage.py"])
"""
STAGE = """
import os, pathlib, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("running", flush=True)
    time.sleep(5)
except KeyboardInterrupt:
    os.kill(int(os.environ["FLOW"]), signal.SIGINT)  # the flow is told again while the stage is busy
    print("x" * 200_000, flush=True)  # more than a pipe holds
    time.sleep(0.3)
    pathlib.Path("checkpoint").touch()
"""


def test_the_flow_runs_every_stage_after_what_it_reads() -> None:
    order = stages_in_order("build_page", PROJECT)
    chain = ["extract_frames", "segment_person", "fit_smpl", "refine_fit", "bake_uv_maps", "train_stage1", "bake_pose_maps", "train_stage2"]
    chain += ["evaluate"]
    assert [stage for stage in order if stage in chain] == chain
    assert order[-1] == "build_page"


def test_a_target_in_the_middle_brings_only_what_it_needs() -> None:
    order = stages_in_order("fit_smpl", PROJECT)
    assert order[-1] == "fit_smpl"
    assert "train_stage1" not in order


def test_an_unknown_target_names_the_stages_there_are() -> None:
    with pytest.raises(ValueError, match="train_stage1"):
        stages_in_order("nothing", PROJECT)


class _Failed:
    """A state whose result raises, as Prefect's failed states do."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def aresult(self) -> None:
        raise self.error


@pytest.mark.parametrize(("bad_input", "retried"), [(True, False), (False, True)])
def test_only_faults_that_may_pass_are_tried_again(bad_input: bool, retried: bool) -> None:
    state = _Failed(StageFailed("fit_smpl", "no", bad_input=bad_input))
    assert asyncio.run(can_be_retried(None, None, state)) is retried


class _CancelledOnceItRuns:
    """A logger at whose first line somebody cancels the run."""

    def info(self, line: str) -> None:
        raise KeyboardInterrupt(line)


def test_a_cancelled_run_ends_after_its_stage_has_left_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.py").write_text(DVC)  # python -m finds it before DVC itself
    (tmp_path / "stage.py").write_text(STAGE)
    monkeypatch.setenv("FLOW", str(os.getpid()))
    monkeypatch.setattr(avatar_flow, "get_run_logger", _CancelledOnceItRuns)
    with pytest.raises(KeyboardInterrupt, match="running"):
        bring_up_to_date.fn("train_stage1", tmp_path)
    assert (tmp_path / "checkpoint").exists()
