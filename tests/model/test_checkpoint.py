"""Claims about checkpoints: the newest sound one is found again, whatever happened to the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model import checkpoint as checkpoints
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def checkpoint_at(step: int) -> Checkpoint:
    return Checkpoint({"x": torch.full((3,), float(step))}, {"step": step, "fingerprint": "f"})


def test_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, checkpoint_at(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000020", "step_00000030"]
    assert load_checkpoint(tmp_path).record["step"] == 30


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "swap"])
@pytest.mark.parametrize("name", ["state.safetensors", "record.json", "manifest.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    for step in (10, 20):
        save_checkpoint(tmp_path, checkpoint_at(step))
    path = tmp_path / "step_00000020" / name
    blob = bytearray(path.read_bytes())
    if damage == "flip":
        blob[len(blob) // 2] ^= 1
        path.write_bytes(blob)
    elif damage == "truncate":
        path.write_bytes(blob[: len(blob) // 2])
    elif damage == "remove":
        path.unlink()
    else:
        path.write_bytes((tmp_path / "step_00000010" / name).read_bytes())
    assert load_checkpoint(tmp_path).record["step"] == 10


def test_a_write_that_fails_leaves_the_checkpoints_that_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, checkpoint_at(10))
    monkeypatch.setattr(checkpoints.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, checkpoint_at(20))
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000010"]
    assert json.loads((tmp_path / "step_00000010" / "record.json").read_text())["step"] == 10
