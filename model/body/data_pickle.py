"""Reads results that other programs pickled (pickle, joblib, pickled numpy arrays) as plain data, without running their code.

The allow-list of `safe_pickle` is extended by what such files hold beside arrays of numbers: containers, arrays of objects
(whose elements come through the same list), paths kept as text, and torch tensors. Everything else is refused by name.

joblib (https://joblib.readthedocs.io) writes a pickle in which each array is a small wrapper, and the array's bytes follow
it in the stream; the whole may be compressed. It is read here without joblib, whose own reader runs any pickle.
"""

from __future__ import annotations

import collections
import io
import pickle
import zlib
from typing import BinaryIO

import numpy as np
import torch

from model.body import safe_pickle
from model.body.safe_pickle import CheckedUnpickler, UnsafePickleError

MAX_UNPACKED_BYTES = 2**31  # a compressed file that unpacks to more is refused
TEXT_CODECS = {"latin1", "latin-1", "ascii", "utf-8", "utf8"}


def _dtype(code: object, align: object = False, copy: object = True) -> np.dtype:
    """A numpy type by its code; objects too, for their elements come through this reader's list."""
    return safe_pickle.own_dtype(code)


def _scalar(dtype: np.dtype, data: bytes | object) -> object:
    """A single number."""
    return data if dtype.hasobject else np.frombuffer(data, dtype=dtype)[0]


def _frombuffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if dtype.hasobject:
        raise UnsafePickleError("this pickle lays Python objects over raw bytes")
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in TEXT_CODECS:
        raise UnsafePickleError(f"refused the text codec {encoding}")
    return text.encode(encoding)


def _storage(data: bytes) -> object:
    """The numbers of a tensor, which torch packs as a file of its own."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> torch.Tensor:
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, collections.OrderedDict())


def _path(*parts: str) -> str:
    return "/".join(str(part) for part in parts)


class _ArrayWrapper:
    """Stands in for joblib.numpy_pickle.NumpyArrayWrapper: which array follows in the stream."""

    def __setstate__(self, state: dict[str, object]) -> None:
        self.state = state

    def read(self, stream: BinaryIO) -> np.ndarray:
        """The array whose bytes come next."""
        dtype, shape = np.dtype(self.state["dtype"]), tuple(int(n) for n in self.state["shape"])
        if dtype.hasobject:
            return _unpickle(stream)
        if self.state.get("numpy_array_alignment_bytes") is not None:
            stream.read(stream.read(1)[0])
        count = int(np.prod(shape, dtype=np.int64))
        raw = stream.read(count * dtype.itemsize)
        if len(raw) != count * dtype.itemsize:
            raise UnsafePickleError(f"an array of {shape} ends after {len(raw)} of {count * dtype.itemsize} bytes; the file is cut off")
        order = "F" if self.state.get("order") == "F" else "C"
        return np.frombuffer(raw, dtype=dtype).reshape(shape, order=order)


ALLOWED = safe_pickle.ALLOWED | {
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("builtins", "set"): set,
    ("__builtin__", "dict"): dict,
    ("__builtin__", "list"): list,
    ("__builtin__", "set"): set,
    ("pathlib", "PosixPath"): _path,
    ("pathlib", "PurePosixPath"): _path,
    ("pathlib", "WindowsPath"): _path,
    ("pathlib._local", "PosixPath"): _path,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _ArrayWrapper,
}


class _DataUnpickler(CheckedUnpickler):
    dispatch = dict(CheckedUnpickler.dispatch)

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")
        self.raw = stream

    def find_class(self, module: str, name: str) -> object:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise UnsafePickleError(f"refused {module}.{name}: results need numbers and containers only, and this pickle asks for code") from None

    def persistent_load(self, pid: object) -> object:
        raise UnsafePickleError("refused a persistent reference: results need numbers and containers only")

    def get_extension(self, code: int) -> object:
        raise UnsafePickleError("refused an extension code: results need numbers and containers only")

    def load_build(self) -> None:  # joblib's arrays come in the middle of a pickle
        super().load_build()
        if isinstance(self.stack[-1], _ArrayWrapper):
            self.stack[-1] = self.stack[-1].read(self.raw)

    dispatch[pickle.BUILD[0]] = load_build


def load_data(content: bytes) -> object:
    """Read a pickle, a joblib file (plain or zlib-compressed), as plain containers, arrays and tensors.

    Raises:
        UnsafePickleError: it asks for anything outside the allow-list, unpacks to too much, or is no pickle.
    """
    return _unpickle(io.BytesIO(_unpacked(content)))


def load_data_npy(stream: BinaryIO) -> np.ndarray:
    """Read a .npy: plain numbers as they are, an array of objects through the allow-list.

    Raises:
        UnsafePickleError: see `load_data`; also a file that is no .npy.
    """
    try:
        major, _ = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
    except (ValueError, OSError, EOFError) as error:
        raise UnsafePickleError(f"this is no .npy array: {error}") from error
    if dtype.hasobject:
        content = _unpickle(stream)
        return content if isinstance(content, np.ndarray) else np.array(content, dtype=object)
    count = int(np.prod(shape, dtype=np.int64))
    if count * dtype.itemsize > MAX_UNPACKED_BYTES:
        raise UnsafePickleError(f"this array claims {count * dtype.itemsize} bytes; at most {MAX_UNPACKED_BYTES} are read")
    raw = stream.read(count * dtype.itemsize)
    if len(raw) != count * dtype.itemsize:
        raise UnsafePickleError(f"an array of {shape} ends after {len(raw)} of {count * dtype.itemsize} bytes; the file is cut off")
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _unpacked(content: bytes) -> bytes:
    """Undo zlib or gzip, within the limit."""
    if content[:2] != b"\x1f\x8b" and content[:1] != b"\x78":
        return content
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = unpacker.decompress(content, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise UnsafePickleError(f"this compressed file does not unpack: {error}") from error
    if unpacker.unconsumed_tail:
        raise UnsafePickleError(f"this compressed file unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    return plain


def _unpickle(stream: BinaryIO) -> object:
    try:
        return _DataUnpickler(stream).load()
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UnsafePickleError(f"this is no pickle that can be read: {type(error).__name__}: {error}") from error
