"""Milliseconds of the operations on this machine, forward and backward: contiguous against channels_last tensors, and
torchvision's deformable convolution against ours. Run as ``python -m benchmarks.deform_conv [threads]``."""

import sys
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from experiments.timing import median_milliseconds
from search_spaces.parts.deform_conv import deform_conv2d
from search_spaces.parts.operations import batch_norm, make_operation

IMAGES, CHANNELS, SIZE = 16, 64, 32
OPERATIONS = ("conv1x1", "conv3x3", "sep3x3", "sep3x3_dil3", "sep5x5_dil6")
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def of_operation(name: str, memory_format: torch.memory_format) -> float:
    operation = make_operation(name, CHANNELS, batch_norm).to(memory_format=memory_format)
    step = training_step(lambda x: operation(x), [map_of(CHANNELS, memory_format)], operation)
    return median_milliseconds(step, "cpu", 5, warmup=1)


def of_deform_conv(function: Callable[..., Tensor], memory_format: torch.memory_format, repeats: int) -> float:
    weight, bias = nn.Parameter(0.05 * torch.randn(CHANNELS, CHANNELS, 3, 3)), nn.Parameter(torch.zeros(CHANNELS))
    x, offset, mask = (map_of(channels, memory_format) for channels in (CHANNELS, 36, 18))

    def apply(x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return function(x, offset, weight, bias, padding=1, mask=mask.sigmoid())

    return median_milliseconds(training_step(apply, [x, offset, mask]), "cpu", repeats, warmup=1)


def map_of(channels: int, memory_format: torch.memory_format) -> Tensor:
    return torch.randn(IMAGES, channels, SIZE, SIZE).contiguous(memory_format=memory_format).requires_grad_()


def training_step(
    function: Callable[..., Tensor], inputs: list[Tensor], module: nn.Module | None = None
) -> Callable[[], None]:
    gradient = torch.randn_like(function(*inputs))

    def step() -> None:
        for tensor in (*inputs, *(module.parameters() if module else ())):
            tensor.grad = None
        function(*inputs).backward(gradient)

    return step


def main() -> None:
    torch.manual_seed(0)
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    print(f"{IMAGES} images, {CHANNELS} channels, {SIZE}x{SIZE}, {torch.get_num_threads()} threads; ms, fwd + bwd")
    print(f"{'':<24}" + "".join(f"{name:>16}" for name in FORMATS))
    for name in OPERATIONS:
        print(f"{name:<24}" + "".join(f"{of_operation(name, f):16.1f}" for f in FORMATS.values()), flush=True)
    theirs = [of_deform_conv(torchvision.ops.deform_conv2d, f, repeats=3) for f in FORMATS.values()]
    ours = [of_deform_conv(deform_conv2d, f, repeats=9) for f in FORMATS.values()]
    print(f"{'deform, torchvision':<24}" + "".join(f"{ms:16.1f}" for ms in theirs))
    print(f"{'deform, ours':<24}" + "".join(f"{ms:16.1f}" for ms in ours))
    print(f"{'ratio':<24}" + "".join(f"{a / b:16.1f}" for a, b in zip(theirs, ours, strict=True)))


if __name__ == "__main__":
    main()
