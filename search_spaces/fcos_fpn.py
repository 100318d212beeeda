"""The FPN space of NAS-FCOS: seven basic blocks over a growing pool of feature maps.

Block t takes two maps of the pool, applies an operation to each, aggregates them and adds the result, ``b{t}``, to the
pool. Blocks 5, 6 and 7 give P5, P4 and P3, resized to the sizes of C5, C4 and C3; what no block takes of blocks 1 … 4
is added to all three (thesis eq. 7.1).

Source: Wang et al., NAS-FCOS, CVPR 2020, sec. 3.2; H. Chen's thesis, sec. 7.3.2. The pool of the text is C3 … C5, that
of the published networks C2 … C5, and there every map of the pool has an adapter, whether a block takes it or not.
"""

from collections import OrderedDict
from collections.abc import Mapping
from functools import cache, partial
from itertools import permutations

from torch import Tensor, nn

from search_spaces.aggregations import AGGREGATIONS, make_aggregation, resize
from search_spaces.complexity import COUNTING
from search_spaces.fcos_modules import Features, StandardFPN, TopLevels, build_decoder, channels_of
from search_spaces.operations import FPN_OPERATIONS, batch_norm, conv_norm_relu, make_operation
from search_spaces.space import Architecture, Choice, SearchSpace

__all__ = ["FCOS_FPN", "FCOS_FPN_C2", "Block", "SearchedFPN", "StandardFPN", "fpn_canonical", "fpn_choices"]

BLOCKS = 7
INNER = 4  # blocks 1 … 4; the others are outputs
Tokens = tuple[int, ...]


def fpn_choices(levels: tuple[str, ...]) -> tuple[Choice, ...]:
    """The 35 choices over a pool that starts as ``levels``."""
    choices = []
    for i in range(1, BLOCKS + 1):
        pool = (*levels, *(f"b{j}" for j in range(1, i)))
        choices += [Choice(f"fpn.{i}.{x}", "input", pool) for x in ("x1", "x2")]
        choices += [Choice(f"fpn.{i}.{op}", "op", FPN_OPERATIONS) for op in ("op1", "op2")]
        choices.append(Choice(f"fpn.{i}.agg", "agg", AGGREGATIONS))
    return tuple(choices)


def fpn_canonical(levels: int, tokens: Tokens) -> Tokens:
    """The least spelling of a network whose pool starts with ``levels`` maps.

    Two freedoms: the (input, operation) pairs of a sum commute (a concatenation's do not: its grouped convolution tells
    them apart), and blocks 1 … 4 may be numbered in any order that takes inputs before they are used.
    """
    blocks = [tokens[5 * i : 5 * i + 5] for i in range(BLOCKS)]
    return min(_relabelled(blocks, levels, order) for order in _orders(_needs(blocks, levels)))


def _needs(blocks: list[Tokens], levels: int) -> tuple[tuple[int, int], ...]:
    """The pairs (a, b) of blocks 1 … 4, counted from 0, where b takes a."""
    return tuple(sorted({(x - levels, i) for i in range(INNER) for x in blocks[i][:2] if x >= levels}))


@cache
def _orders(needs: tuple[tuple[int, int], ...]) -> tuple[Tokens, ...]:
    """All orders of blocks 1 … 4 in which every block comes after those that it takes."""
    return tuple(o for o in permutations(range(INNER)) if all(o.index(a) < o.index(b) for a, b in needs))


def _relabelled(blocks: list[Tokens], levels: int, order: Tokens) -> Tokens:
    renamed = list(range(levels + BLOCKS))
    for new, old in enumerate(order):
        renamed[levels + old] = levels + new
    tokens: list[int] = []
    for old in (*order, *range(INNER, BLOCKS)):
        x1, x2, op1, op2, aggregation = blocks[old]
        first, second = (renamed[x1], op1), (renamed[x2], op2)
        if AGGREGATIONS[aggregation] == "sum" and second < first:
            first, second = second, first
        tokens += (first[0], second[0], first[1], second[1], aggregation)
    return tuple(tokens)


class Block(nn.Module):
    """A basic block: aggregation(operation 1 of x1, operation 2 of x2); resizing comes after the operations."""

    def __init__(self, op1: str, op2: str, aggregation: str, width: int):
        super().__init__()
        self.op1 = make_operation(op1, width, batch_norm)
        self.op2 = make_operation(op2, width, batch_norm)
        self.agg = make_aggregation(aggregation, width)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Two maps (N, width, ·, ·) -> (N, width, H, W) of the larger size."""
        out: Tensor = self.agg(self.op1(x1), self.op2(x2))
        return out


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
            Block(named[f"fpn.{i}.op1"], named[f"fpn.{i}.op2"], named[f"fpn.{i}.agg"], width) for i in numbers
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
