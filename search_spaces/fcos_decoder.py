"""Whole FCOS decoders: the FPN's choices followed by the head's, and the standard decoder as a space of one point."""

from functools import partial

from search_spaces.errors import InputError
from search_spaces.fcos_fpn import FCOS_FPN, FCOS_FPN_C2
from search_spaces.fcos_head import FCOS_HEAD, head_canonical
from search_spaces.space import Architecture, SearchSpace

__all__ = ["FCOS_DECODER", "FCOS_DECODER_C2", "FPN_FCOS", "join", "split"]

Tokens = tuple[int, ...]


def split(architecture: Architecture) -> tuple[Architecture, Architecture]:
    """The FPN's and the head's part of a decoder, each an architecture of its own space.

    Raises:
        InputError: the architecture is not of a searched decoder space.
    """
    fpn = _FPN_OF.get(architecture.definition.name)
    if fpn is None:
        raise InputError(f"only {' and '.join(_FPN_OF)} architectures can be split, got {architecture.space!r}")
    tokens = architecture.tokens
    return fpn.architecture(tokens[: len(fpn)]), FCOS_HEAD.architecture(tokens[len(fpn) :])


def join(fpn: Architecture, head: Architecture) -> Architecture:
    """The decoder made of an FPN and a head, the inverse of `split`.

    Raises:
        InputError: the first is not of an FPN space, or the second not of the head space.
    """
    decoder = {space.name: name for name, space in _FPN_OF.items()}.get(fpn.definition.name)
    if decoder is None or head.space != FCOS_HEAD.name:
        names = " or ".join(space.name for space in _FPN_OF.values())
        raise InputError(f"a decoder is joined of {names} and {FCOS_HEAD.name}, got {fpn.space!r} and {head.space!r}")
    return Architecture(decoder, fpn.tokens + head.tokens)


def _canonical(fpn: SearchSpace, tokens: Tokens) -> Tokens:
    assert fpn.canonical is not None
    return fpn.canonical(tokens[: len(fpn)]) + head_canonical(tokens[len(fpn) :])


def _space(name: str, fpn: SearchSpace) -> SearchSpace:
    build, choices = "search_spaces.fcos_builders:build_searched_decoder", fpn.choices + FCOS_HEAD.choices
    return SearchSpace(name, choices, build, partial(_canonical, fpn), proxy_task="fcos")


FCOS_DECODER = _space("fcos_decoder", FCOS_FPN)
FCOS_DECODER_C2 = _space("fcos_decoder_c2", FCOS_FPN_C2)
FPN_FCOS = SearchSpace("fpn_fcos", (), "search_spaces.fcos_builders:build_standard_decoder", proxy_task="fcos")
_FPN_OF = {FCOS_DECODER.name: FCOS_FPN, FCOS_DECODER_C2.name: FCOS_FPN_C2}
