"""Binary aggregations, those of the NAS-FCOS FPN space: two maps of one width become one.

Maps of different sizes: the smaller is resized bilinearly to the larger (NAS-FCOS, sec. 3.2).
"""

import torch
from torch import Tensor, nn

from search_spaces.errors import InputError
from search_spaces.options import AGGREGATIONS
from search_spaces.parts.maps import match_sizes

__all__ = ["Concat", "InterleavedConcat", "WeightedSum", "make_aggregation"]


class WeightedSum(nn.Module):
    """a·x + b·y with a learned weight per channel for each, starting at 1 ("sum")."""

    def __init__(self, channels: int):
        super().__init__()
        self.a = nn.Parameter(torch.ones(channels, 1, 1))
        self.b = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two maps (N, C, ·, ·) -> (N, C, H, W) of the larger size."""
        x, y = match_sizes(x, y)
        return self.a.to(x.dtype) * x + self.b.to(y.dtype) * y  # see `search_spaces.parts.precision`


class Concat(nn.Module):
    """Concatenation to 2C channels, BN, ReLU and a 1×1 convolution in C groups without bias ("concat").

    Output k sees channels 2k and 2k+1 of the stack (x, y), so no output mixes x with y: that is how the published
    counts come about, and the published networks were trained so.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(2 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(2 * channels, channels, 1, groups=channels, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two maps (N, C, ·, ·) -> (N, C, H, W) of the larger size."""
        out: Tensor = self.conv(self.relu(self.norm(torch.cat(match_sizes(x, y), dim=1))))
        return out


class _InterleavedConv(nn.Conv2d):
    """The grouped 1×1 convolution on interleaved channels: output k sees channels k and C + k."""

    def forward(self, stack: Tensor) -> Tensor:
        x, y = stack.chunk(2, dim=1)
        weight = self.weight.to(stack.dtype)
        return x * weight[:, 0] + y * weight[:, 1]


class InterleavedConcat(Concat):
    """`Concat` with the stack's channels interleaved: output k sees x_k and y_k ("concat_interleaved")."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.conv = _InterleavedConv(2 * channels, channels, 1, groups=channels, bias=False)


def make_aggregation(name: str, channels: int) -> nn.Module:
    """The aggregation called ``name``, of `options.AGGREGATIONS` or "concat_interleaved".

    Raises:
        InputError: there is none of that name.
    """
    match name:
        case "sum":
            return WeightedSum(channels)
        case "concat":
            return Concat(channels)
        case "concat_interleaved":
            return InterleavedConcat(channels)
    raise InputError(f"there is no aggregation {name!r}; known: {', '.join(AGGREGATIONS)}, concat_interleaved")
