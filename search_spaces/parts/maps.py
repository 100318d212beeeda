"""Feature maps: their channels by name, and bringing them to one size."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from search_spaces.errors import InputError

__all__ = [
    "Features",
    "channels_of",
    "match_sizes",
    "resize",
]

Features = Mapping[str, Tensor]
"""Feature maps (N, C, H, W) by their names, ``"C2"`` to ``"C5"``."""


def channels_of(in_channels: Mapping[str, int], levels: Sequence[str]) -> list[int]:
    """The channels of the feature maps called ``levels``; raises `InputError` where one is not given."""
    for level in levels:
        if level not in in_channels:
            raise InputError(f"in_channels must give the channels of {level}, got {', '.join(in_channels) or 'none'}")
    return [in_channels[level] for level in levels]


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``x`` (N, C, H, W) resized bilinearly to ``size`` (corners not aligned), itself where it has that size."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False).to(x.dtype)  # see `parts.precision`


def match_sizes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps (N, C, ·, ·), the smaller resized bilinearly to the size of the larger."""
    size = max((x.shape[-2], x.shape[-1]), (y.shape[-2], y.shape[-1]))
    return resize(x, size), resize(y, size)
