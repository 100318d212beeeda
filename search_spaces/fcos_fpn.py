"""The FPN space of NAS-FCOS: seven basic blocks over a growing pool of feature maps.

Block t takes two maps of the pool, applies an operation to each, aggregates them and adds the result, ``b{t}``, to the
pool. Blocks 5, 6 and 7 give P5, P4 and P3, resized to the sizes of C5, C4 and C3; what no block takes of blocks 1 … 4
is added to all three (thesis eq. 7.1).

Source: Wang et al., NAS-FCOS, CVPR 2020, sec. 3.2; H. Chen's thesis, sec. 7.3.2. The pool of the text is C3 … C5, that
of the published networks C2 … C5, and there every map of the pool has an adapter, whether a block takes it or not.
"""

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from search_spaces.aggregations import AGGREGATIONS, make_aggregation, resize
from search_spaces.blocks import Block, block_choices, least_spelling
from search_spaces.complexity import COUNTING
from search_spaces.fcos_modules import Features, StandardFPN, TopLevels, build_decoder, channels_of
from search_spaces.operations import FPN_OPERATIONS, batch_norm, conv_norm_relu, make_operation
from search_spaces.space import Architecture, Choice, SearchSpace

__all__ = ["FCOS_FPN", "FCOS_FPN_C2", "SearchedFPN", "StandardFPN", "fpn_canonical", "fpn_choices"]

BLOCKS = 7
INNER = 4  # blocks 1 … 4; the others are outputs
Tokens = tuple[int, ...]


def fpn_choices(levels: tuple[str, ...]) -> tuple[Choice, ...]:
    """The 35 choices over a pool that starts as ``levels``."""
    return block_choices("fpn", "b", levels, BLOCKS, FPN_OPERATIONS, AGGREGATIONS)


def fpn_canonical(levels: int, tokens: Tokens) -> Tokens:
    """The least spelling of a network whose pool starts with ``levels`` maps.

    The (input, operation) pairs of a sum commute (a concatenation's do not: its grouped convolution tells them apart),
    and blocks 1 … 4 may be numbered in any order that takes inputs before they are used.
    """
    return least_spelling(tokens, levels, INNER, [AGGREGATIONS.index("sum")])


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


def _space(name: str, levels: tuple[str, ...]) -> SearchSpace:
    build = partial(build_decoder, SearchedFPN, None)
    return SearchSpace(name, fpn_choices(levels), build, partial(fpn_canonical, len(levels)), proxy_task="fcos")


FCOS_FPN = _space("fcos_fpn", ("C3", "C4", "C5"))
FCOS_FPN_C2 = _space("fcos_fpn_c2", ("C2", "C3", "C4", "C5"))
