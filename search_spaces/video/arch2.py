"""The decoder of arch2, the static segmentation network of the video work: found by search, published as it stands.

Three merge cells join encoder maps at strides 8, 16 and 32: (C3, C5), (that, C5), (C4, C4). The last two are
concatenated and brought to ``dec``, which a 3×3 classifier reads; during training every merge cell has an auxiliary
classifier of its own.

Source: Nekrasov et al., "Fast Neural Architecture Search of Compact Semantic Segmentation Models via Auxiliary Cells",
CVPR 2019 (network "arch2"); thesis 6.3.1 and A.1. The adapter of C2 has parameters, which the published counts include,
but no merge cell takes C2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.parts.complexity import COUNTING
from search_spaces.parts.maps import resize
from search_spaces.parts.operations import batch_norm, conv_norm_relu, make_operation
from search_spaces.space import Architecture

__all__ = ["Arch2Decoder", "Classifier", "build_arch2"]

MERGES = (("C3", "C5"), ("m1", "C5"), ("C4", "C4"))
"""What m1, m2 and m3 join; m2 and m3 are concatenated."""


class Classifier(nn.Conv2d):
    """A 3×3 convolution with bias to class scores; (N, width, H, W) -> (N, num_classes, H, W)."""

    def __init__(self, width: int, num_classes: int):
        super().__init__(width, num_classes, 3, padding=1)


class _Cell(nn.Module):
    """dil3(x) + [gap(x) + a] + [1×1(a) + b] + [dil3(1×1(a)) + 1×1(b)] with a = 3×3(x) and b = 3×3(gap(x))."""

    def __init__(self, width: int):
        super().__init__()
        names = ("conv3x3_dil3", "gap", "conv3x3", "conv1x1", "conv3x3", "conv3x3_dil3", "conv1x1")
        self.ops = nn.ModuleList(make_operation(name, width, batch_norm) for name in names)

    def forward(self, x: Tensor) -> Tensor:
        dilated, gap, a_op, a_narrow, b_op, a_dilated, b_narrow = self.ops
        pooled, a = gap(x), a_op(x)
        narrow, b = a_narrow(a), b_op(pooled)
        out: Tensor = dilated(x) + (pooled + a) + (narrow + b) + (a_dilated(narrow) + b_narrow(b))
        return out


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
        in_channels: channels of the encoder's C2, C3, C4, C5.
        num_classes: of the classifiers.
        width: channels inside; 64 in the publication.
        auxiliary: with the three auxiliary classifiers, for training.
    """

    def __init__(self, in_channels: Mapping[str, int], num_classes: int, width: int = 64, auxiliary: bool = False):
        super().__init__()
        self.adapters = nn.ModuleDict(
            {level: conv_norm_relu(in_channels[level], width, 1, batch_norm) for level in ("C2", "C3", "C4", "C5")}
        )
        self.merges = nn.ModuleList(_Merge(width) for _ in MERGES)
        self.bottleneck = conv_norm_relu(2 * width, width, 1, batch_norm)
        self.classifier = Classifier(width, num_classes)
        self.auxiliary = nn.ModuleList(Classifier(width, num_classes) for _ in MERGES) if auxiliary else None

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor | list[Tensor]]:
        """C2..C5 (N, C, ·, ·) -> ``dec`` (N, width, H/8, W/8), ``logits`` (N, num_classes, H/8, W/8).

        With auxiliary classifiers and in training mode also ``aux``, the three merge cells' class scores.
        """
        wanted = [level for level in self.adapters if level != "C2" or COUNTING.get()]
        pool: dict[str, Tensor] = {level: self.adapters[level](features[level]) for level in wanted}
        for number, (merge, (x, y)) in enumerate(zip(self.merges, MERGES, strict=True), start=1):
            pool[f"m{number}"] = merge(pool[x], pool[y])
        height, width = pool["m2"].shape[-2:]
        joined = torch.cat([pool["m2"], resize(pool["m3"], (height, width))], dim=1)
        dec = self.bottleneck(torch.relu(joined))
        out: dict[str, Tensor | list[Tensor]] = {"dec": dec, "logits": self.classifier(dec)}
        if self.auxiliary is not None and self.training:
            out["aux"] = [head(pool[f"m{n}"]) for n, head in enumerate(self.auxiliary, start=1)]
        return out


def build_arch2(architecture: Architecture, **sizes: Any) -> Arch2Decoder:
    """The builder of the space: an `Arch2Decoder` of these sizes, whose one architecture says nothing more."""
    return Arch2Decoder(**sizes)
