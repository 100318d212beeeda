"""Feature pyramids for cascades: torchvision's FPN on a backbone, and EfficientDet-D3's BiFPN.

Notation: B images; maps P2 … P6 of strides 4 … 64, all of W channels.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from proxy_tasks.backbones import channels_of_backbone, make_backbone
from proxy_tasks.masks.efficientdet import CHANNELS, P2_CHANNELS, efficientdet, maps_of

__all__ = ["LEVELS", "BiFPNPyramid", "FPNPyramid", "frozen_part"]

LEVELS = ("P2", "P3", "P4", "P5", "P6")


class FPNPyramid(nn.Module):
    """A backbone and torchvision's FPN on C2 … C5; P6 is every second position of P5, as in torchvision's Mask R-CNN.

    Args:
        backbone: see `make_backbone`.
        weights: see `make_backbone`.
        frozen: see `make_backbone`.
        width: W.

    Raises:
        InputError: as `make_backbone`.
    """

    def __init__(self, backbone: str, weights: str, frozen: bool | None, width: int):
        super().__init__()
        self.body = make_backbone(backbone, weights, frozen)
        channels = list(channels_of_backbone(backbone).values())
        self.fpn = FeaturePyramidNetwork(channels, width, extra_blocks=LastLevelMaxPool())
        self.out_channels = width

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """(B, 3, H, W), normalised, -> {"P2": (B, W, H/4, W/4), ..., "P6": ...}."""
        pyramid = self.fpn(OrderedDict(self.body(images)))
        return OrderedDict(zip(LEVELS, pyramid.values(), strict=True))


class BiFPNPyramid(nn.Module):
    """EfficientDet-D3's backbone and BiFPN, and the channel mapper that brings P2 … P5 to one width.

    The mapper is a 3×3 convolution a level, without norm or activation, and one of stride 2 from P5 to P6: the
    published count of parameters has them; the text states neither.

    Args:
        weights: see `efficientdet`.
        frozen: whether backbone and BiFPN keep their weights and batch-norm statistics; by default where they have any.
        width: W.

    Raises:
        InputError: as `efficientdet`.
    """

    def __init__(self, weights: str, frozen: bool | None, width: int):
        super().__init__()
        self.network, _ = efficientdet(weights)
        del self.network.class_net, self.network.box_net  # the detector's own heads
        self.frozen = weights != "none" if frozen is None else frozen
        self.network.requires_grad_(not self.frozen)
        channels = dict.fromkeys(LEVELS, CHANNELS) | {"P2": P2_CHANNELS}
        self.mapper = nn.ModuleDict(
            {
                level: nn.Conv2d(count, width, 3, stride=2 if level == "P6" else 1, padding=1)
                for level, count in channels.items()
            }
        )
        for conv in self.mapper.values():
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)
        self.out_channels = width
        self.train()  # a module begins in training mode, what is frozen must not

    def train(self, mode: bool = True) -> "BiFPNPyramid":
        """As of any module, but what is frozen stays in evaluation mode."""
        super().train(mode)
        self.network.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """(B, 3, H, W), normalised, of sides that 128 divides, -> {"P2": (B, W, H/4, W/4), ..., "P6": ...}."""
        with frozen_part(self.frozen):
            maps = maps_of(self.network, images)
        sources = maps | {"P6": maps["P5"]}
        return OrderedDict((level, conv(sources[level])) for level, conv in self.mapper.items())


@contextmanager
def frozen_part(frozen: bool) -> Iterator[None]:
    """Keeps nothing for gradients where the part inside is frozen."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        yield
