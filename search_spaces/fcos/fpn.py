"""Feature pyramid networks: the standard one, and the one that the choices of `search_spaces.fcos.choices` spell.

Notation: N images; feature maps C2 … C5 of strides 4 … 32; pyramid maps P3 … P7 of strides 8 … 128.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from search_spaces.errors import InputError
from search_spaces.fcos.choices import BLOCKS, LEVELS, LINEAR, fpn_outputs
from search_spaces.parts.aggregations import make_aggregation
from search_spaces.parts.block import Block
from search_spaces.parts.deform_conv import DeformConv3x3
from search_spaces.parts.maps import Features, channels_of, resize
from search_spaces.parts.operations import batch_norm, conv_norm_relu, make_operation
from search_spaces.space import Architecture

__all__ = ["DeformableFPN", "SearchedFPN", "StandardFPN", "TopLevels"]


class TopLevels(nn.Module):
    """Widens P3 … P5 by repeating their channels and adds P6, P7 by 3×3 stride-2 convolutions, ReLU before P7.

    Repetition costs nothing, as the published counts of the widths 128-256 say.

    Args:
        width: channels of the maps that come in.
        out_width: channels of all that go out.

    Raises:
        InputError: ``out_width`` is no multiple of ``width``.
    """

    def __init__(self, width: int, out_width: int):
        super().__init__()
        if out_width % width:
            raise InputError(f"the head's width must be a multiple of the FPN's width {width}, got {out_width}")
        self.repeats = out_width // width
        self.p6_p7 = LastLevelP6P7(out_width, out_width)

    def forward(self, maps: Sequence[Tensor]) -> "OrderedDict[str, Tensor]":
        """P3, P4, P5 of (N, width, ·, ·) -> {"P3": (N, out_width, ·, ·), ..., "P7": ...}."""
        wide = [torch.cat([x] * self.repeats, dim=1) if self.repeats > 1 else x for x in maps]
        wide, _ = self.p6_p7(wide, wide, list(LEVELS[:3]))
        return OrderedDict(zip(LEVELS, wide, strict=True))


class StandardFPN(nn.Module):
    """The feature pyramid network of FCOS on C3 … C5, P6 and P7 from P5.

    Args:
        in_channels: channels of C3, C4 and C5 by name.
        width: channels inside.
        out_width: channels of the pyramid maps.
    """

    def __init__(self, in_channels: Mapping[str, int], width: int, out_width: int):
        super().__init__()
        self.inputs = ("C3", "C4", "C5")
        self.fpn = FeaturePyramidNetwork(channels_of(in_channels, self.inputs), width)
        self.top = TopLevels(width, out_width)

    def forward(self, features: Features) -> "OrderedDict[str, Tensor]":
        """{"C3": (N, C, H, W), ...} -> {"P3": (N, out_width, H, W), ..., "P7": ...}."""
        pyramid = self.fpn(OrderedDict((name, features[name]) for name in self.inputs))
        out: OrderedDict[str, Tensor] = self.top(list(pyramid.values()))
        return out


class DeformableFPN(StandardFPN):
    """The standard pyramid with deformable 3×3 convolutions, twice: the second takes the first's maps (thesis 7.4.3).

    The text says that all 3×3 convolutions of the FPN are replaced by deformable ones, "repeated twice"; its counts are
    not published. Here the two top-down passes are repeated whole; P6 and P7 stay as they are.
    """

    def __init__(self, in_channels: Mapping[str, int], width: int, out_width: int):
        super().__init__(in_channels, width, out_width)
        self.again = FeaturePyramidNetwork([width] * len(self.inputs), width)
        for pyramid in (self.fpn, self.again):
            # torchvision expects a convolution to be the first in a sequence
            pyramid.layer_blocks = nn.ModuleList(nn.Sequential(DeformConv3x3(width, width)) for _ in self.inputs)

    def forward(self, features: Features) -> "OrderedDict[str, Tensor]":
        """As the standard one."""
        pyramid = self.fpn(OrderedDict((name, features[name]) for name in self.inputs))
        out: OrderedDict[str, Tensor] = self.top(list(self.again(pyramid).values()))
        return out


class SearchedFPN(nn.Module):
    """The pyramid network that FPN choices spell.

    The adapter of a map that no block takes has parameters, but it is not run; `unused_adapters` lists it, because the
    published figures include it.

    Args:
        architecture: a point of a space of FPNs.
        in_channels: the channels of C3, C4 and C5 by name, and those of C2 where the space has it.
        width: the channels inside the pyramid network.
        out_width: the channels of the pyramid maps, a multiple of ``width``.

    Raises:
        InputError: a level's channels are missing, or a width is not possible.
    """

    def __init__(self, architecture: Architecture, in_channels: Mapping[str, int], width: int, out_width: int):
        super().__init__()
        named = architecture.named
        levels = architecture.space.choices[0].options
        linear = architecture.space.name.endswith(LINEAR)
        self.adapters = nn.ModuleDict(
            {
                level: nn.Conv2d(channels, width, 1) if linear else conv_norm_relu(channels, width, 1, batch_norm)
                for level, channels in zip(levels, channels_of(in_channels, levels), strict=True)
            }
        )
        numbers = range(1, BLOCKS + 1)
        self.wiring = [(named[f"fpn.{i}.x1"], named[f"fpn.{i}.x2"]) for i in numbers]
        self.used = {name for pair in self.wiring for name in pair}
        self.outputs, self.dangling = fpn_outputs(architecture)
        self.blocks = nn.ModuleList(
            Block(
                make_operation(named[f"fpn.{i}.op1"], width, batch_norm),
                make_operation(named[f"fpn.{i}.op2"], width, batch_norm),
                make_aggregation(named[f"fpn.{i}.agg"], width),
            )
            for i in numbers
        )
        self.top = TopLevels(width, out_width)

    def forward(self, features: Features) -> "OrderedDict[str, Tensor]":
        """{"C3": (N, C, H, W), ...} -> {"P3": (N, out_width, H, W), ..., "P7": ...}."""
        pool = {level: adapter(features[level]) for level, adapter in self.adapters.items() if level in self.used}
        for i, (block, (x1, x2)) in enumerate(zip(self.blocks, self.wiring, strict=True), start=1):
            pool[f"b{i}"] = block(pool[x1], pool[x2])
        maps = []
        for output, level in zip(self.outputs, ("C3", "C4", "C5"), strict=True):
            height, width = features[level].shape[-2:]
            size = (height, width)
            maps.append(sum((resize(pool[name], size) for name in self.dangling), resize(pool[output], size)))
        out: OrderedDict[str, Tensor] = self.top(maps)
        return out

    def unused_adapters(self, features: Features) -> list[tuple[nn.Module, Tensor]]:
        """The adapters of the maps that no block takes, each with its map; see `complexity.UnusedAdapters`."""
        return [(adapter, features[level]) for level, adapter in self.adapters.items() if level not in self.used]
