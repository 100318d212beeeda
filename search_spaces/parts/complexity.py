"""Parameters, multiply-accumulates (MACs) and "ptflops" of a module, counted on one forward pass.

MACs: output positions · k² · C_in / groups · C_out of every convolution (transposed: input positions; a cell's 3D one:
18 per output), linear layer and deformable convolution, and 9 per output for the filters that `Predictive` predicts.
Bilinear sampling, norms, resizing, element-wise sums and products are not charged. ptflops, the convention behind
NAS-FCOS' published "FLOPs": MACs + one per output that has a bias + two per output of `BatchNorm2d` (frozen batch norm
and group norm are not charged) + one per output of a `ReLU` or `ReLU6` module.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.parts.deform_conv import DeformConv3x3
from search_spaces.video.aggregations import Predictive

__all__ = ["COUNTING", "Complexity", "count"]

COUNTING: ContextVar[bool] = ContextVar("counting", default=False)
"""True while `count` runs: modules then also run layers that published counts include though no output needs them."""


@dataclass(frozen=True)
class Complexity:
    """Figures of one module, for the whole input batch.

    Args:
        params: all parameters.
        trainable_params: those that require a gradient, as tables of detectors report them.
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

    def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, extra
        layer_macs, layer_extra = _charge(layer, args[0], output)
        macs, extra = macs + layer_macs, extra + layer_extra

    handles = [layer.register_forward_hook(hook) for layer in module.modules() if isinstance(layer, _CHARGED)]
    training = {layer: layer.training for layer in module.modules()}
    token = COUNTING.set(True)
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        COUNTING.reset(token)
        for handle in handles:
            handle.remove()
        for layer, mode in training.items():
            layer.training = mode
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return Complexity(sum(p.numel() for p in parameters), trainable, macs, macs + extra)


_MATRIX = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, DeformConv3x3)
_CHARGED = (*_MATRIX, Predictive, nn.BatchNorm2d, nn.ReLU, nn.ReLU6)


def _charge(layer: nn.Module, x: Tensor, output: Tensor) -> tuple[int, int]:
    """MACs, and what ptflops add to them."""
    outputs = output.numel()
    if isinstance(layer, nn.BatchNorm2d):
        return 0, 2 * outputs
    if isinstance(layer, nn.ReLU | nn.ReLU6):
        return 0, outputs
    if isinstance(layer, Predictive):  # its convolutions are charged by themselves
        return 9 * outputs, 0
    assert isinstance(layer, _MATRIX)
    # a weight (A, B, ...) meets every output B·... times, a transposed one every input
    macs = (x.numel() if isinstance(layer, nn.ConvTranspose2d) else outputs) * layer.weight[0].numel()
    return macs, outputs if layer.bias is not None else 0
