"""Modulated deformable convolution (DCNv2) that is fast on a CPU, with one state dict on every device.

Notation: N images, C input and O output channels, H×W positions, k×k taps, G offset groups (each moves C/G channels).
The sampling position of a tap is its place on the regular grid plus a learned offset; the sampled value is bilinear,
zero outside the map, and multiplied by a learned mask.

Source: Zhu et al., "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019, sec. 3.2.
"""

import math
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from search_spaces.errors import InputError
from search_spaces.parts.precision import as_it_is

__all__ = ["DeformConv3x3", "deform_conv2d"]


def deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, padding: int = 1, dilation: int = 1
) -> Tensor:
    """Modulated deformable convolution of stride 1 on a CPU, equal to `torchvision.ops.deform_conv2d`.

    Args:
        x: float (N, C, H, W), fastest in channels_last.
        offset: (N, 2·G·k·k, H', W') in pixels, a (dy, dx) pair per group and tap.
        weight: (O, C, k, k).
        bias: (O,).
        mask: (N, G·k·k, H', W').
        padding: zeros on each side, in pixels.
        dilation: spacing of the taps, in pixels.

    Returns:
        (N, O, H', W') in channels_last.
    """
    height, width = x.shape[2:]
    out_channels, _, k, _ = weight.shape
    groups = mask.shape[1] // (k * k)
    shrink = dilation * (k - 1) - 2 * padding
    assert offset.shape[2:] == (height - shrink, width - shrink), "offsets are given per output position"
    assert offset.shape[1] == 2 * groups * k * k, "two offsets per group and tap"
    matrix = weight.reshape(out_channels, groups, -1, k * k).transpose(2, 3).reshape(out_channels, -1)
    return _deform_conv2d(x, offset, matrix, bias, mask, k, padding, dilation)


@torch.library.custom_op("dense_nas::deform_conv2d", mutates_args=(), device_types="cpu")
def _deform_conv2d(
    x: Tensor, offset: Tensor, matrix: Tensor, bias: Tensor, mask: Tensor, k: int, padding: int, dilation: int
) -> Tensor:
    """As `deform_conv2d`, with the weight as a matrix (O, C·k·k), columns by group, tap and channel of it."""
    from search_spaces.parts.deform_sampling import Sampling  # on a GPU nobody waits for the compiler's import

    y = _empty(mask, len(matrix))
    Sampling(x, offset, mask, k, padding, dilation).product(matrix, bias, y.permute(0, 2, 3, 1))
    return y


@torch.library.custom_op("dense_nas::deform_conv2d_backward", mutates_args=(), device_types="cpu")
def _deform_conv2d_backward(
    gradient: Tensor,
    x: Tensor,
    offset: Tensor,
    matrix: Tensor,
    mask: Tensor,
    k: int,
    padding: int,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of ``x``, ``offset``, ``matrix`` and ``mask``."""
    from search_spaces.parts.deform_sampling import Sampling

    sampling = Sampling(x, offset, mask, k, padding, dilation)
    return sampling.backward(gradient.permute(0, 2, 3, 1).contiguous(), matrix)


def _empty(mask: Tensor, channels: int) -> Tensor:
    """Memory for a result: channels_last itself, since what is a view of another tensor nobody may change in place."""
    n, _, height, width = mask.shape
    return torch.empty(
        (n, channels, height, width), dtype=mask.dtype, device=mask.device, memory_format=torch.channels_last
    )


@_deform_conv2d.register_fake
def _(
    x: Tensor, offset: Tensor, matrix: Tensor, bias: Tensor, mask: Tensor, k: int, padding: int, dilation: int
) -> Tensor:
    return _empty(mask, len(matrix))


@_deform_conv2d_backward.register_fake
def _(gradient: Tensor, x: Tensor, offset: Tensor, matrix: Tensor, mask: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    of_x, of_offset, of_mask = (
        torch.empty_like(value, memory_format=torch.channels_last) for value in (x, offset, mask)
    )
    return of_x, of_offset, torch.empty_like(matrix), of_mask


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, offset, matrix, _, mask, *ctx.sizes = inputs
    ctx.save_for_backward(x, offset, matrix, mask)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    of_x, of_offset, of_matrix, of_mask = _deform_conv2d_backward(gradient, *ctx.saved_tensors, *ctx.sizes)
    return of_x, of_offset, of_matrix, gradient.sum((0, 2, 3)), of_mask, None, None, None


_deform_conv2d.register_autograd(_gradients, setup_context=_keep)


@register_flop_formula(torch.ops.dense_nas.deform_conv2d)
def _flops(x: Any, offset: Any, matrix: Any, bias: Any, mask: Any, *sizes: int, **unused: Any) -> int:
    """Those of the product alone, as PyTorch counts a convolution's; from shapes."""
    return int(2 * math.prod(matrix) * mask[0] * mask[2] * mask[3])


@register_flop_formula(torch.ops.dense_nas.deform_conv2d_backward)
def _flops_backward(gradient: Any, x: Any, offset: Any, matrix: Any, mask: Any, *sizes: int, **unused: Any) -> int:
    return 2 * _flops(x, offset, matrix, None, mask)


class DeformConv3x3(nn.Module):
    """A modulated deformable 3×3 convolution, padding 1, whose offsets and mask a 3×3 convolution predicts.

    That convolution starts at zero, hence at the regular grid with all masks 0.5. The published counts need its
    3·groups·9 output channels and the bias of both convolutions.

    Args:
        in_channels: the channels that come in, a multiple of ``offset_groups``.
        out_channels: the channels that go out.
        offset_groups: the number of groups of channels that move together.

    Raises:
        InputError: the channels do not divide into the groups.
    """

    def __init__(self, in_channels: int, out_channels: int, offset_groups: int = 2):
        super().__init__()
        if in_channels % offset_groups:
            raise InputError(
                f"a deformable convolution with {offset_groups} offset groups needs a multiple of {offset_groups} "
                f"channels, got {in_channels}"
            )
        regular = nn.Conv2d(in_channels, out_channels, 3)  # for its initial weight and bias
        assert regular.bias is not None
        self.weight, self.bias = regular.weight, regular.bias
        self.conv_offset_mask = nn.Conv2d(in_channels, 3 * offset_groups * 9, 3, padding=1)
        for parameter in self.conv_offset_mask.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        predicted = self.conv_offset_mask(x)
        masks = predicted.shape[1] // 3
        offset, mask = predicted.split([2 * masks, masks], dim=1)
        mask = mask.sigmoid()
        if x.device.type == "cpu" and not torch.compiler.is_exporting():  # ONNX has torchvision's operator as one node
            with as_it_is(x):  # no kernel of it takes bfloat16
                x, offset, mask = (value.to(self.weight.dtype) for value in (x, offset, mask))
                y = deform_conv2d(x, offset, self.weight, self.bias, mask)
        else:
            y = torchvision.ops.deform_conv2d(x, offset, self.weight, self.bias, padding=1, mask=mask)
        return y.to(predicted.dtype)  # what convolutions give here

    def macs(self, x: Tensor, output: Tensor) -> int:
        """Those of a dense 3×3 convolution: bilinear sampling is not charged, see `search_spaces.parts.complexity`."""
        return output.numel() * self.weight[0].numel()
