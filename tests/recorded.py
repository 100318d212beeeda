"""What a CUDA graph does, done on the CPU: a function's operations are recorded once and replayed with their memory.

As with a graph, Python runs only for the recording, which has no effect of its own: whatever it computed with, other
than the memory of tensors, is the same in every replay. An operation that reads a value ends the recording.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
"""Operations that read a value of the device's memory, for which it has to be waited."""


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _memory(tensor):
    return tensor.untyped_storage()._cdata


class _Recording(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls, self._own, self._before = [], set(), {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in READS:
            raise RuntimeError(f"{func} is not permitted while recording\nand more that is of no use to a reader")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info and argument.alias_info.is_write:
                self._keep(_tensors(value))
        if func is aten.native_batch_norm.default:  # updates statistics without saying so
            self._keep(_tensors(args[3:5]))
        out = func(*args, **kwargs)
        taken = {_memory(tensor) for tensor in _tensors((args, kwargs))}
        made = [_memory(tensor) not in taken for tensor in _tensors(out)]
        self._own.update(_memory(tensor) for tensor, new in zip(_tensors(out), made, strict=True) if new)
        self.calls.append((func, args, kwargs, out, made))
        return out

    def _keep(self, tensors):
        for tensor in tensors:
            if _memory(tensor) not in self._own and _memory(tensor) not in self._before:
                storage = tensor.untyped_storage()
                self._before[_memory(tensor)] = storage, storage.clone()

    def undo(self):
        """Gives all memory that was there before the recording its values back."""
        for storage, values in self._before.values():
            storage.copy_(values)

    @torch.no_grad()
    def replay(self):
        """All operations once more, on the memory as it is."""
        for func, args, kwargs, out, made in self.calls:
            for old, new, own in zip(_tensors(out), _tensors(func(*args, **kwargs)), made, strict=True):
                if own:  # the others are views of, or are, what the operation was given
                    old.copy_(new)


def recorded(step, example):
    """As `proxy_tasks.stepping` makes a graph of a step."""
    rows, recording = example.clone(), _Recording()
    try:
        with recording:
            loss = step(rows)
    finally:
        recording.undo()

    def replay(batch):
        rows.copy_(batch)
        recording.replay()
        return loss.clone()

    return replay
