"""The spaces of NAS-FCOS: the feature pyramid network (FPN), the head, and whole decoders made of both.

An FPN is seven basic blocks over a growing pool of feature maps. Block t takes two maps of the pool, applies an
operation to each, aggregates them and adds the result, ``b{t}``, to the pool. Three blocks give P5, P4 and P3, in this
order, resized to the sizes of C5, C4 and C3; what no block takes of the others is added to all three (thesis eq. 7.1).
Which three: by the text the last, 5, 6 and 7; by the authors' code the last three that no block takes (where there are
fewer, those and the last of the rest). The published networks are the same by both rules. The pool of the text is
C3 … C5, that of the published networks C2 … C5, and there every map of the pool has an adapter, whether a block takes
it or not. So there are four spaces of FPNs.

A fifth, ``fcos_fpn_linear``, is ours: its adapters are the standard FPN's laterals, 1×1 convolutions without norm and
ReLU, and its operations have that FPN's 3×3 convolution. So the standard FPN is a point of it.

A head is six operations in sequence and the layer from which on the pyramid's levels share weights.

Source: Wang et al., NAS-FCOS, CVPR 2020, sec. 3.2; H. Chen's thesis, sec. 7.3.2.
"""

from functools import partial

from search_spaces.blocks import block_choices, least_spelling
from search_spaces.errors import InputError
from search_spaces.options import AGGREGATIONS, FPN_OPERATIONS, HEAD_OPERATIONS, LINEAR_FPN_OPERATIONS
from search_spaces.space import Architecture, Choice, SearchSpace

__all__ = [
    "BLOCKS",
    "DEFORM_FPN_FCOS",
    "FCOS_DECODER",
    "FCOS_DECODER_C2",
    "FCOS_DECODER_C2_UNCONSUMED",
    "FCOS_DECODER_LINEAR",
    "FCOS_DECODER_UNCONSUMED",
    "FCOS_FPN",
    "FCOS_FPN_C2",
    "FCOS_FPN_C2_UNCONSUMED",
    "FCOS_FPN_LINEAR",
    "FCOS_FPN_UNCONSUMED",
    "FCOS_HEAD",
    "FPN_FCOS",
    "FPN_RETINANET",
    "INNER",
    "LAYERS",
    "LEVELS",
    "LINEAR",
    "fpn_canonical",
    "fpn_choices",
    "fpn_outputs",
    "head_canonical",
    "head_choices",
    "join",
    "split",
]

LEVELS = ("P3", "P4", "P5", "P6", "P7")
"""The maps of the pyramid, of strides 8 to 128, that an FPN gives and a head takes."""
BLOCKS = 7
INNER = 4  # blocks 1 … 4; the others are outputs by the text's rule
UNCONSUMED = "_unconsumed"  # with which the names of the spaces end whose outputs follow the rule of the code
LINEAR = "_linear"  # with which the name of the space ends whose adapters are linear
LAYERS = 6
Tokens = tuple[int, ...]


def fpn_choices(levels: tuple[str, ...], operations: tuple[str, ...] = FPN_OPERATIONS) -> tuple[Choice, ...]:
    """The 35 choices over a pool that starts as ``levels``."""
    return block_choices("fpn", "b", levels, BLOCKS, operations, AGGREGATIONS)


def fpn_outputs(architecture: Architecture) -> tuple[tuple[str, str, str], list[str]]:
    """The blocks that give P3, P4 and P5 of an FPN, alone or in a decoder, and those that are added to all three."""
    named = architecture.named
    taken = {named[f"fpn.{i}.{x}"] for i in range(1, BLOCKS + 1) for x in ("x1", "x2")}
    blocks = [f"b{i}" for i in range(1, BLOCKS + 1)]
    free = [block for block in blocks if block not in taken]
    outputs = blocks[INNER:]
    if architecture.space.name.endswith(UNCONSUMED):
        outputs = sorted(([block for block in blocks if block in taken] + free)[-3:])
    p5, p4, p3 = outputs
    return (p3, p4, p5), [block for block in free if block not in outputs]


def fpn_canonical(levels: int, unconsumed: bool, tokens: Tokens) -> Tokens:
    """The least spelling of a network whose pool starts with ``levels`` maps.

    The (input, operation) pairs of a sum commute (a concatenation's do not: its grouped convolution tells them apart),
    and blocks 1 … 4 may be numbered in any order that takes inputs before they are used, where none of them is an
    output: under the rule of the code (``unconsumed``), where no block takes block 5 or 6.
    """
    taken = {token for i in range(0, len(tokens), 5) for token in tokens[i : i + 2]}
    free = 0 if unconsumed and taken & {levels + INNER, levels + INNER + 1} else INNER
    return least_spelling(tokens, levels, free, [AGGREGATIONS.index("sum")])


def _fpn_space(name: str, levels: tuple[str, ...]) -> SearchSpace:
    canonical = partial(fpn_canonical, len(levels), name.endswith(UNCONSUMED))
    choices = fpn_choices(levels, LINEAR_FPN_OPERATIONS if name.endswith(LINEAR) else FPN_OPERATIONS)
    return SearchSpace(name, choices, "search_spaces.fcos.decoder:build_searched_fpn", canonical, proxy_task="fcos")


FCOS_FPN = _fpn_space("fcos_fpn", ("C3", "C4", "C5"))
FCOS_FPN_C2 = _fpn_space("fcos_fpn_c2", ("C2", "C3", "C4", "C5"))
FCOS_FPN_UNCONSUMED = _fpn_space("fcos_fpn_unconsumed", ("C3", "C4", "C5"))
FCOS_FPN_C2_UNCONSUMED = _fpn_space("fcos_fpn_c2_unconsumed", ("C2", "C3", "C4", "C5"))
FCOS_FPN_LINEAR = _fpn_space("fcos_fpn_linear", ("C3", "C4", "C5"))


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


FCOS_HEAD = SearchSpace(
    "fcos_head", head_choices(), "search_spaces.fcos.decoder:build_searched_head", head_canonical, proxy_task="fcos"
)


def split(architecture: Architecture) -> tuple[Architecture, Architecture]:
    """The FPN's and the head's part of a decoder, each an architecture of its own space.

    Raises:
        InputError: the architecture is not of a searched decoder space.
    """
    fpn = _FPN_OF.get(architecture.space.name)
    if fpn is None:
        raise InputError(f"architectures of {', '.join(_FPN_OF)} can be split, got one of {architecture.space.name!r}")
    tokens = architecture.tokens
    return fpn.architecture(tokens[: len(fpn)]), FCOS_HEAD.architecture(tokens[len(fpn) :])


def join(fpn: Architecture, head: Architecture) -> Architecture:
    """The decoder made of an FPN and a head, the inverse of `split`.

    Raises:
        InputError: the first is not of an FPN space, or the second not of the head space.
    """
    decoder = {space.name: name for name, space in _FPN_OF.items()}.get(fpn.space.name)
    if decoder is None or head.space.name != FCOS_HEAD.name:
        names, given = [space.name for space in _FPN_OF.values()], (fpn.space.name, head.space.name)
        raise InputError(
            f"a decoder is joined of one of {', '.join(names)} and {FCOS_HEAD.name}, got {given[0]!r} and {given[1]!r}"
        )
    return Architecture.of(decoder, fpn.tokens + head.tokens)


def _canonical(fpn: SearchSpace, tokens: Tokens) -> Tokens:
    assert fpn.canonical is not None
    return fpn.canonical(tokens[: len(fpn)]) + head_canonical(tokens[len(fpn) :])


def _decoder_space(name: str, fpn: SearchSpace) -> SearchSpace:
    build, choices = "search_spaces.fcos.decoder:build_searched_decoder", fpn.choices + FCOS_HEAD.choices
    return SearchSpace(name, choices, build, partial(_canonical, fpn), "fcos", (fpn, FCOS_HEAD), join)


FCOS_DECODER = _decoder_space("fcos_decoder", FCOS_FPN)
FCOS_DECODER_C2 = _decoder_space("fcos_decoder_c2", FCOS_FPN_C2)
FCOS_DECODER_UNCONSUMED = _decoder_space("fcos_decoder_unconsumed", FCOS_FPN_UNCONSUMED)
FCOS_DECODER_C2_UNCONSUMED = _decoder_space("fcos_decoder_c2_unconsumed", FCOS_FPN_C2_UNCONSUMED)
FCOS_DECODER_LINEAR = _decoder_space("fcos_decoder_linear", FCOS_FPN_LINEAR)
FPN_FCOS = SearchSpace("fpn_fcos", (), "search_spaces.fcos.decoder:build_standard_decoder", proxy_task="fcos")
DEFORM_FPN_FCOS = SearchSpace(
    "deform_fpn_fcos", (), "search_spaces.fcos.decoder:build_deformable_decoder", proxy_task="fcos"
)
FPN_RETINANET = SearchSpace("fpn_retinanet", (), "search_spaces.fcos.decoder:build_retina_decoder", proxy_task="fcos")
_FPN_OF = {
    FCOS_DECODER.name: FCOS_FPN,
    FCOS_DECODER_C2.name: FCOS_FPN_C2,
    FCOS_DECODER_UNCONSUMED.name: FCOS_FPN_UNCONSUMED,
    FCOS_DECODER_C2_UNCONSUMED.name: FCOS_FPN_C2_UNCONSUMED,
    FCOS_DECODER_LINEAR.name: FCOS_FPN_LINEAR,
}
