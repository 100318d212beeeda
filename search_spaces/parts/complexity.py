"""Parameters, multiply-accumulates (MACs) and "ptflops" of a module, counted on one forward pass.

ptflops are the convention behind NAS-FCOS' published "FLOPs": the MACs, and for each output of some layers one or two
more.

| layer | MACs | ptflops add |
| --- | --- | --- |
| `Conv2d`, `Linear` | outputs x weights that make one output (k x k x C_in / groups) | outputs, where it has a bias |
| `ConvTranspose2d` | inputs x weights that one input meets (k x k x C_out / groups) | outputs, where it has a bias |
| a layer with a method ``macs`` | what the method says, see `StatesMacs` | outputs, where it has a bias |
| `BatchNorm2d` | 0 | 2 x outputs; frozen batch norm is not charged |
| `ReLU`, `ReLU6` | 0 | outputs |
| everything else | 0 | 0 |

"Everything else" is, among others, bilinear sampling, group norm, resizing, element-wise sums and products, and
activations that are functions rather than modules.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["Complexity", "StatesMacs", "UnusedAdapters", "count"]


@runtime_checkable
class StatesMacs(Protocol):
    """A layer of this project's (or a user's) own, which knows how many MACs it takes."""

    def macs(self, x: Tensor, output: Tensor) -> int:
        """The MACs of one forward pass, without those of the layers inside it, which are charged by themselves.

        Args:
            x: the layer's first input.
            output: what the layer made of it.
        """


@runtime_checkable
class UnusedAdapters(Protocol):
    """A network with adapters for inputs that it does not take: they have parameters, but `forward` skips them.

    The published figures charge such adapters, so `count` does; nothing else runs them.
    """

    def unused_adapters(self, *inputs: Any) -> Iterable[tuple[nn.Module, Tensor]]:
        """Each adapter that ``forward(*inputs)`` skips, with the feature map that it would be given."""


@dataclass(frozen=True)
class Complexity:
    """Figures of one module, for the whole input batch.

    Args:
        params: the number of all parameters.
        trainable_params: the number of those that require a gradient, which tables of detectors report.
        macs: multiply-accumulates.
        ptflops: see the head of this module.
    """

    params: int
    trainable_params: int
    macs: int
    ptflops: int


def count(module: nn.Module, *inputs: Any) -> Complexity:
    """Counts on ``module(*inputs)`` in evaluation mode; module and inputs may live on the meta device."""
    macs = extra = 0

    def charge(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal macs, extra
        if isinstance(layer, UnusedAdapters):
            for adapter, x in layer.unused_adapters(*args):
                adapter(x)  # its layers have hooks of their own
        else:
            layer_macs, layer_extra = _charge(layer, args[0], output)
            macs, extra = macs + layer_macs, extra + layer_extra

    handles = [layer.register_forward_hook(charge) for layer in module.modules() if isinstance(layer, _CHARGED)]
    training = {layer: layer.training for layer in module.modules()}
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for layer, mode in training.items():
            layer.training = mode
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return Complexity(sum(p.numel() for p in parameters), trainable, macs, macs + extra)


_MATRIX = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_CHARGED = (*_MATRIX, StatesMacs, UnusedAdapters, nn.BatchNorm2d, nn.ReLU, nn.ReLU6)


def _charge(layer: nn.Module, x: Tensor, output: Tensor) -> tuple[int, int]:
    """A layer's MACs, and what ptflops add to them."""
    outputs = output.numel()
    if isinstance(layer, nn.BatchNorm2d):
        return 0, 2 * outputs
    if isinstance(layer, nn.ReLU | nn.ReLU6):
        return 0, outputs
    if isinstance(layer, StatesMacs):
        macs = layer.macs(x, output)
    else:
        assert isinstance(layer, _MATRIX)
        # a weight (A, B, ...) meets every output B x ... times, a transposed one every input
        macs = (x.numel() if isinstance(layer, nn.ConvTranspose2d) else outputs) * layer.weight[0].numel()
    return macs, outputs if getattr(layer, "bias", None) is not None else 0
