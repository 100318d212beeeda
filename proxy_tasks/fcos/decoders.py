"""Decoders at a proxy task's sizes: built with weights drawn from a seed, and counted."""

from dataclasses import dataclass

import torch
from torch import nn

from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.fcos.detector import parse_width
from proxy_tasks.images import padded
from search_spaces import Architecture
from search_spaces.parts.complexity import Complexity, count

__all__ = ["DecoderSizes"]

STRIDES = (4, 8, 16, 32)  # of C2..C5


@dataclass(frozen=True)
class DecoderSizes:
    """What a decoder's size depends on beside its architecture.

    Args:
        backbone: its name.
        classes: how many.
        width: the channels of FPN and head, ``"64-128"``.
        crop: side of the square crops, pixels.
    """

    backbone: str
    classes: int
    width: str
    crop: int

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """The decoder, its weights drawn from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._build(architecture)

    def complexity(self, architecture: Architecture) -> Complexity:
        """Parameters and MACs of the decoder for one crop, counted without computing anything."""
        side = padded(self.crop)
        with torch.device("meta"):
            features = {
                name: torch.empty(1, channels, side // stride, side // stride)
                for (name, channels), stride in zip(channels_of_backbone(self.backbone).items(), STRIDES, strict=True)
            }
            return count(self._build(architecture), features)

    def _build(self, architecture: Architecture) -> nn.Module:
        fpn_width, head_width = parse_width(self.width)
        decoder: nn.Module = architecture.build(
            in_channels=channels_of_backbone(self.backbone),
            num_classes=self.classes,
            fpn_width=fpn_width,
            head_width=head_width,
        )
        return decoder
