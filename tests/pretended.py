"""A device that is none, to see without a GPU what code for one does.

Tensors on it compute on the CPU, through PyTorch's dispatcher, autograd included. As on a GPU, an operation on tensors
of both places is refused, save where one of them is a single number; and what a GPU would be waited for is counted.
"""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from recorded import READS
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretended")  # before a first backward pass, whose threads are by device
aten = torch.ops.aten
PROJECT = str(Path(__file__).parents[1] / "proxy_tasks")
TAKES_CPU_INDICES = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}
NAME = "pretended"
waits: Counter[str] = Counter()
"""By the line of the project that did it: a value that was read, a tensor that was moved between the places."""


class Pretended(torch.Tensor):
    """A tensor on the device; ``inner`` holds its values on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=f"{NAME}:0", **layout)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        """Waits for the device."""
        _wait("tolist")
        return self.inner.tolist()


def _wait(what):
    frame = sys._getframe()
    while frame and not frame.f_code.co_filename.startswith(PROJECT):
        frame = frame.f_back
    waits[f"{what} at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else str(what)] += 1


def _mapped(kind, function, value):
    """``value``, nested as it may be, with ``function`` of whatever is of a kind; torch's own does more, slowly."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_mapped(kind, function, one) for one in value])
    if isinstance(value, dict):
        return {name: _mapped(kind, function, one) for name, one in value.items()}
    return value


def _run(func, args, kwargs):
    tensors, wanted = [], []
    _mapped(torch.Tensor, tensors.append, (args, kwargs))
    _mapped(torch.device, wanted.append, (args, kwargs))
    ours = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    here = bool(ours)
    if wanted:
        here = wanted[0].type == NAME
        args, kwargs = _mapped(torch.device, lambda device: torch.device("cpu"), (args, kwargs))
    elif func is aten.copy_.default:
        here = isinstance(args[0], Pretended)
    elif here and func not in TAKES_CPU_INDICES:
        others = [tensor for tensor in tensors if tensor.dim() > 0 and not isinstance(tensor, Pretended)]
        if others:
            raise RuntimeError(f"{func} of tensors on both devices")
    if ours and func in READS:
        _wait(func)
    if (wanted or func is aten.copy_.default) and len(ours) != (len(tensors) if here else 0):
        _wait(func)
    out = func(*_mapped(Pretended, _inner, args), **_mapped(Pretended, _inner, kwargs))
    return _wrapped(out, tensors, ours) if here else out


def _inner(tensor):
    return tensor.inner


def _wrapped(out, tensors, ours):
    same = {id(tensor.inner): tensor for tensor in ours}
    normal = not all(tensor.is_inference() for tensor in tensors)

    def wrap(tensor):
        if id(tensor) in same:
            return same[id(tensor)]
        with torch.inference_mode(torch.is_inference_mode_enabled() and not normal):
            return Pretended(tensor)

    return _mapped(torch.Tensor, wrap, out)


class _Operations(TorchDispatchMode):
    """Sees operations that have no tensor of the device: what makes one, or moves one there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Makes tensors of data on the CPU first: that happens outside the dispatcher."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


@contextlib.contextmanager
def pretended_device() -> Iterator[str]:
    """Within it there is such a device; gives its name."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # `inner` would not follow ``parameter.data = …``
    waits.clear()
    try:
        with _Functions(), _Operations():
            yield f"{NAME}:0"
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
