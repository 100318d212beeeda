"""One training in several processes: every batch is cut, and what counts the whole batch is summed over them.

Rank r of N takes rows r, r + N, … of every batch. A loss is its rows' part of the whole batch's, so that the parts add
up to what one process would have. Outside `joined` there is one process, and everything here is that process's own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["count", "is_first", "joined", "largest", "part", "rows", "summed", "wait"]

_GROUP: ContextVar[dist.ProcessGroup | None] = ContextVar("group", default=None)


@contextmanager
def joined() -> Iterator[None]:
    """The processes of torch's process group train together, where there is one.

    Batch norm in training then takes its mean and variance over the whole batch, on any device
    (`torch.nn.SyncBatchNorm` is for GPUs alone).
    """
    if not dist.is_initialized():
        yield
        return
    group = dist.new_group()  # of its own: DistributedDataParallel's sums may be under way in the other
    assert isinstance(group, dist.ProcessGroup), "every process is in it"
    token = _GROUP.set(group)
    try:
        with _BatchNormOfAll():
            yield
    finally:
        _GROUP.reset(token)


def count() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait() -> None:
    """Until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def rows() -> slice:
    """This process's rows of every batch."""
    return slice(dist.get_rank(), None, count()) if dist.is_initialized() else slice(None)


def summed(value: Tensor) -> Tensor:
    """The sum over all processes; without a gradient to anything."""
    return _reduced(value, dist.ReduceOp.SUM)


def part(losses: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Means over this process's ``rows`` as its part of the means over the whole batch's."""
    if _GROUP.get() is None:
        return dict(losses)
    own = torch.tensor(float(rows), device=next(iter(losses.values())).device)
    share = own / summed(own)
    return {name: loss * share for name, loss in losses.items()}


def largest(value: Tensor) -> Tensor:
    """The maximum over all processes, element by element; without a gradient to anything."""
    return _reduced(value, dist.ReduceOp.MAX)


def _reduced(value: Tensor, operation: Any) -> Tensor:
    group = _GROUP.get()
    return value if group is None else _in_all(group, value, operation)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each part's gradient is the sum of all gradients."""

    @staticmethod
    def forward(value: Tensor) -> Tensor:
        return summed(value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        # the autograd engine calls this in threads of its own, which know nothing of the context variable
        return _in_all(context.group, gradients[0], dist.ReduceOp.SUM)

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        context.group = _GROUP.get()


def _in_all(group: dist.ProcessGroup, value: Tensor, operation: Any) -> Tensor:
    value = value.detach().clone()
    dist.all_reduce(value, operation, group)
    return value


class _BatchNormOfAll(TorchFunctionMode):
    """Every batch norm in training, whatever module calls it, has the statistics of all processes' rows."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _batch_norm(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` of (B, C, …) over the rows of all processes."""
    if not training:
        return F.batch_norm(images, running_mean, running_var, weight, bias, eps=eps)
    others = [0, *range(2, images.ndim)]
    shape = [1, -1, *[1] * (images.ndim - 2)]
    values = images.float()
    number = summed(torch.tensor(values.numel() / values.shape[1], device=values.device))
    if values.numel() == values.shape[1] and number < 2:
        raise ValueError(f"one value a channel has no variance: {tuple(values.shape)}")  # as torch's does
    mean = _sum(values.sum(others)) / number
    centred = values - mean.view(shape)
    variance = _sum(centred.square().sum(others)) / number
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(variance.detach() * number / (number - 1), momentum)
    normalised = centred * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        normalised = normalised * weight.view(shape)
    if bias is not None:
        normalised = normalised + bias.view(shape)
    return normalised.to(images.dtype)


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total
