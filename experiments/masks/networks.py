"""Networks with mask heads, for full training."""

from torch import nn

from experiments.detection.jobs import Networks
from experiments.masks.recipe import MaskRecipe
from proxy_tasks.masks.costs import complexity
from proxy_tasks.masks.network import build_mask_network
from search_spaces import Architecture

__all__ = ["NETWORKS"]


def _build(architecture: Architecture, recipe: MaskRecipe, weights: str, classes: int) -> nn.Module:
    return build_mask_network(
        architecture, backbone_weights=weights, num_classes=classes, anchors=recipe.anchors, **recipe.sizes()
    )


NETWORKS = Networks(
    _build, lambda network, images: complexity(network, (images.shape[-2], images.shape[-1])).macs, masks=True
)
