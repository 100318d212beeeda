"""The decoder of arch2, the static segmentation network of the video work, wired as `search_spaces.video.choices` says.

Three merge cells join encoder maps at strides 8, 16 and 32; the last two results are concatenated and brought to
``dec``, which a 3×3 classifier reads. During training every merge cell has an auxiliary classifier of its own.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.parts.maps import resize
from search_spaces.parts.operations import batch_norm, conv_norm_relu, make_operation
from search_spaces.space import Architecture
from search_spaces.video.choices import ARCH2_CELL, ARCH2_JOINED, ARCH2_LEVELS, ARCH2_MERGES

__all__ = ["Arch2Decoder", "Classifier", "build_arch2"]

_USED = {name for pair in ARCH2_MERGES.values() for name in pair}


class Classifier(nn.Conv2d):
    """A 3×3 convolution with bias to class scores; (N, width, H, W) -> (N, num_classes, H, W)."""

    def __init__(self, width: int, num_classes: int):
        super().__init__(width, num_classes, 3, padding=1)


class _Cell(nn.Module):
    """The contextual cell, see `choices.ARCH2_CELL`."""

    def __init__(self, width: int):
        super().__init__()
        self.ops = nn.ModuleList(make_operation(operation, width, batch_norm) for operation, _ in ARCH2_CELL.values())

    def forward(self, x: Tensor) -> Tensor:
        pool = {"x": x}
        for op, (result, (_, source)) in zip(self.ops, ARCH2_CELL.items(), strict=True):
            pool[result] = op(pool[source])
        first, *others = (pool[result] for result in ARCH2_CELL)
        return sum(others, first)


class _Merge(nn.Module):
    """A contextual cell and a 1×1 convolution on each input; the sum at the larger one's size."""

    def __init__(self, width: int):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(_Cell(width), *conv_norm_relu(width, width, 1, batch_norm)) for _ in range(2)
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self.branches[0](x), self.branches[1](y)
        size = max((x.shape[-2], x.shape[-1]), (y.shape[-2], y.shape[-1]))
        return resize(x, size) + resize(y, size)


class Arch2Decoder(nn.Module):
    """The published decoder.

    Args:
        in_channels: the channels of the encoder's maps C2, C3, C4 and C5 by name.
        num_classes: the number of classes that the classifiers tell apart.
        width: the channels inside the decoder; 64 in the publication.
        auxiliary: whether there are the three auxiliary classifiers, which serve the training alone.
    """

    def __init__(self, in_channels: Mapping[str, int], num_classes: int, width: int = 64, auxiliary: bool = False):
        super().__init__()
        self.adapters = nn.ModuleDict(
            {level: conv_norm_relu(in_channels[level], width, 1, batch_norm) for level in ARCH2_LEVELS}
        )
        self.merges = nn.ModuleList(_Merge(width) for _ in ARCH2_MERGES)
        self.bottleneck = conv_norm_relu(2 * width, width, 1, batch_norm)
        self.classifier = Classifier(width, num_classes)
        self.auxiliary = nn.ModuleList(Classifier(width, num_classes) for _ in ARCH2_MERGES) if auxiliary else None

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor | list[Tensor]]:
        """C2..C5 (N, C, ·, ·) -> ``dec`` (N, width, H/8, W/8), ``logits`` (N, num_classes, H/8, W/8).

        With auxiliary classifiers and in training mode also ``aux``, the three merge cells' class scores.
        """
        pool = {level: adapter(features[level]) for level, adapter in self.adapters.items() if level in _USED}
        for merge, (name, (x, y)) in zip(self.merges, ARCH2_MERGES.items(), strict=True):
            pool[name] = merge(pool[x], pool[y])
        height, width = pool[ARCH2_JOINED[0]].shape[-2:]
        joined = torch.cat([resize(pool[name], (height, width)) for name in ARCH2_JOINED], dim=1)
        dec = self.bottleneck(torch.relu(joined))
        out: dict[str, Tensor | list[Tensor]] = {"dec": dec, "logits": self.classifier(dec)}
        if self.auxiliary is not None and self.training:
            out["aux"] = [head(pool[name]) for name, head in zip(ARCH2_MERGES, self.auxiliary, strict=True)]
        return out

    def unused_adapters(self, features: Mapping[str, Tensor]) -> list[tuple[nn.Module, Tensor]]:
        """The adapters of the maps that no merge cell takes, each with its map; see `complexity.UnusedAdapters`."""
        return [(adapter, features[level]) for level, adapter in self.adapters.items() if level not in _USED]


def build_arch2(architecture: Architecture, **sizes: Any) -> Arch2Decoder:
    """The builder of the space: an `Arch2Decoder` of these sizes, whose one architecture says nothing more."""
    return Arch2Decoder(**sizes)
