"""FCOS and RetinaNet detectors, for full training."""

from typing import Any

from torch import Tensor, nn

from experiments.detection.jobs import Networks
from experiments.fcos.recipe import DetectorRecipe
from proxy_tasks.fcos.detector import build_detector
from search_spaces import Architecture
from search_spaces.parts.complexity import count

__all__ = ["NETWORKS"]


class _Layers(nn.Module):
    """Backbone, FPN and head of a detector, without resizing and post-processing."""

    def __init__(self, detector: Any):
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to the head's outputs."""
        outputs: dict[str, Tensor] = self.head(list(self.backbone(images).values()))
        return outputs


def _build(architecture: Architecture, recipe: DetectorRecipe, weights: str, classes: int) -> nn.Module:
    detector = build_detector(
        architecture,
        backbone_weights=weights,
        num_classes=classes,
        centerness_on=recipe.centerness_on,
        **recipe.sizes(),
    )
    detector.interest, detector.regression = recipe.interest, recipe.regression
    return detector


NETWORKS = Networks(_build, lambda detector, images: count(_Layers(detector), images).macs)
