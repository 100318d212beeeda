"""The dynamic cell: what carries a segmentation network from one video frame to the next, instead of its decoder.

Layer t takes two maps of a pool, applies an operation to each, aggregates them and adds the result, ``c{t}``, to the
pool. The pool starts with the encoder's last map and the decoder's output of the previous frame and three encoder maps
of the current one. All results that no layer takes make the output, the current frame's ``dec``.

Source: Nekrasov et al., "Architecture Search of Dynamic Cells for Semantic Video Segmentation", WACV 2020, sec. 3;
H. Chen's thesis, sec. 6.3, where C3, C4, C5 are called layer2, layer3, layer4. The text leaves the adapters and the
reduction of the output open: here a 1×1 convolution with batch norm and ReLU each, and each input has its adapter
whether a layer takes it or not.
"""

from search_spaces.blocks import block_choices, least_spelling
from search_spaces.options import COMMUTATIVE, VIDEO_AGGREGATIONS, VIDEO_OPERATIONS
from search_spaces.space import SearchSpace

__all__ = ["ARCH2", "INPUTS", "VIDEO_CELL", "VIDEO_CELL_4", "cell_canonical"]

INPUTS = ("prev_C5", "prev_dec", "C3", "C4", "C5")
Tokens = tuple[int, ...]


def cell_canonical(tokens: Tokens) -> Tokens:
    """The least spelling of a cell.

    The (input, operation) pairs of a commutative aggregation may be exchanged, and layers may be numbered in any order
    that takes inputs before they are used: the 1×1 convolution of the output absorbs the order of what it joins.
    """
    commutative = [VIDEO_AGGREGATIONS.index(name) for name in COMMUTATIVE]
    return least_spelling(tokens, len(INPUTS), len(tokens) // 5, commutative)


def _space(name: str, layers: int) -> SearchSpace:
    choices = block_choices("cell", "c", INPUTS, layers, VIDEO_OPERATIONS, VIDEO_AGGREGATIONS)
    build = "search_spaces.video.cell:DynamicCell"
    return SearchSpace(name, choices, build, cell_canonical, proxy_task="video")


VIDEO_CELL = _space("video_cell", 5)
VIDEO_CELL_4 = _space("video_cell_4", 4)

ARCH2 = SearchSpace("arch2", (), "search_spaces.video.arch2:build_arch2", proxy_task="video")
"""arch2, the static segmentation network that cells are searched around, as a space of one point.

Its decoder was found by search and published as it stands: nothing is left to choose. `search_spaces.video.arch2` has
the decoder and its sources.
"""
