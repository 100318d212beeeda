"""The pyramid network that the choices of `search_spaces.fcos_fpn` spell."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from search_spaces.aggregations import make_aggregation, resize
from search_spaces.block_modules import Block
from search_spaces.complexity import COUNTING
from search_spaces.fcos_fpn import BLOCKS, INNER
from search_spaces.fcos_modules import Features, TopLevels, channels_of
from search_spaces.operations import batch_norm, conv_norm_relu, make_operation
from search_spaces.space import Architecture

__all__ = ["SearchedFPN"]


class SearchedFPN(nn.Module):
    """The pyramid network that FPN choices spell.

    The adapter of a map that no block takes holds parameters but is skipped, except while `complexity.count` counts:
    the published figures include it.

    Args:
        architecture: of `FCOS_FPN` or `FCOS_FPN_C2`.
        in_channels: channels of C3, C4, C5, in the second space of C2 too, by name.
        width: channels inside.
        out_width: channels of the pyramid maps, a multiple of ``width``.

    Raises:
        InputError: a level's channels are missing, or a width cannot be.
    """

    def __init__(self, architecture: Architecture, in_channels: Mapping[str, int], width: int, out_width: int):
        super().__init__()
        named = architecture.named
        levels = architecture.definition.choices[0].options
        self.adapters = nn.ModuleDict(
            {
                level: conv_norm_relu(channels, width, 1, batch_norm)
                for level, channels in zip(levels, channels_of(in_channels, levels), strict=True)
            }
        )
        numbers = range(1, BLOCKS + 1)
        self.wiring = [(named[f"fpn.{i}.x1"], named[f"fpn.{i}.x2"]) for i in numbers]
        self.used = {name for pair in self.wiring for name in pair}
        self.dangling = [f"b{i}" for i in range(1, INNER + 1) if f"b{i}" not in self.used]
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
        wanted = [level for level in self.adapters if level in self.used or COUNTING.get()]
        pool = {level: self.adapters[level](features[level]) for level in wanted}
        for i, (block, (x1, x2)) in enumerate(zip(self.blocks, self.wiring, strict=True), start=1):
            pool[f"b{i}"] = block(pool[x1], pool[x2])
        maps = []
        for output, level in (("b7", "C3"), ("b6", "C4"), ("b5", "C5")):
            height, width = features[level].shape[-2:]
            size = (height, width)
            maps.append(sum((resize(pool[name], size) for name in self.dangling), resize(pool[output], size)))
        out: OrderedDict[str, Tensor] = self.top(maps)
        return out
