"""Networks as graphs: fixed inputs and outputs, tensors only, any batch and any image size.

Notation: N images of H x W pixels, float32 RGB from 0 to 1; all images of a batch have one size. Nothing is resized:
an image comes at the size at which the network is to see it.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from proxy_tasks.images import IMAGE_MEAN, IMAGE_STD

__all__ = ["Graph", "Sizes", "Translations"]

Sizes = tuple[str | int | None, ...]
"""A tensor's shape: a name for what is free, a number for what is fixed, None for what the network has."""

Translations = dict[Callable[..., Any], Callable[..., Any]]
"""What stands for an operator of torch in ONNX, by operator."""


class Graph(nn.Module):
    """A network from normalisation to what its user wants.

    Attributes:
        suffix: what a file's name ends with before ``.onnx``, where a network has more than one graph.
        inputs: the inputs' shapes by name.
        outputs: the outputs' shapes by name.
        compared: the outputs that must agree between torch and another runtime, number for number.
    """

    suffix = ""
    inputs: ClassVar[dict[str, Sizes]] = {"images": ("batch", 3, "height", "width")}
    outputs: ClassVar[dict[str, Sizes]]
    compared: tuple[str, ...]
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(-1, 1, 1))
        self.eval()

    def normalised(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) from 0 to 1 -> as backbones take them."""
        return (images - self.mean) / self.std

    def translations(self) -> Translations:
        """Operators that `torch.onnx.export` does not know, or takes apart, and what ONNX has for them."""
        from onnxscript import FLOAT, INT64
        from onnxscript import opset20 as op

        def affine_grid(theta: FLOAT, size: INT64, align_corners: bool) -> Any:
            return op.AffineGrid(theta, size, align_corners=int(align_corners))

        # taken apart, it keeps the example's size
        return {torch.ops.aten.affine_grid_generator.default: affine_grid}

    def arguments(self, clip: Tensor) -> tuple[Tensor, ...]:
        """This graph's inputs from two consecutive frames (2, N, 3, H, W)."""
        return (clip[0],)
