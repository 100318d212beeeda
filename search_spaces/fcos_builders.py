"""From the choices of the FCOS spaces to decoders: the builder of each space.

What a space leaves open is the standard FPN or the standard head.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from search_spaces.fcos_decoder import split
from search_spaces.fcos_fpn_modules import SearchedFPN
from search_spaces.fcos_head_modules import SearchedHead
from search_spaces.fcos_modules import FCOSDecoder, FCOSHead, StandardFPN, StandardHead
from search_spaces.space import Architecture

__all__ = ["build_searched_decoder", "build_searched_fpn", "build_searched_head", "build_standard_decoder"]


def _build(
    make_fpn: Callable[..., nn.Module] | None,
    make_head: Callable[..., FCOSHead] | None,
    architecture: Architecture,
    *,
    in_channels: Mapping[str, int],
    num_classes: int,
    fpn_width: int = 256,
    head_width: int = 256,
) -> FCOSDecoder:
    """The builder behind all of them.

    Args:
        make_fpn: ``make_fpn(architecture, in_channels, fpn_width, head_width)``; None stands for the standard FPN.
        make_head: ``make_head(architecture, head_width, num_classes)``; None stands for the standard head.
        architecture: what the two make.
        in_channels: channels of the backbone's maps by name ("C3", "C4", "C5", where the space has it "C2").
        num_classes: foreground classes.
        fpn_width: channels inside the FPN.
        head_width: channels of the pyramid maps and inside the head, a multiple of ``fpn_width``.

    Raises:
        InputError: a map's channels are missing, or a width cannot be.
    """
    fpn = (
        make_fpn(architecture, in_channels, fpn_width, head_width)
        if make_fpn
        else StandardFPN(in_channels, fpn_width, head_width)
    )
    head = make_head(architecture, head_width, num_classes) if make_head else StandardHead(head_width, num_classes)
    return FCOSDecoder(fpn, head)


def _fpn(architecture: Architecture, *sizes: Any) -> SearchedFPN:
    return SearchedFPN(split(architecture)[0], *sizes)


def _head(architecture: Architecture, *sizes: Any) -> SearchedHead:
    return SearchedHead(split(architecture)[1], *sizes)


build_searched_fpn = partial(_build, SearchedFPN, None)
build_searched_head = partial(_build, None, SearchedHead)
build_searched_decoder = partial(_build, _fpn, _head)
build_standard_decoder = partial(_build, None, None)
