"""The head space of NAS-FCOS: six operations in sequence and the layer from which on the levels share weights.

Source: Wang et al., NAS-FCOS, CVPR 2020, sec. 3.2; H. Chen's thesis, sec. 7.3.2.
"""

from functools import partial

from torch import nn

from search_spaces.fcos_modules import LEVELS, FCOSHead, StandardHead, Tower, build_decoder
from search_spaces.operations import HEAD_OPERATIONS, group_norm, make_operation
from search_spaces.space import Architecture, Choice, SearchSpace

__all__ = ["FCOS_HEAD", "FCOSHead", "SearchedHead", "StandardHead", "head_canonical", "head_choices"]

LAYERS = 6
Tokens = tuple[int, ...]


def head_choices() -> tuple[Choice, ...]:
    """The six operations and the sharing index: layers before it (counted from 0) have weights per level."""
    operations = (Choice(f"head.{i}.op", "head_op", HEAD_OPERATIONS) for i in range(1, LAYERS + 1))
    return (*operations, Choice("head.share", "share", tuple(str(i) for i in range(LAYERS + 1))))


def head_canonical(tokens: Tokens) -> Tokens:
    """Skips moved to the end; the sharing index counts the layers that are not skips."""
    *operations, share = tokens
    skip = HEAD_OPERATIONS.index("skip")
    layers = [token for token in operations if token != skip]
    before = sum(token != skip for token in operations[:share])
    return (*layers, *[skip] * (LAYERS - len(layers)), before)


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


FCOS_HEAD = SearchSpace(
    "fcos_head", head_choices(), partial(build_decoder, None, SearchedHead), head_canonical, proxy_task="fcos"
)
