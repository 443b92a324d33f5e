"""Claims about reading pickled body models: numbers come in, code does not."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import sys
import types

import numpy as np
import pytest
from scipy import sparse

from model.body.safe_pickle import UnsafePickleError, load_body_pickle


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def written(tmp_path, content, protocol=2):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("function", [os.system, builtins.eval, builtins.exec, builtins.getattr, np.load, collections.OrderedDict])
def test_a_pickle_that_calls_a_function_is_refused_by_name_and_runs_nothing(tmp_path, function, protocol):
    trace = tmp_path / "trace"
    path = written(tmp_path, {"v_template": Calls(function, f"touch {trace}" if function is os.system else f"open({str(trace)!r}, 'w')")}, protocol)
    with pytest.raises(UnsafePickleError, match=rf"refused .*{function.__name__}"):
        load_body_pickle(path)
    assert not trace.exists()


def test_a_call_hidden_inside_allowed_things_is_refused_too(tmp_path):
    trace = tmp_path / "trace"
    path = written(tmp_path, {"betas": [np.zeros(3), {"deep": (1, Calls(os.system, f"touch {trace}"))}]})
    with pytest.raises(UnsafePickleError, match="refused .*system"):
        load_body_pickle(path)
    assert not trace.exists()


def test_a_call_inside_an_array_of_objects_is_refused(tmp_path):
    trace = tmp_path / "trace"
    array = np.empty(1, dtype=object)
    array[0] = Calls(os.system, f"touch {trace}")
    with pytest.raises(UnsafePickleError):
        load_body_pickle(written(tmp_path, {"v_template": array}))
    assert not trace.exists()


def test_a_dotted_name_does_not_reach_through_an_allowed_module(tmp_path):
    # Protocol 4 resolves dotted names by attribute: numpy.load through "numpy", "ndarray.tofile" and the like.
    stream = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93\x8c\x01x\x85R."
    (tmp_path / "model.pkl").write_bytes(stream)
    with pytest.raises(UnsafePickleError, match="ndarray.tofile"):
        load_body_pickle(tmp_path / "model.pkl")


def test_persistent_references_are_refused(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"Psomewhere\n.")
    with pytest.raises(UnsafePickleError, match="persistent"):
        load_body_pickle(tmp_path / "model.pkl")


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x80\x02}q\x00U"])
def test_a_file_that_is_no_pickle_says_so(tmp_path, content):
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(UnsafePickleError, match="no pickled body model"):
        load_body_pickle(tmp_path / "model.pkl")


def test_a_pickle_of_something_else_says_what_came(tmp_path):
    with pytest.raises(UnsafePickleError, match="holds a list"):
        load_body_pickle(written(tmp_path, [1, 2, 3]))


@pytest.fixture
def chumpy(monkeypatch):
    """Enough of chumpy to pickle as it does; gone again before anything is read."""
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x) -> None:
            self.x = x

        def __getstate__(self):
            return {"x": self.x, "_dirty_vars": [], "term_order": "x"}

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "chumpy", package)
        patched.setitem(sys.modules, "chumpy.ch", module)
        yield Ch


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_numbers_in_every_published_wrapping_come_through(tmp_path, chumpy, protocol):
    rng = np.random.default_rng(0)
    matrix = sparse.random(4, 30, density=0.3, format="csc", random_state=0)
    content = {"v_template": chumpy(rng.normal(size=(30, 3))), "f": np.arange(12, dtype=np.uint32).reshape(4, 3), "J_regressor": matrix, "bs_style": "lbs", "weights": np.asfortranarray(rng.normal(size=(30, 4)))}
    arrays = load_body_pickle(written(tmp_path, content, protocol))
    assert np.array_equal(arrays["v_template"], content["v_template"].x)
    assert np.array_equal(arrays["J_regressor"], matrix.toarray())
    assert np.array_equal(arrays["weights"], content["weights"]) and arrays["f"].dtype == np.uint32
    assert "bs_style" not in arrays
