"""Artifacts come back as they were written, and are replaced whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from model.body.track import BodyTrack
from tasks.artifacts import (
    ClipInfo,
    Segmentation,
    SubjectPaths,
    read_clip,
    read_image,
    read_npz,
    read_track,
    require,
    split_frames,
    write_image,
    write_json,
    write_track,
)
from tasks.errors import InputError
from tasks.whole_files import replaced_file, replaced_folder


def _clip(num_frames: int) -> ClipInfo:
    ids = list(range(num_frames))
    return ClipInfo("c.mp4", 64, 48, 25.0, ids, [i / 25 for i in ids], ids, 25.0, 32, [0, 0, 48], 40.0, False, 16, 16, [], {}, [])


def test_a_record_of_frames_by_an_earlier_version_is_refused_with_what_to_run(tmp_path: Path) -> None:
    paths = SubjectPaths(tmp_path, tmp_path)
    paths.frames.mkdir(parents=True)
    for rows, fits in ((3, True), (2, False)):
        clip = dataclasses.replace(_clip(2), to_filmed=[np.eye(rows, 3).tolist()] * 2)
        write_json(paths.frames / "clip.json", vars(clip))
        if fits:
            assert read_clip(paths) == clip
        else:
            with pytest.raises(InputError, match="earlier version; run: dvc repro extract_frames"):
                read_clip(paths)


def test_a_track_comes_back_as_it_was_written(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    track = BodyTrack(
        betas=torch.randn(10, generator=generator),
        global_orient=torch.randn(5, 3, generator=generator),
        body_pose=torch.randn(5, 23, 3, generator=generator),
        transl=torch.randn(5, 3, generator=generator),
        K=torch.eye(3),
        w2c=torch.eye(4),
        width=512,
        height=512,
        frame_ids=torch.arange(5),
        confidence=torch.ones(5),
        fps=12.5,
        body="open",
    )
    write_track(tmp_path / "track.npz", track)
    back = read_track(tmp_path / "track.npz", made_by="fit_smpl")
    for name, value in vars(track).items():
        assert torch.equal(getattr(back, name), value) if isinstance(value, torch.Tensor) else getattr(back, name) == value


def test_a_track_keeps_what_is_known_of_its_joints_and_files_without_it_load(tmp_path: Path) -> None:
    ids = torch.arange(2)
    plain = BodyTrack(torch.zeros(3), torch.zeros(2, 3), torch.zeros(2, 1, 3), torch.zeros(2, 3), torch.eye(3), torch.eye(4), 8, 8, ids, torch.ones(2), 5.0, "open")
    known = dataclasses.replace(plain, joint_spread=torch.tensor([[0.0, 0.06], [0.0, float("nan")]]))
    for name, track in (("plain", plain), ("known", known)):
        write_track(tmp_path / f"{name}.npz", track)
    assert "joint_spread" not in np.load(tmp_path / "plain.npz")
    back = [read_track(tmp_path / f"{name}.npz", made_by="fit_smpl") for name in ("plain", "known")]
    assert back[0].joint_spread is None and torch.equal(back[0].joint_confidence, torch.ones(2, 2))
    assert torch.equal(back[1].joint_confidence, torch.tensor([[1.0, 0.5], [1.0, 1.0]]))  # nothing is held against the unknown


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_a_picture_comes_back_as_it_was_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_image(tmp_path / "a.png", image)
    assert np.array_equal(read_image(tmp_path / "a.png"), image)


def test_a_failed_write_leaves_the_old_file_and_no_scratch(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"value": 1})
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    with pytest.raises(OSError), replaced_file(tmp_path / "a.json") as scratch:
        scratch.write_text("half")
        raise OSError("disk full")
    assert (tmp_path / "a.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("old")
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("new")
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "old"
    with replaced_folder(tmp_path / "out") as scratch:
        (scratch / "b").write_text("new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_between_the_two_renames_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with replaced_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("old")
    rename, calls = os.rename, []

    def interrupted(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), replaced_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("new")
    assert (tmp_path / "out" / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_half_written_is_cleared_and_what_another_writes_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for process in (ended.pid, os.getppid()):
        (tmp_path / f".out.{process}.part").mkdir()
        os.utime(tmp_path / f".out.{process}.part", (0, 0))
    for name in (".out.mine.old", ".out.mine.part", f".out.{ended.pid + 100_000_000}.part"):  # the last perhaps on another machine
        (tmp_path / name).mkdir()
    (tmp_path / f".out.{ended.pid}.old").mkdir()
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out").exists(), "it had been moved aside when the process was killed"
    with replaced_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("new")
    kept = {".out.mine.old", ".out.mine.part", f".out.{ended.pid + 100_000_000}.part", f".out.{os.getppid()}.part", "out"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_picture_that_no_longer_fits_on_the_disk_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        write_image(Path("/dev/full"), np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_arrays_name_the_stage_to_run(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "track.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).normal(size=1000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    with pytest.raises(InputError, match="track.npz, it does not open .*dvc repro -sf fit_smpl"):
        read_npz(path, made_by="fit_smpl")


def test_a_missing_artifact_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dvc repro fit_smpl"):
        require(tmp_path / "track.npz", made_by="fit_smpl")


def test_the_split_is_disjoint_and_leaves_out_flagged_frames() -> None:
    split = split_frames(_clip(30), Segmentation("landmarks", "x", {"3": "empty", "4": "empty"}), heldout_every=6)
    assert not set(split.train) & set(split.heldout)
    assert set(split.train) | set(split.heldout) == set(range(30)) - {3, 4}
    assert split.heldout == [9, 15, 21, 27]
