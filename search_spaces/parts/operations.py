"""Unary operations of all spaces: they keep the number of channels and the size of a map.

Source: Wang et al., "NAS-FCOS: Fast Neural Architecture Search for Object Detection", CVPR 2020, table 1, and H. Chen's
thesis, table 6.1 (video); the exact layers are those that the published parameter counts confirm: no bias before a
norm, except in a deformable convolution.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.errors import InputError
from search_spaces.options import OPERATIONS
from search_spaces.parts.deform_conv import DeformConv3x3
from search_spaces.parts.precision import as_it_is

__all__ = [
    "DepthwiseConv2d",
    "GlobalPool",
    "Norm",
    "batch_norm",
    "conv_norm_relu",
    "group_norm",
    "make_operation",
]

Norm = Callable[[int], nn.Module]
"""Makes the norm of a number of channels."""

batch_norm: Norm = nn.BatchNorm2d


class _GroupNorm(nn.GroupNorm):
    """GroupNorm that on a map of one position, where a group has few values, only scales and shifts.

    Two values normalised are always -1 and 1: a map of 1×1 with two channels a group would lose all that it says.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # a graph for maps of any size has to have both
            single = x.new_ones(()) * x.shape[-1] * x.shape[-2] == 1
            return torch.where(single, self._affine(x), super().forward(x))
        if x.shape[-1] == x.shape[-2] == 1:
            return self._affine(x)
        with as_it_is(x):  # sums are float32 inside of it anyway
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)

    def _affine(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return x * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of 32 groups, of fewer where a group would have less than two channels; none on maps of 1×1."""
    return _GroupNorm(math.gcd(64, channels) // 2 or 1, channels)


def conv_norm_relu(in_channels: int, out_channels: int, kernel: int, norm: Norm, dilation: int = 1) -> nn.Sequential:
    """A k×k convolution without bias, norm and ReLU; (N, in_channels, H, W) -> (N, out_channels, H, W)."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, norm(out_channels), nn.ReLU(inplace=True))


def make_operation(name: str, channels: int, norm: Norm) -> nn.Module:
    """The operation called ``name``, one of `options.OPERATIONS`; (N, channels, H, W) -> the same shape.

    Raises:
        InputError: no such operation, or a width that it cannot have.
    """
    match name:
        case "sep3x3":
            return _separable(channels, 3, 1, norm)
        case "sep3x3_dil3":
            return _separable(channels, 3, 3, norm)
        case "sep5x5_dil6":
            return _separable(channels, 5, 6, norm)
        case "skip":
            return nn.Identity()
        case "dconv3x3":
            return nn.Sequential(DeformConv3x3(channels, channels), norm(channels), nn.ReLU(inplace=True))
        case "conv1x1":
            return conv_norm_relu(channels, channels, 1, norm)
        case "conv3x3":
            return conv_norm_relu(channels, channels, 3, norm)
        case "conv3x3_dil3":
            return conv_norm_relu(channels, channels, 3, norm, dilation=3)
        case "linear3x3":
            return nn.Conv2d(channels, channels, 3, padding=1)
        case "gap":
            return GlobalPool(channels, norm)
    raise InputError(f"there is no operation {name!r}; known: {', '.join(OPERATIONS)}")


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise k×k convolution without bias that keeps the size of a map, and skips taps that only see its padding.

    A tap d pixels off the centre meets nothing but zeros on a map of d pixels or less: dilated kernels shrink to their
    centre on the small maps of a pyramid, with the same values and gradients, several times faster.
    """

    def __init__(self, channels: int, kernel: int, dilation: int):
        padding = dilation * (kernel // 2)
        super().__init__(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if torch.compiler.is_exporting():  # a graph for maps of any size has to have all taps
            return super().forward(x)
        dilation, middle = int(self.dilation[0]), self.kernel_size[0] // 2
        tall, wide = (min(middle, (int(size) - 1) // dilation) for size in x.shape[-2:])
        weight = self.weight[:, :, middle - tall : middle + tall + 1, middle - wide : middle + wide + 1]
        if tall == wide == 0:
            return x * weight.to(x.dtype).view(-1, 1, 1)
        return F.conv2d(x, weight, None, 1, (tall * dilation, wide * dilation), self.dilation, self.groups)


class GlobalPool(nn.Module):
    """Global average pooling, 1×1 convolution, norm and ReLU, upsampled to the size of the input ("gap").

    In training a batch of one image has one value per channel here, of which there is no variance: batch norm then
    normalises by its running statistics and leaves them as they are, where it would raise an error by itself. (Whether
    the batch is one image it knows best: other processes may have more of it.)
    """

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        self.conv, self.norm, self.relu = conv_norm_relu(channels, channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape, constant over each map."""
        y = self._normalised(self.conv(x.mean((2, 3), keepdim=True)))
        # to upsample one position is to repeat it; the layout of a 1×1 map says nothing, that of x is to be kept
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        return self.relu(y).expand_as(x).contiguous(memory_format=layout)

    def _normalised(self, y: Tensor) -> Tensor:
        norm = self.norm
        if not (isinstance(norm, nn.BatchNorm2d) and norm.training and len(y) == 1):
            normalised: Tensor = norm(y)
            return normalised
        parts = (y, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        try:
            return F.batch_norm(*parts, training=True, momentum=norm.momentum or 0.0, eps=norm.eps)
        except ValueError:
            return F.batch_norm(*parts, eps=norm.eps)


def _separable(channels: int, kernel: int, dilation: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(DepthwiseConv2d(channels, kernel, dilation), *conv_norm_relu(channels, channels, 1, norm))
