"""The dynamic cell: what carries a segmentation network from one video frame to the next, instead of its decoder.

Layer t takes two maps of a pool, applies an operation to each, aggregates them and adds the result, ``c{t}``, to the
pool. The pool starts with the encoder's last map and the decoder's output of the previous frame and three encoder maps
of the current one. All results that no layer takes make the output, the current frame's ``dec``.

Source: Nekrasov et al., "Architecture Search of Dynamic Cells for Semantic Video Segmentation", WACV 2020, sec. 3;
H. Chen's thesis, sec. 6.3, where C3, C4, C5 are called layer2, layer3, layer4. The text leaves the adapters and the
reduction of the output open: here a 1×1 convolution with batch norm and ReLU each, and each input has its adapter
whether a layer takes it or not.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from search_spaces.aggregations import resize
from search_spaces.blocks import Block, block_choices, least_spelling
from search_spaces.complexity import COUNTING
from search_spaces.fcos_modules import channels_of
from search_spaces.operations import VIDEO_OPERATIONS, batch_norm, conv_norm_relu, make_operation
from search_spaces.space import Architecture, SearchSpace
from search_spaces.video_aggregations import COMMUTATIVE, VIDEO_AGGREGATIONS, make_video_aggregation

__all__ = ["INPUTS", "VIDEO_CELL", "VIDEO_CELL_4", "DynamicCell", "cell_canonical"]

INPUTS = ("prev_C5", "prev_dec", "C3", "C4", "C5")
Tokens = tuple[int, ...]


def cell_canonical(tokens: Tokens) -> Tokens:
    """The least spelling of a cell.

    The (input, operation) pairs of a commutative aggregation may be exchanged, and layers may be numbered in any order
    that takes inputs before they are used: the 1×1 convolution of the output absorbs the order of what it joins.
    """
    commutative = [VIDEO_AGGREGATIONS.index(name) for name in COMMUTATIVE]
    return least_spelling(tokens, len(INPUTS), len(tokens) // 5, commutative)


class DynamicCell(nn.Module):
    """The cell that an architecture spells.

    The adapter of an input that no layer takes holds parameters but is skipped, except while `complexity.count` counts.

    Args:
        architecture: of `VIDEO_CELL` or `VIDEO_CELL_4`.
        in_channels: channels of the encoder's C3, C4, C5 by name.
        width: channels inside, of ``dec`` too.

    Raises:
        InputError: a map's channels are missing, or a width that an operation cannot have.
    """

    def __init__(self, architecture: Architecture, in_channels: Mapping[str, int], width: int = 64):
        super().__init__()
        named = architecture.named
        c3, c4, c5 = channels_of(in_channels, ("C3", "C4", "C5"))
        channels = dict(zip(INPUTS, (c5, width, c3, c4, c5), strict=True))
        self.adapters = nn.ModuleDict({name: conv_norm_relu(c, width, 1, batch_norm) for name, c in channels.items()})
        numbers = range(1, len(named) // 5 + 1)
        self.wiring = [(named[f"cell.{i}.x1"], named[f"cell.{i}.x2"]) for i in numbers]
        self.used = {name for pair in self.wiring for name in pair}
        self.dangling = [f"c{i}" for i in numbers if f"c{i}" not in self.used]
        self.layers = nn.ModuleList(
            Block(
                make_operation(named[f"cell.{i}.op1"], width, batch_norm),
                make_operation(named[f"cell.{i}.op2"], width, batch_norm),
                make_video_aggregation(named[f"cell.{i}.agg"], width),
            )
            for i in numbers
        )
        self.output = conv_norm_relu(len(self.dangling) * width, width, 1, batch_norm)

    def forward(self, current: Mapping[str, Tensor], previous: Mapping[str, Tensor]) -> Tensor:
        """The ``dec`` of the current frame.

        Args:
            current: the encoder's C3, C4, C5, (N, C, ·, ·) each.
            previous: C5 and ``dec`` (N, width, ·, ·) of the frame before.

        Returns:
            (N, width, H, W) of C3's size.
        """
        maps = {f"prev_{name}": x for name, x in previous.items()} | dict(current)
        wanted = [name for name in INPUTS if name in self.used or COUNTING.get()]
        pool = {name: self.adapters[name](maps[name]) for name in wanted}
        for i, (layer, (x1, x2)) in enumerate(zip(self.layers, self.wiring, strict=True), start=1):
            pool[f"c{i}"] = layer(pool[x1], pool[x2])
        height, width = current["C3"].shape[-2:]
        results = [resize(pool[name], (height, width)) for name in self.dangling]
        out: Tensor = self.output(torch.cat(results, dim=1))
        return out


def _space(name: str, layers: int) -> SearchSpace:
    choices = block_choices("cell", "c", INPUTS, layers, VIDEO_OPERATIONS, VIDEO_AGGREGATIONS)
    return SearchSpace(name, choices, DynamicCell, cell_canonical, proxy_task="video")


VIDEO_CELL = _space("video_cell", 5)
VIDEO_CELL_4 = _space("video_cell_4", 4)
