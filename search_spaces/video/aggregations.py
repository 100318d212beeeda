"""Binary aggregations of the dynamic cell: two maps of one width become one, in an order that matters.

Maps of different sizes: the smaller is resized bilinearly to the larger first. Notation: x the first and y the second
map, (N, C, H, W) once they have one size.

Source: Nekrasov et al., "Architecture Search of Dynamic Cells for Semantic Video Segmentation", WACV 2020; H. Chen's
thesis, table 6.2 and appendix A.2. Sum and concatenation are those of `search_spaces.parts.aggregations`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.errors import InputError
from search_spaces.options import VIDEO_AGGREGATIONS
from search_spaces.parts.aggregations import make_aggregation
from search_spaces.parts.maps import match_sizes
from search_spaces.parts.operations import DepthwiseConv2d
from search_spaces.parts.precision import as_it_is

__all__ = [
    "Attention",
    "BilinearSampling",
    "PairConv3d",
    "Predictive",
    "filter_positions",
    "make_video_aggregation",
]


def filter_positions(x: Tensor, filters: Tensor) -> Tensor:
    """Every position's 3×3 neighbourhood of ``x``, weighted by the nine numbers that belong to that position.

    Args:
        x: the map (N, C, H, W); outside of it is zero.
        filters: (N, 9, H, W), the weights of the neighbourhood row by row, the same for all channels.

    Returns:
        (N, C, H, W).
    """
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    out = torch.zeros_like(x)
    for tap in range(9):
        top, left = divmod(tap, 3)
        out = out + padded[:, :, top : top + height, left : left + width] * filters[:, tap : tap + 1]
    return out


class Predictive(nn.Module):
    """x predicts the 3×3 filters that are applied to y ("predictive").

    x passes ReLU, a depthwise 3×3 convolution, ReLU, another one, ReLU, and a 1×1 convolution to nine channels, none
    with a bias; a softmax over the nine makes the filter of a position. y is taken as it is.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.filters = nn.Sequential(
            nn.ReLU(),  # not in place: x may be an input of other layers too
            DepthwiseConv2d(channels, 3, 1),
            nn.ReLU(inplace=True),
            DepthwiseConv2d(channels, 3, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 9, 1, bias=False),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two maps (N, C, ·, ·) -> (N, C, H, W) of the larger size."""
        x, y = match_sizes(x, y)
        return filter_positions(y, self.filters(x).softmax(dim=1).to(y.dtype))

    def macs(self, x: Tensor, output: Tensor) -> int:
        """Nine for every output: the predicted filters meet a 3×3 neighbourhood of one channel each."""
        return 9 * output.numel()


class BilinearSampling(nn.Module):
    """x sampled on an affine grid that y predicts, plus y ("bilinear").

    y passes a 1×1 convolution to six channels without bias and ReLU; a linear layer of the six channels' averages gives
    the grid's 2×3 matrix. No identity is added to it, and the layers start as torch starts them, so the sampled part
    starts anywhere. Outside of x is zero. The grid's corners are those of the pixels, not their centres
    (``align_corners=False``), which the text leaves open.

    Source of the grid: Jaderberg et al., "Spatial Transformer Networks", NIPS 2015, sec. 3.2.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, 6, 1, bias=False), nn.ReLU(inplace=True))
        self.matrix = nn.Linear(6, 6)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two maps (N, C, ·, ·) -> (N, C, H, W) of the larger size."""
        x, y = match_sizes(x, y)
        averages = self.reduce(y).mean((2, 3))
        with as_it_is(x):  # positions of bfloat16 would be off by a quarter of a pixel
            matrices = self.matrix(averages.to(self.matrix.weight.dtype)).view(-1, 2, 3)
            grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
            sampled = F.grid_sample(x.to(grid.dtype), grid, padding_mode="zeros", align_corners=False)
        return y + sampled.to(y.dtype)


class PairConv3d(nn.Conv2d):
    """x and y stacked along a new dimension and a depthwise 2×3×3 convolution without bias over it ("conv3d").

    Computed as the sum of a depthwise 3×3 convolution of each, which is the same and several times faster on a CPU. The
    weight is (C, 2, 3, 3): one of five dimensions could not be brought to channels_last.
    """

    def __init__(self, channels: int):
        super().__init__(2 * channels, channels, 3, padding=1, groups=channels, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Two maps (N, C, ·, ·) -> (N, C, H, W) of the larger size."""
        x, y = match_sizes(x, y)
        of_x, of_y = self.weight.split(1, dim=1)
        return F.conv2d(x, of_x, padding=1, groups=self.groups) + F.conv2d(y, of_y, padding=1, groups=self.groups)


class Attention(nn.Module):
    """x · sigmoid(y), element by element ("attention")."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two maps (N, C, ·, ·) -> (N, C, H, W) of the larger size."""
        x, y = match_sizes(x, y)
        return x * y.sigmoid()


def make_video_aggregation(name: str, channels: int) -> nn.Module:
    """The aggregation called ``name``, one of `options.VIDEO_AGGREGATIONS`; raises `InputError` where there is none."""
    match name:
        case "sum" | "concat":
            return make_aggregation(name, channels)
        case "predictive":
            return Predictive(channels)
        case "bilinear":
            return BilinearSampling(channels)
        case "conv3d":
            return PairConv3d(channels)
        case "attention":
            return Attention()
    raise InputError(f"there is no aggregation {name!r} of a cell; known: {', '.join(VIDEO_AGGREGATIONS)}")
