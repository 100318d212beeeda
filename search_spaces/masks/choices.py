"""The spaces of mask heads: where attention sits in the mask branch of a cascade, and what else its stages are made of.

A mask stage M_t takes the features of RoIs, adds what flows in from the stage before it, runs four operations in
sequence, and gives masks by a 2×2 deconvolution and a 1×1 convolution. After the operations its path splits: one way to
the deconvolution, one way to the next stage. Attention can sit in three places of a stage: on what flows in (``flow``),
after the operations and before the split (``convs``), and before the deconvolution alone (``deconv``).

Source: R. Manzanedo, "Hybrid Task Cascade with Attention", National Taiwan University 2022, algorithms 1 to 4: HTC has
no attention, HTCA-IF has it in ``flow``, HTCA-C in ``convs``, HTCA-D in ``deconv``. Cascade and flow: Chen et al.,
"Hybrid Task Cascade for Instance Segmentation", CVPR 2019. A head of one stage is Mask R-CNN's (He et al., ICCV 2017)
or, with attention before the deconvolution, CenterMask's (Lee and Park, CVPR 2020).
"""

from collections.abc import Iterable
from functools import partial

from search_spaces.options import MASK_OPERATIONS
from search_spaces.space import Architecture, Choice, SearchSpace

__all__ = [
    "ATTENTIONS",
    "MASK_HEAD",
    "MASK_HEAD_SINGLE",
    "OPERATIONS",
    "PLACES",
    "ROI_LEVELS",
    "STAGES",
    "places_of",
    "plain",
    "stages_of",
]

STAGES = 3
OPERATIONS = 4
"""The operations of a mask stage."""
_WITHOUT_FLOW = ("none", "convs", "deconv", "convs+deconv")
PLACES = (*_WITHOUT_FLOW, "flow", "flow+convs", "flow+deconv", "flow+convs+deconv")
"""Where attention sits in a stage; the first stage, into which nothing flows, has the first four."""
ATTENTIONS = ("spatial", "channel", "both")
ROI_LEVELS = ("fpn", "area")
"""By which rule a RoI's masks take a level of the pyramid: its side (eq. 2.4) or its share of the image (eq. 2.11)."""
Tokens = tuple[int, ...]


def _stage_choices(stage: int, stages: int) -> Iterable[Choice]:
    """The choices of one mask stage, counted from 1."""
    for number in range(1, OPERATIONS + 1):
        yield Choice(f"mask.{stage}.op{number}", "mask_op", MASK_OPERATIONS)
    yield Choice(f"mask.{stage}.place", "place", _WITHOUT_FLOW if stage == 1 else PLACES)
    yield Choice(f"mask.{stage}.attention", "attention", ATTENTIONS)
    if stage > 1:
        yield Choice(f"mask.{stage}.flow", "flow", ("yes", "no"))
    if stages > 1:  # a single stage has no semantic branch beside it
        yield Choice(f"mask.{stage}.semantic", "semantic", ("yes", "no"))


def _choices(stages: int) -> tuple[Choice, ...]:
    each = (choice for stage in range(1, stages + 1) for choice in _stage_choices(stage, stages))
    return (*each, Choice("mask.levels", "levels", ROI_LEVELS))


def places_of(option: str) -> set[str]:
    """The places that one of `PLACES` names: ``"flow+deconv"`` is {"flow", "deconv"}, ``"none"`` is empty."""
    return set(option.split("+")) - {"none"}


def _canonical(choices: tuple[Choice, ...], tokens: Tokens) -> Tokens:
    """The agreed spelling of a head.

    Skips stand last. Attention on a flow that is not taken is none. Where no flow leaves a stage, its path does not
    split, so ``convs`` alone is ``deconv``. Where there is no attention, its kind is the first.
    """
    named = {choice.name: choice.options[token] for choice, token in zip(choices, tokens, strict=True)}
    stage = 1
    while f"mask.{stage}.place" in named:
        operations = [f"mask.{stage}.op{number}" for number in range(1, OPERATIONS + 1)]
        ordered = sorted((named[name] for name in operations), key="skip".__eq__)
        named.update(zip(operations, ordered, strict=True))
        places = places_of(named[f"mask.{stage}.place"])
        if named.get(f"mask.{stage}.flow") != "yes":
            places.discard("flow")
        if named.get(f"mask.{stage + 1}.flow") != "yes" and "deconv" not in places and "convs" in places:
            places = places - {"convs"} | {"deconv"}
        named[f"mask.{stage}.place"] = next(option for option in PLACES if places_of(option) == places)
        if not places:
            named[f"mask.{stage}.attention"] = ATTENTIONS[0]
        stage += 1
    return tuple(choice.token(named[choice.name]) for choice in choices)


def _space(name: str, stages: int) -> SearchSpace:
    choices = _choices(stages)
    build = "search_spaces.masks.head:MaskBranch"
    return SearchSpace(name, choices, build, partial(_canonical, choices), proxy_task="masks")


MASK_HEAD = _space("mask_head", STAGES)
"""The mask branch of a Hybrid Task Cascade."""
MASK_HEAD_SINGLE = _space("mask_head_single", 1)
"""A mask branch of one stage."""


def stages_of(space: SearchSpace) -> int:
    """How many mask stages the heads of a space have."""
    return sum(choice.name.endswith(".place") for choice in space.choices)


def plain(space: SearchSpace) -> Architecture:
    """The head of 3x3 convolutions without attention that others vary: that of HTC, or of Mask R-CNN."""
    return Architecture(space, (0,) * len(space.choices))
