"""Checkpoints of unfinished training: written whole or not at all, verified before they are read.

A checkpoint is a folder step_NNNNNNNN/ with state.safetensors, record.json and manifest.json, which holds the SHA-256 of the
other two. It is made under another name and renamed, so a folder of that name is complete; the two newest are kept, and
a damaged one is passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

FORMAT = 1
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """What training needs to go on.

    Attributes:
        tensors: parameters, optimiser and random state.
        record: plain values; "step" and "fingerprint" are always among them.
    """

    tensors: dict[str, Tensor]
    record: dict


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write one more checkpoint and forget all but the newest two."""
    target = folder / f"step_{checkpoint.record['step']:08d}"
    scratch = folder / f".{target.name}.{os.getpid()}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        blobs = {
            "state.safetensors": save({k: t.detach().cpu().contiguous() for k, t in checkpoint.tensors.items()}),
            "record.json": json.dumps({**checkpoint.record, "format": FORMAT}).encode(),
        }
        blobs["manifest.json"] = json.dumps({name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}).encode()
        for name, blob in blobs.items():
            with open(scratch / name, "wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
        shutil.rmtree(target, ignore_errors=True)
        os.rename(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in sorted(folder.glob("step_*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None. Leftovers of a killed writer are removed."""
    for leftover in folder.glob(".step_*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in sorted(folder.glob("step_*"), reverse=True):
        blobs = _verified(path)
        if blobs is not None:
            return Checkpoint(load(blobs["state.safetensors"]), json.loads(blobs["record.json"]))
    return None


def clear_checkpoints(folder: Path) -> None:
    """Forget all checkpoints: the training is finished, or starts anew."""
    shutil.rmtree(folder, ignore_errors=True)


def _verified(path: Path) -> dict[str, bytes] | None:
    """The files of a checkpoint, when each has the hash that its manifest states."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        blobs = {name: (path / name).read_bytes() for name in ("state.safetensors", "record.json")}
        whole = all(hashlib.sha256(blob).hexdigest() == manifest[name] for name, blob in blobs.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return blobs if whole and json.loads(blobs["record.json"]).get("format") == FORMAT else None
