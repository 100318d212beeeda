"""Modulated deformable convolution (DCNv2) that is fast on a CPU, with one state dict on every device.

Notation: N images, C input and O output channels, H×W positions, k×k taps, G offset groups (each moves C/G channels).
The sampling position of a tap is its place on the regular grid plus a learned offset; the sampled value is bilinear,
zero outside the map, and multiplied by a learned mask.

Source: Zhu et al., "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019, sec. 3.2.
"""

from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from search_spaces.errors import InputError

__all__ = ["DeformConv3x3", "deform_conv2d"]

POSITIONS_AT_ONCE = 1024
"""Positions sampled together on a CPU: their columns (9·C floats each) stay in the cache and need no fresh pages."""


def deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, padding: int = 1, dilation: int = 1
) -> Tensor:
    """Modulated deformable convolution of stride 1 on a CPU, equal to `torchvision.ops.deform_conv2d`.

    Bilinear sampling is a weighted sum of four rows of a table (the channels_last map), which is what
    `torch.nn.functional.embedding_bag` computes; its bags, in channels_last order, are the rows of the matrix product.

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
    channels, height, width = x.shape[1:]
    out_channels, _, k, _ = weight.shape
    groups = mask.shape[1] // (k * k)
    out_height, out_width = offset.shape[-2:]
    shrink = dilation * (k - 1) - 2 * padding
    assert (out_height, out_width) == (height - shrink, width - shrink), "offsets are given per output position"
    assert offset.shape[1] == 2 * groups * k * k, "two offsets per group and tap"
    matrix = weight.reshape(out_channels, groups, -1, k * k).transpose(2, 3).reshape(out_channels, -1)
    size = max(1, POSITIONS_AT_ONCE // (out_height * out_width))
    outputs = []
    for images, offsets, masks in zip(x.split(size), offset.split(size), mask.split(size), strict=True):
        rows, shares = _corners(offsets, masks, groups, k, (height, width), padding, dilation)
        table = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).reshape(-1, channels // groups)
        columns = F.embedding_bag(rows, table, mode="sum", per_sample_weights=shares)
        outputs.append(F.linear(columns.view(len(images), out_height, out_width, matrix.shape[1]), matrix, bias))
    return torch.cat(outputs).permute(0, 3, 1, 2)


def _corners(
    offset: Tensor, mask: Tensor, groups: int, k: int, size: tuple[int, int], padding: int, dilation: int
) -> tuple[Tensor, Tensor]:
    """The four map rows around every sampling position and their shares of the sample.

    The map has a border of zeros one pixel wide; a corner further out is moved onto it, so no validity mask is needed.

    Returns:
        rows: int32 (N·H'·W'·G·k·k, 4), indices into the bordered channels_last map split by group.
        shares: the same shape, differentiable in ``offset`` and ``mask``.
    """
    height, width = size
    n, _, out_height, out_width = offset.shape
    integers = partial(torch.arange, dtype=torch.int32, device=offset.device)
    tap = integers(k * k)
    grid_y = integers(out_height).view(-1, 1, 1, 1) + (tap // k * dilation - padding)
    grid_x = integers(out_width).view(-1, 1, 1) + (tap % k * dilation - padding)
    offset = offset.permute(0, 2, 3, 1).reshape(n, out_height, out_width, groups, k * k, 2)
    mask = mask.permute(0, 2, 3, 1).reshape(n, out_height, out_width, groups, k * k)
    y, x = offset[..., 0] + grid_y, offset[..., 1] + grid_x
    y0, x0 = y.detach().floor(), x.detach().floor()
    top, left = y0.to(torch.int32) + 1, x0.to(torch.int32) + 1  # in the bordered map

    image = integers(n).view(-1, 1, 1, 1, 1) * ((height + 2) * (width + 2) * groups)
    start = image + integers(groups).view(-1, 1)
    stride = (width + 2) * groups
    upper, lower = (row.clamp(0, height + 1).mul_(stride).add_(start) for row in (top, top + 1))
    west, east = (column.clamp(0, width + 1).mul_(groups) for column in (left, left + 1))
    rows = torch.stack((upper + west, upper + east, lower + west, lower + east))

    down = mask * (y - y0)
    up = mask - down
    up_right, down_right = up * (x - x0), down * (x - x0)
    shares = torch.stack((up - up_right, up_right, down - down_right, down_right))
    # stacked first and transposed once: a stack along the last dimension is several times slower
    return rows.reshape(4, -1).t().contiguous(), shares.reshape(4, -1).t().contiguous()


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
        pairs = predicted.shape[1] * 2 // 3
        offset, mask = predicted[:, :pairs], predicted[:, pairs:].sigmoid()
        if x.device.type == "cpu" and not torch.compiler.is_exporting():  # ONNX has torchvision's operator as one node
            with torch.autocast("cpu", enabled=False):  # no kernel of it takes bfloat16
                x, offset, mask = (value.to(self.weight.dtype) for value in (x, offset, mask))
                return deform_conv2d(x, offset, self.weight, self.bias, mask)
        return torchvision.ops.deform_conv2d(x, offset, self.weight, self.bias, padding=1, mask=mask)

    def macs(self, x: Tensor, output: Tensor) -> int:
        """Those of a dense 3×3 convolution: bilinear sampling is not charged, see `search_spaces.parts.complexity`."""
        return output.numel() * self.weight[0].numel()
