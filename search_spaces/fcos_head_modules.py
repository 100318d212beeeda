"""The head that the choices of `search_spaces.fcos_head` spell."""

from functools import partial

from torch import nn

from search_spaces.fcos_head import LAYERS
from search_spaces.fcos_modules import LEVELS, FCOSHead, Tower
from search_spaces.operations import group_norm, make_operation
from search_spaces.space import Architecture

__all__ = ["SearchedHead"]


class SearchedHead(FCOSHead):
    """The head that head choices spell, with GroupNorm; both towers have the searched structure.

    Args:
        architecture: of `FCOS_HEAD`.
        width: channels of the pyramid maps and of the towers.
        num_classes: foreground classes.
    """

    def __init__(self, architecture: Architecture, width: int, num_classes: int):
        named = architecture.named
        share = int(named["head.share"])

        def layer(i: int) -> nn.Module:
            make = partial(make_operation, named[f"head.{i + 1}.op"], width, group_norm)
            return nn.ModuleList(make() for _ in LEVELS) if i < share else make()

        super().__init__(lambda: Tower([layer(i) for i in range(LAYERS)]), width, num_classes)
