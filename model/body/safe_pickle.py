"""Reads the pickles in which SMPL is published, without letting them run code.

A pickle names the classes and functions that it wants called. Plain unpicklers obey; this one knows a short list
(numpy arrays, scipy's sparse columns, a stand-in for chumpy's arrays) and refuses everything else by name.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import BinaryIO

import numpy as np
from scipy import sparse


class UnsafePickleError(ValueError):
    """A pickle that asks for something outside the allow-list, or is none at all."""


class _ChumpyArray:
    """Stands in for chumpy.ch.Ch: keeps the state that was pickled, computes nothing."""

    def __init__(self) -> None:
        self.state: dict[str, object] = {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.state = state

    def to_array(self) -> np.ndarray:
        if isinstance(self.state, dict) and isinstance(self.state.get("x"), np.ndarray):
            return self.state["x"]
        raise UnsafePickleError("a chumpy array in this pickle holds no plain values (key x); convert the file with SMPL's own tools")


class _SparseColumns:
    """Stands in for scipy's csc_matrix, whose pickled state varies with scipy's version."""

    def __init__(self) -> None:
        self.state: dict[str, object] = {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.state = state

    def to_array(self) -> np.ndarray:
        try:
            parts = tuple(np.asarray(self.state[k]) for k in ("data", "indices", "indptr"))
            shape = tuple(int(n) for n in self.state.get("_shape", self.state.get("shape")))
        except (KeyError, TypeError) as error:
            raise UnsafePickleError(f"a sparse matrix in this pickle lacks {error}") from error
        matrix = sparse.csc_matrix(parts, shape=shape)
        matrix.check_format()
        return matrix.toarray()


def _reconstruct(subtype: type, shape: tuple[int, ...], typecode: object) -> np.ndarray:
    """numpy's own first step in unpickling an array, for plain arrays only; shape and numbers come with its state."""
    return np.ndarray.__new__(np.ndarray, (0,), np.dtype("b"))


def _frombuffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """numpy's own way to unpickle an array since pickle protocol 5."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _scalar(dtype: np.dtype, data: bytes) -> np.generic:
    """A single number."""
    return np.frombuffer(data, dtype=dtype)[0]


def _dtype(code: object, align: object = False, copy: object = True) -> np.dtype:
    """A numpy type by its code; types of Python objects are refused, since their elements could be anything."""
    dtype = own_dtype(code)
    if dtype.hasobject:
        raise UnsafePickleError("this pickle holds an array of Python objects; only arrays of numbers are read")
    return dtype


def own_dtype(code: object) -> np.dtype:
    """A numpy type that nobody else holds: its state is about to be set, and numpy's own are shared by the whole program."""
    return np.dtype(code, copy=True)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Python 2 strings come as text to be encoded again."""
    return text.encode("latin1")


ALLOWED = {
    ("numpy", "ndarray"): "ndarray",  # only named as what is to be made; nothing may call it
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _latin1,
    ("chumpy.ch", "Ch"): _ChumpyArray,
    ("scipy.sparse.csc", "csc_matrix"): _SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): _SparseColumns,
    ("copy_reg", "_reconstructor"): lambda cls, base, state: cls.__new__(cls),
    ("copyreg", "_reconstructor"): lambda cls, base, state: cls.__new__(cls),
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
}


def check_state(built: object, state: object) -> None:
    """Refuse a state that numpy's own code would take on trust: a damaged one can bring the interpreter down.

    Raises:
        UnsafePickleError: it is not what numpy writes for a plain array or a plain type.
    """
    if callable(built):
        raise UnsafePickleError("refused: this pickle wants to change a function or a class")
    if isinstance(built, np.dtype):
        plain = isinstance(state, tuple) and len(state) == 8 and state[0] in (3, 4) and state[1] in ("<", ">", "|", "=")
        size = (built.itemsize, built.alignment, built.flags)
        if not plain or state[2:5] != (None, None, None) or any(n not in (-1, own) for n, own in zip(state[5:7], size, strict=False)) or state[7] != size[2]:
            raise UnsafePickleError(f"the state of a numpy type {built} in this pickle is damaged, or it has fields")
    elif isinstance(built, np.ndarray):
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[1], tuple) and isinstance(state[2], np.dtype)):
            raise UnsafePickleError("the state of an array in this pickle is damaged")
        _, shape, dtype, _, content = state
        if not all(type(n) is int and n >= 0 for n in shape) or not isinstance(content, list if dtype.hasobject else bytes):
            raise UnsafePickleError("the state of an array in this pickle is damaged")
        wanted = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
        if len(content) != wanted:
            raise UnsafePickleError(f"an array of {shape} in this pickle has {len(content)} of {wanted} bytes or elements")
    elif isinstance(built, np.generic):
        raise UnsafePickleError("refused: this pickle wants to change a number")


class CheckedUnpickler(pickle._Unpickler):
    """Python's own reader, the one written in Python, with every state checked before it is set."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def load_build(self) -> None:
        check_state(self.stack[-2], self.stack[-1])
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


class _Unpickler(CheckedUnpickler):
    def find_class(self, module: str, name: str) -> object:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise UnsafePickleError(f"refused {module}.{name}: a body model needs numbers only, and this pickle asks for code") from None

    def persistent_load(self, pid: object) -> object:
        raise UnsafePickleError("refused a persistent reference: a body model needs numbers only")

    def get_extension(self, code: int) -> object:
        raise UnsafePickleError("refused an extension code: a body model needs numbers only")


def load_body_pickle(path: Path) -> dict[str, np.ndarray]:
    """Read a pickled body model as named arrays of numbers; entries that are none are left out.

    Raises:
        UnsafePickleError: the file asks for anything outside the allow-list, or is no pickle of a dictionary.
    """
    with path.open("rb") as stream:
        content = _unpickle(stream, path)
    arrays = {}
    for name, value in content.items():
        if isinstance(value, _ChumpyArray | _SparseColumns):
            value = value.to_array()
        if isinstance(value, np.ndarray) and value.dtype != object:
            arrays[str(name)] = value
    return arrays


def _unpickle(stream: BinaryIO, path: Path) -> dict[object, object]:
    try:
        content = _Unpickler(stream, encoding="latin1").load()
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UnsafePickleError(f"{path} is no pickled body model: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise UnsafePickleError(f"{path} holds a {type(content).__name__}; expected a dictionary of arrays")
    return content
