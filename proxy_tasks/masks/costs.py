"""Parameters and MACs of a whole mask network, whose cost depends on how many RoIs it is given.

The convention, that of published figures of cascades: one image; every box stage on 1000 RoIs; every mask stage on 100,
each run once, features flowing from stage to stage. Suppression, RoIAlign, anchors and pasting are not charged.
"""

import torch
from torch import Tensor, nn

from proxy_tasks.masks.boxes import BOX_SIZE
from proxy_tasks.masks.cascade import MASK_SIZE
from proxy_tasks.masks.efficientdet import CHANNELS, maps_of
from proxy_tasks.masks.network import MaskNetwork
from proxy_tasks.masks.single import MaskedEfficientDet
from search_spaces.parts.complexity import Complexity, count

__all__ = ["BOX_ROIS", "MASK_ROIS", "Layers", "complexity"]

BOX_ROIS, MASK_ROIS = 1000, 100


class Layers(nn.Module):
    """A network's layers on an image, without what chooses RoIs.

    Args:
        network: around a cascade or a single stage.
        boxes: the RoIs of every box stage.
        masks: those of every mask stage.
    """

    def __init__(self, network: MaskNetwork, boxes: int, masks: int):
        super().__init__()
        self.network, self.boxes, self.masks = network, boxes, masks

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(1, 3, H, W), normalised, -> the logits of every mask stage, as `MaskBranch` gives them."""
        network, heads = self.network, self.network.roi_heads
        features = network.backbone(images)
        network.rpn.head([features[level] for level in network.rpn.levels])
        if heads.semantic is not None:
            heads.semantic(features)
        channels = network.backbone.out_channels
        for stage in heads.boxes:
            stage(images.new_zeros(self.boxes, channels, BOX_SIZE, BOX_SIZE))
        rois = images.new_zeros(self.masks, channels, MASK_SIZE, MASK_SIZE)
        logits: dict[str, Tensor] = heads.masks({"pyramid": rois})
        return logits


class _Detector(nn.Module):
    """EfficientDet and its mask head on an image."""

    def __init__(self, network: MaskedEfficientDet, masks: int):
        super().__init__()
        self.network, self.masks = network, masks

    def forward(self, images: Tensor) -> None:
        pyramid = list(maps_of(self.network.network, images).values())[1:]
        self.network.network.class_net(pyramid)
        self.network.network.box_net(pyramid)
        self.network.masks({"pyramid": images.new_empty(self.masks, CHANNELS, MASK_SIZE, MASK_SIZE)})


def complexity(
    network: MaskNetwork | MaskedEfficientDet, size: tuple[int, int], boxes: int = BOX_ROIS, masks: int = MASK_ROIS
) -> Complexity:
    """Counts a network, best built on the meta device, on one image.

    Args:
        network: as `build_mask_network` gives it.
        size: height and width of the padded image, pixels.
        boxes: the RoIs of every box stage; of no matter to EfficientDet, whose boxes are anchors.
        masks: the RoIs of every mask stage.
    """
    whole = Layers(network, boxes, masks) if isinstance(network, MaskNetwork) else _Detector(network, masks)
    device = next(network.parameters()).device
    return count(whole, torch.empty(1, 3, *size, device=device))
