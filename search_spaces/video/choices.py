"""The spaces of the video work: dynamic cells, and the published static network arch2, with its wiring.

A dynamic cell is what carries a segmentation network from one video frame to the next, in place of its decoder. Layer t
takes two maps of a pool, applies an operation to each, aggregates them and adds the result, ``c{t}``, to the pool. The
pool starts with the encoder's last map and the decoder's output of the previous frame and three encoder maps of the
current one. All results that no layer takes make the output, the current frame's ``dec``.

arch2 is the static network around which cells are searched. Its decoder was found by search, too, and is taken as it
was published, so that nothing is left to choose; the constants ``ARCH2_...`` write down its wiring, for the module in
`search_spaces.video.arch2` and for the drawing of it.

Source of the cell: Nekrasov et al., "Architecture Search of Dynamic Cells for Semantic Video Segmentation", WACV 2020,
sec. 3; H. Chen's thesis, sec. 6.3, where C3, C4, C5 are called layer2, layer3, layer4. The text leaves the adapters and
the reduction of the output open: here a 1×1 convolution with batch norm and ReLU each, and each input has its adapter
whether a layer takes it or not. Source of arch2: Nekrasov et al., "Fast Neural Architecture Search of Compact Semantic
Segmentation Models via Auxiliary Cells", CVPR 2019 (network "arch2"); thesis 6.3.1 and A.1.
"""

from search_spaces.blocks import block_choices, least_spelling
from search_spaces.options import COMMUTATIVE, VIDEO_AGGREGATIONS, VIDEO_OPERATIONS
from search_spaces.space import SearchSpace

__all__ = [
    "ARCH2",
    "ARCH2_CELL",
    "ARCH2_JOINED",
    "ARCH2_LEVELS",
    "ARCH2_MERGES",
    "INPUTS",
    "VIDEO_CELL",
    "VIDEO_CELL_4",
    "cell_canonical",
]

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
"""arch2 as a space of one point."""

ARCH2_LEVELS = ("C2", "C3", "C4", "C5")
"""The encoder's maps that have an adapter; the published counts include that of C2, which no merge cell takes."""
ARCH2_MERGES = {"m1": ("C3", "C5"), "m2": ("m1", "C5"), "m3": ("C4", "C4")}
"""The merge cells in order, each with the two maps that it brings to one size and adds, each by a cell of its own."""
ARCH2_JOINED = ("m2", "m3")
"""The merge cells' results that are concatenated, at the size of the first, to make ``dec``."""
ARCH2_CELL = {
    "t1": ("conv3x3_dil3", "x"),
    "t2": ("gap", "x"),
    "t3": ("conv3x3", "x"),
    "t4": ("conv1x1", "t3"),
    "t5": ("conv3x3", "t2"),
    "t6": ("conv3x3_dil3", "t4"),
    "t7": ("conv1x1", "t5"),
}
"""The contextual cell of every input of a merge cell: each result's operation, and whether it takes the cell's input
``x`` or an earlier result. The cell's output is the sum of all results."""
