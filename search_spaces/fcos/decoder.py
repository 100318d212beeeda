"""FCOS decoders, an FPN and a head, and the builder of each space, which makes them from its choices.

What a space leaves open is the standard FPN or the standard head.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead

from search_spaces.fcos.choices import split
from search_spaces.fcos.fpn import DeformableFPN, SearchedFPN, StandardFPN
from search_spaces.fcos.head import FCOSHead, SearchedHead, StandardHead, retina_head
from search_spaces.parts.maps import Features
from search_spaces.space import Architecture

__all__ = [
    "FCOSDecoder",
    "build_deformable_decoder",
    "build_retina_decoder",
    "build_searched_decoder",
    "build_searched_fpn",
    "build_searched_head",
    "build_standard_decoder",
]


Head: TypeAlias = FCOSHead | RetinaNetHead


class FCOSDecoder(nn.Module):
    """What turns a backbone's feature maps into predictions.

    Args:
        fpn: feature maps -> {"P3": ..., "P7": ...}.
        head: list of pyramid maps -> predictions.
    """

    def __init__(self, fpn: nn.Module, head: Head):
        super().__init__()
        self.fpn = fpn
        self.head = head

    def forward(self, features: Features) -> dict[str, Tensor]:
        """{"C3": (N, C, H, W), ...} -> the head's predictions."""
        predictions: dict[str, Tensor] = self.head(list(self.fpn(features).values()))
        return predictions


def _build(
    make_fpn: Callable[..., nn.Module] | None,
    make_head: Callable[..., Head] | None,
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
        architecture: the architecture whose choices the two functions read.
        in_channels: the channels of the backbone's maps by name: "C3", "C4", "C5", and "C2" where the space has it.
        num_classes: the number of foreground classes.
        fpn_width: the channels inside the FPN.
        head_width: the channels of the pyramid maps and inside the head, a multiple of ``fpn_width``.

    Raises:
        InputError: a map's channels are missing, or a width is not possible.
    """
    fpn = (
        make_fpn(architecture, in_channels, fpn_width, head_width)
        if make_fpn
        else StandardFPN(in_channels, fpn_width, head_width)
    )
    head: Head = (
        make_head(architecture, head_width, num_classes) if make_head else StandardHead(head_width, num_classes)
    )
    return FCOSDecoder(fpn, head)


def _fpn(architecture: Architecture, *sizes: Any) -> SearchedFPN:
    return SearchedFPN(split(architecture)[0], *sizes)


def _head(architecture: Architecture, *sizes: Any) -> SearchedHead:
    return SearchedHead(split(architecture)[1], *sizes)


build_searched_fpn = partial(_build, SearchedFPN, None)
build_searched_head = partial(_build, None, SearchedHead)
build_searched_decoder = partial(_build, _fpn, _head)
build_standard_decoder = partial(_build, None, None)
build_deformable_decoder = partial(_build, lambda architecture, *sizes: DeformableFPN(*sizes), None)
build_retina_decoder = partial(_build, None, lambda architecture, *sizes: retina_head(*sizes))
