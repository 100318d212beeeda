"""The FPN space of NAS-FCOS: seven basic blocks over a growing pool of feature maps.

Block t takes two maps of the pool, applies an operation to each, aggregates them and adds the result, ``b{t}``, to the
pool. Blocks 5, 6 and 7 give P5, P4 and P3, resized to the sizes of C5, C4 and C3; what no block takes of blocks 1 … 4
is added to all three (thesis eq. 7.1).

Source: Wang et al., NAS-FCOS, CVPR 2020, sec. 3.2; H. Chen's thesis, sec. 7.3.2. The pool of the text is C3 … C5, that
of the published networks C2 … C5, and there every map of the pool has an adapter, whether a block takes it or not.
"""

from functools import partial

from search_spaces.blocks import block_choices, least_spelling
from search_spaces.options import AGGREGATIONS, FPN_OPERATIONS
from search_spaces.space import Choice, SearchSpace

__all__ = ["BLOCKS", "FCOS_FPN", "FCOS_FPN_C2", "INNER", "fpn_canonical", "fpn_choices"]

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


def _space(name: str, levels: tuple[str, ...]) -> SearchSpace:
    build, canonical = "search_spaces.fcos_builders:build_searched_fpn", partial(fpn_canonical, len(levels))
    return SearchSpace(name, fpn_choices(levels), build, canonical, proxy_task="fcos")


FCOS_FPN = _space("fcos_fpn", ("C3", "C4", "C5"))
FCOS_FPN_C2 = _space("fcos_fpn_c2", ("C2", "C3", "C4", "C5"))
