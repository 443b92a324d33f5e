"""The flow runs the graph of dvc.yaml, each stage after what it reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flows.avatar_flow import StageFailed, can_be_retried, stages_in_order

PROJECT = Path(__file__).parents[2]


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
