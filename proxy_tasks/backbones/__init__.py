"""Backbones: an image goes in, the maps C2..C5 (strides 4, 8, 16, 32) come out.

``tiny`` is this project's own, small enough to be trained from scratch on a laptop within a minute;
``efficientnet_lite0`` has ImageNet weights that are installed, not downloaded; the others are torchvision's
classification networks up to their last map, and as ``timm/NAME`` those of timm.
"""

from proxy_tasks.backbones.making import BACKBONES, channels_of_backbone, has_weights, make_backbone
from proxy_tasks.backbones.weights import given_state_dict

__all__ = [
    "BACKBONES",
    "channels_of_backbone",
    "given_state_dict",
    "has_weights",
    "make_backbone",
]
