"""A second device for machines that have none: its tensors compute on the CPU and refuse to mix with tensors that lie there.

PyTorch's rules hold: two tensors of an operation share a device, except that a tensor without axes may come from the CPU,
that indices may, and that copies cross. `numpy()` is refused. So code that runs here names a device wherever it makes a
tensor, and moves whatever has to be moved. The device is called `lazy`, a type that PyTorch knows, that has no kernels and
whose gradients it computes on the calling thread.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("lazy", 0)

_aten = torch.ops.aten
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
_CROSSING = {_aten._to_copy.default, _aten.copy_.default}


class _There(Tensor):
    """A tensor on the second device: an empty shell for PyTorch, and the numbers in a tensor on the CPU."""

    @staticmethod
    def __new__(cls, numbers: Tensor) -> _There:
        with torch._C._DisableTorchDispatch():
            shell = torch.empty_strided(numbers.shape, numbers.stride(), dtype=numbers.dtype, device="meta")
            made = torch.Tensor._make_subclass(cls, shell, False, dispatch_device=True, device_for_backend_keys=DEVICE)
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return DEVICE if func is torch.ops.prim.device.default else _run(func, args, kwargs or {})

    def tolist(self) -> object:
        return self.numbers.tolist()  # PyTorch waits for a GPU here, too, and knows no shells


class _Mode(TorchDispatchMode):
    """Takes over what makes tensors without being given one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return DEVICE if func is torch.ops.prim.device.default else _run(func, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """Tensors from plain numbers are made in compiled code that knows no modes: make them on the CPU, then move them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func not in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            return func(*args, **kwargs)
        like, values = (args[0], args[1:]) if func is Tensor.new_tensor else (None, args)
        device = kwargs.pop("device", None) or (like.device if like is not None else "cpu")
        if like is not None:
            kwargs.setdefault("dtype", like.dtype)
        if func is torch.as_tensor and isinstance(values[0], Tensor):
            return values[0].to(device, **kwargs)
        return torch.tensor(*values, **kwargs).to(device)


@contextlib.contextmanager
def second_device() -> Iterator[torch.device]:
    """The device, for the length of a block."""
    with _Mode(), _FromNumbers():
        yield DEVICE


def _run(func, args, kwargs):
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    there = [value for value in tensors if isinstance(value, _There)]
    if there and func not in _CROSSING:
        _refuse_to_mix(func, args, tensors)
    wanted = kwargs.get("device")
    lands_there = bool(there) if wanted is None else torch.device(wanted).type == DEVICE.type
    if func is _aten.copy_.default:
        lands_there = isinstance(args[0], _There)
    plain_args, plain_kwargs = tree_map_only(_There, lambda value: value.numbers, (args, kwargs))
    if wanted is not None:
        plain_kwargs["device"] = "cpu"
    result = func(*plain_args, **plain_kwargs)
    if not lands_there:
        return result
    result = tree_map_only(Tensor, lambda value: value if isinstance(value, _There) else _There(value), result)
    return return_and_correct_aliasing(func, args, kwargs, result) if there and _aliases(func) else result


@functools.cache
def _aliases(func) -> bool:
    """Whether an operation returns, or changes, what it was given."""
    return func._schema.is_mutable or any(each.alias_info is not None for each in func._schema.returns)


def _refuse_to_mix(func, args, tensors: list[Tensor]) -> None:
    here = [value for value in tensors if not isinstance(value, _There)]
    strays = [value for value in here if value.dim() or func in (_aten.cat.default, _aten.stack.default)]
    if func in _INDEXING:  # the indexed tensor decides; indices may lie on the CPU, values must not
        indexed, values = args[0], args[2] if len(args) > 2 else args[0]
        strays = [value for value in (indexed, values) if not isinstance(value, _There) and (value is indexed or value.dim())]
    if strays:
        raise RuntimeError(f"{func}: expected all tensors on {DEVICE}, but {len(strays)} of shape {tuple(strays[0].shape)} lie on cpu")
