"""Disturbing a motion by a stated amount, and measuring what is left of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from benchmarks.accuracy_page import table_of_disturbed
from benchmarks.disturbed_poses import DEGREES, SHIFT_M, compare_recovery, disturb
from model.body.track import BodyTrack

FRAMES = 40


@pytest.fixture
def track() -> BodyTrack:
    turn = torch.linspace(0, 3, FRAMES)[:, None] * torch.tensor([[0.0, 1.0, 0.0]])
    return BodyTrack(
        torch.zeros(2), turn, torch.zeros(FRAMES, 4, 3), torch.zeros(FRAMES, 3), torch.eye(3), torch.eye(4), 8, 8, torch.arange(FRAMES),
        torch.ones(FRAMES), 10.0, "stick",
    )  # fmt: skip


def test_every_joint_is_turned_and_moved_by_the_stated_amount(track: BodyTrack) -> None:
    other = disturb(track, np.arange(FRAMES) / 10, seed=0)
    start, end = (torch.cat([t.global_orient[:, None], t.body_pose], 1).numpy() for t in (track, other))
    angles = (Rotation.from_rotvec(start.reshape(-1, 3)).inv() * Rotation.from_rotvec(end.reshape(-1, 3))).magnitude().reshape(FRAMES, 5)
    np.testing.assert_allclose(np.rad2deg(np.sqrt((angles**2).mean(0))), DEGREES, rtol=1e-4)
    assert np.sqrt((other.transl.numpy() ** 2).sum(1).mean()) == pytest.approx(SHIFT_M, rel=1e-4)


def test_the_disturbance_wanders_and_does_not_jump(track: BodyTrack) -> None:
    moved = disturb(track, np.arange(FRAMES) / 10, seed=1).transl.numpy()
    assert np.linalg.norm(np.diff(moved, axis=0), axis=1).mean() < 0.75 * np.linalg.norm(moved - moved[::-1], axis=1).mean()
    assert not np.allclose(moved, disturb(track, np.arange(FRAMES) / 10, seed=2).transl.numpy())


def test_recovery_is_a_share_and_counts_frames_that_got_worse() -> None:
    truth = np.zeros((3, 2, 3))
    start, end = truth.copy(), truth.copy()
    start[:, 1, 0] = 0.10
    end[:, 1, 0] = [0.0, 0.02, 0.13]
    found = compare_recovery(truth, start, end)
    assert found == {"before_mm": 50.0, "after_mm": 25.0, "recovered": 0.5, "worse": 1, "frames": 3}


def test_the_page_says_how_much_is_undone_and_in_how_many_frames_it_does_harm() -> None:
    about = {"command": "python -m it", "machine": "m", "commit": "c", "person": "demo", "degrees": 5.0, "shift_m": 0.03, "steps": 9}
    seeds = [{"recovered": share, "worse": worse, "frames": 100} for share, worse in ((0.5, 0), (0.62, 2))]
    missed, met = table_of_disturbed(about | {"seeds": seeds}), table_of_disturbed(about | {"seeds": [seeds[1] | {"worse": 0}]})
    assert "| 2 | 56.0% (50.0%) | 60% | **missed** |" in missed and "| 2 | 2 of 200 | none | **missed** |" in missed
    assert "| 1 | 62.0% (62.0%) | 60% | met |" in met and "| 1 | 0 of 100 | none | met |" in met
