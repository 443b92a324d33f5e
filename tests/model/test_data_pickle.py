"""Claims about reading other programs' pickles: containers, arrays and tensors come in whole, code and bombs do not."""

from __future__ import annotations

import builtins
import collections
import functools
import io
import operator
import os
import pickle
import zlib
from pathlib import PurePosixPath

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.body import data_pickle, safe_pickle
from model.body.data_pickle import load_data, load_data_npy
from model.body.safe_pickle import UnsafePickleError


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def sample() -> dict:
    content = collections.defaultdict(dict)
    content[3] = {
        "pose": np.arange(12.0).reshape(3, 4), "columns": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "objects": np.array([{"a": 1}, None], dtype=object), "tensor": torch.arange(6.0).reshape(2, 3)[:, 1:], "number": np.float32(2.5),
        "folder": PurePosixPath("a/b"), "names": ["x", b"y", {4}], "order": collections.OrderedDict(k=1), "text": np.array(["id"]),
    }  # fmt: skip
    return content


def check(read: dict) -> None:
    want, got = sample()[3], read[3]
    assert np.array_equal(got["pose"], want["pose"]) and np.array_equal(got["columns"], want["columns"]) and got["columns"].dtype == np.float32
    assert got["objects"].tolist() == [{"a": 1}, None] and torch.equal(got["tensor"], want["tensor"]) and got["number"] == 2.5
    assert got["folder"] == "a/b" and got["names"] == ["x", b"y", {4}] and got["order"]["k"] == 1 and got["text"][0] == "id"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_of_results_comes_in_whole(protocol: int) -> None:
    check(load_data(pickle.dumps(sample(), protocol=protocol)))


@pytest.mark.parametrize("compress", [0, 3, ("zlib", 9), ("gzip", 3)])
def test_joblib_files_come_in_whole_without_joblibs_own_reader(compress) -> None:
    file = io.BytesIO()
    joblib.dump(sample(), file, compress=compress)
    check(load_data(file.getvalue()))


def test_an_array_of_objects_comes_in_through_the_same_list() -> None:
    file = io.BytesIO()
    np.save(file, {"track": torch.ones(2)}, allow_pickle=True)
    file.seek(0)
    assert torch.equal(load_data_npy(file).item()["track"], torch.ones(2))
    plain = io.BytesIO()
    np.save(plain, np.asfortranarray(np.arange(6).reshape(2, 3)))
    plain.seek(0)
    assert load_data_npy(plain).tolist() == [[0, 1, 2], [3, 4, 5]]


FUNCTIONS = [os.system, builtins.eval, builtins.exec, builtins.getattr, builtins.__import__, operator.attrgetter, functools.partial, np.load, torch.load, open]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_code_is_refused_wherever_it_hides(tmp_path, function, protocol: int) -> None:
    trace = tmp_path / "trace"
    evil = Calls(function, f"touch {trace}" if function is os.system else str(trace))
    packed, array = io.BytesIO(), io.BytesIO()
    joblib.dump({"a": [evil]}, packed, compress=3, protocol=max(protocol, 2))
    np.save(array, np.array([evil, 1], dtype=object), allow_pickle=True)
    for read in (lambda: load_data(pickle.dumps({"a": evil}, protocol)), lambda: load_data(packed.getvalue()), lambda: load_data_npy(io.BytesIO(array.getvalue()))):
        with pytest.raises(UnsafePickleError, match="refused"):
            read()
    assert not trace.exists()


def test_a_tensor_is_no_way_in_either(tmp_path) -> None:
    """torch packs a tensor's numbers as a file of its own inside the pickle; that file is read weights-only."""
    inner = io.BytesIO()
    torch.save(Calls(os.system, f"touch {tmp_path / 'trace'}"), inner)
    evil = Calls(torch.storage._load_from_bytes, inner.getvalue())
    with pytest.raises(UnsafePickleError):
        load_data(pickle.dumps(evil))
    assert not (tmp_path / "trace").exists()


def test_our_own_functions_cannot_be_changed_from_a_file() -> None:
    change = b"cnumpy\ndtype\n(N}X\x0c\x00\x00\x00__defaults__(KCKDtstb."  # push a function, then BUILD (None, {"__defaults__": ...})
    before = data_pickle._dtype.__defaults__
    with pytest.raises(UnsafePickleError, match="refused"):
        load_data(change)
    assert data_pickle._dtype.__defaults__ == before


def test_a_damaged_state_does_not_reach_numpys_own_types() -> None:
    flags = np.dtype("f8").flags
    whole = pickle.dumps(np.arange(4.0), protocol=2)
    assert np.array_equal(load_data(whole), np.arange(4.0))
    at = whole.rindex(b"K\x00tq") if b"K\x00tq" in whole else whole.rindex(b"K\x00t")  # the flags of the type's state
    damaged = whole[: at + 1] + b"\x3f" + whole[at + 2 :]
    with pytest.raises(UnsafePickleError, match="damaged"):
        load_data(damaged)
    assert np.dtype("f8").flags == flags


def test_an_array_that_claims_more_than_it_has_is_refused() -> None:
    array = np.ndarray.__new__(np.ndarray, (0,), "b")
    for state in ((1, (5,), np.dtype("f8"), False, bytes(8)), (1, (-1,), np.dtype("f8"), False, b""), (1, (1,), np.dtype("O"), False, bytes(8))):
        with pytest.raises(UnsafePickleError):
            safe_pickle.check_state(array, state)


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_pickle, "MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(UnsafePickleError, match="unpacks to more than"):
        load_data(zlib.compress(b"\x80" + bytes(100_000)))
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    huge.seek(0)
    with pytest.raises(UnsafePickleError, match="claims"):
        load_data_npy(huge)


WHOLE = pickle.dumps(sample(), protocol=4)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.integers(0, len(WHOLE)))
def test_a_damaged_file_is_read_or_refused_in_one_way(place: int, byte: int, keep: int) -> None:
    damaged = bytearray(WHOLE[:keep] if byte % 2 else WHOLE)
    if place < len(damaged):
        damaged[place] = byte
    try:
        load_data(bytes(damaged))
    except UnsafePickleError:
        pass
