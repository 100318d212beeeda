"""Mask branches as graphs: from the features of RoIs to the mask logits of every stage.

What lies before a branch, from images to RoIs, draws as many RoIs as it finds; a runtime that has a detector of its own
gives the branch what it pools.

Notation: N RoIs of C channels; K classes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.graphs import Graph, Sizes
from proxy_tasks.masks.network import MaskNetwork
from proxy_tasks.masks.single import MaskedEfficientDet

__all__ = ["CascadeGraph", "SingleGraph", "graphs"]

_ROIS: Sizes = ("rois", None, 14, 14)
_MASKS: Sizes = ("rois", None, 28, 28)
_PLACES = ((0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.6, 0.5), (0.5, 0.4, 0.9, 0.9))
"""RoIs to compare runtimes on: left, top, right and bottom in parts of the image."""


def graphs(network: MaskNetwork | MaskedEfficientDet) -> list[Graph]:
    """The one graph of a network's mask branch."""
    branch: Any = network.roi_heads.masks if isinstance(network, MaskNetwork) else network.masks
    return [SingleGraph(network) if len(branch.stages) == 1 else CascadeGraph(network)]


class SingleGraph(Graph):
    """A branch of one stage: ``pyramid`` (N, C, 14, 14) -> ``mask1``, logits (N, K, 28, 28)."""

    inputs: ClassVar[dict[str, Sizes]] = {"pyramid": _ROIS}
    outputs: ClassVar = {"mask1": _MASKS}
    compared: tuple[str, ...] = ("mask1",)
    network: Any

    def forward(self, pyramid: Tensor) -> tuple[Tensor, ...]:
        """The logits of every stage."""
        return self.logits({"pyramid": pyramid})

    def logits(self, rois: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What the branch gives of all RoIs, stage by stage."""
        cascaded = isinstance(self.network, MaskNetwork)
        masks = (self.network.roi_heads.masks if cascaded else self.network.masks)(rois)
        return tuple(masks[name] for name in self.outputs)

    @torch.no_grad()
    def arguments(self, clip: Tensor) -> tuple[Tensor, ...]:
        """The features of a few RoIs of the first frames."""
        images, network = self.normalised(clip[0]), self.network
        height, width = images.shape[-2:]
        stride = network.transform.size_divisible
        padded = F.pad(images, (0, -width % stride, 0, -height % stride))
        boxes = [torch.tensor(_PLACES) * torch.tensor([width, height] * 2)] * len(images)
        sizes = [(height, width)] * len(images)
        if not isinstance(network, MaskNetwork):
            return (network.pool(network.maps(padded), boxes, sizes),)
        heads = network.roi_heads
        rois = heads.mask_rois(heads.maps(network.backbone(padded)), boxes, sizes)
        unused = torch.zeros_like(rois["pyramid"])  # where no stage fuses semantic features, they are not pooled
        return tuple(rois.get(name, unused) for name in self.inputs)


class CascadeGraph(SingleGraph):
    """A branch of three stages, all on the same RoIs: ``pyramid`` and ``semantic`` -> ``mask1`` … ``mask3``."""

    inputs: ClassVar = {"pyramid": _ROIS, "semantic": _ROIS}
    outputs: ClassVar = {f"mask{stage}": _MASKS for stage in (1, 2, 3)}
    compared = ("mask1", "mask2", "mask3")

    def forward(self, pyramid: Tensor, semantic: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """The logits of every stage."""
        return self.logits({"pyramid": pyramid, "semantic": semantic})
