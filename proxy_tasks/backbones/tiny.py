"""``tiny``: this project's own backbone, small enough to be trained from scratch on a laptop within a minute."""

import torch
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import Conv2dNormActivation

__all__ = ["CHANNELS", "tiny"]

CHANNELS = {"C2": 24, "C3": 48, "C4": 64, "C5": 96}


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.Sequential(
            Conv2dNormActivation(channels, channels, 3),
            Conv2dNormActivation(channels, channels, 3, activation_layer=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.convs(x))


def tiny() -> nn.Module:
    """A stem and four stages of one stride-2 3x3 convolution and one residual block; 0.4 M parameters."""
    stem, stages, width = Conv2dNormActivation(3, 16, 3, stride=2), [], 16
    for channels in CHANNELS.values():
        stages.append(nn.Sequential(Conv2dNormActivation(width, channels, 3, stride=2), _Residual(channels)))
        width = channels
    return IntermediateLayerGetter(nn.Sequential(stem, *stages), {"1": "C2", "2": "C3", "3": "C4", "4": "C5"})
