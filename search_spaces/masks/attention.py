"""Attention: a map, or the channels of a map, weighed by what they themselves say.

Notation: N maps of C channels and H×W positions; A the weights, from 0 to 1.

Source: R. Manzanedo, "Hybrid Task Cascade with Attention", 2022, eq. 2.9 and 2.10 (spatial). That text gives no channel
attention: here it is that of Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, sec. 3.1, and both
together are channel before spatial attention, as there.
"""

import torch
from torch import Tensor, nn

from search_spaces.errors import InputError
from search_spaces.masks.choices import ATTENTIONS

__all__ = ["ChannelAttention", "SpatialAttention", "make_attention"]

REDUCTION = 16  # CBAM, sec. 4: by how much the hidden layer is narrower than the map


class SpatialAttention(nn.Module):
    """A(X) · X with A = sigmoid(conv3x3([mean over channels; maximum over channels])), one weight a position."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(summary)) * x


class ChannelAttention(nn.Module):
    """A(X) · X with A = sigmoid(f(mean over positions) + f(maximum over positions)), one weight a channel.

    f is a network of two layers with ReLU between them, shared by both.

    Args:
        channels: of the map; the hidden layer has a sixteenth of them, at least one.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        weights = torch.sigmoid(self.layers(x.mean(dim=(2, 3))) + self.layers(x.amax(dim=(2, 3))))
        return weights[:, :, None, None] * x


def make_attention(name: str, channels: int) -> nn.Module:
    """The attention called ``name``, one of `choices.ATTENTIONS`; raises `InputError` where there is none."""
    match name:
        case "spatial":
            return SpatialAttention()
        case "channel":
            return ChannelAttention(channels)
        case "both":
            return nn.Sequential(ChannelAttention(channels), SpatialAttention())
    raise InputError(f"there is no attention {name!r}; known: {', '.join(ATTENTIONS)}")
