"""The dynamic cell that the choices of `search_spaces.video.choices` spell."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from search_spaces.parts.block import Block
from search_spaces.parts.maps import channels_of, resize
from search_spaces.parts.operations import batch_norm, conv_norm_relu, make_operation
from search_spaces.space import Architecture
from search_spaces.video.aggregations import make_video_aggregation
from search_spaces.video.choices import INPUTS

__all__ = ["DynamicCell"]


class DynamicCell(nn.Module):
    """The cell that an architecture spells.

    The adapter of an input that no layer takes has parameters, but it is not run; `unused_adapters` lists it.

    Args:
        architecture: a point of the space `VIDEO_CELL` or `VIDEO_CELL_4`.
        in_channels: the channels of the encoder's maps C3, C4 and C5 by name.
        width: the channels inside the cell, which are also those of ``dec``.

    Raises:
        InputError: a map's channels are missing, or an operation of the cell cannot have this width.
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
            current: the encoder's maps C3, C4 and C5 of the current frame, (N, C, ·, ·) each.
            previous: the encoder's map C5 and ``dec`` (N, width, ·, ·) of the frame before.

        Returns:
            (N, width, H, W) of C3's size.
        """
        maps = _inputs(current, previous)
        pool = {name: adapter(maps[name]) for name, adapter in self.adapters.items() if name in self.used}
        for i, (layer, (x1, x2)) in enumerate(zip(self.layers, self.wiring, strict=True), start=1):
            pool[f"c{i}"] = layer(pool[x1], pool[x2])
        height, width = current["C3"].shape[-2:]
        results = [resize(pool[name], (height, width)) for name in self.dangling]
        out: Tensor = self.output(torch.cat(results, dim=1))
        return out

    def unused_adapters(
        self, current: Mapping[str, Tensor], previous: Mapping[str, Tensor]
    ) -> list[tuple[nn.Module, Tensor]]:
        """The adapters of the inputs that no layer takes, each with its map; see `complexity.UnusedAdapters`."""
        maps = _inputs(current, previous)
        return [(adapter, maps[name]) for name, adapter in self.adapters.items() if name not in self.used]


def _inputs(current: Mapping[str, Tensor], previous: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The maps of both frames, named as in `INPUTS`."""
    return {f"prev_{name}": x for name, x in previous.items()} | dict(current)
