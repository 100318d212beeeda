"""The whole network around a mask head: torchvision's `GeneralizedRCNN`, or EfficientDet-D3 with masks.

It takes and gives torchvision's lists of dicts; labels count from 0, as everywhere in this project. A target has
``boxes`` float (n, 4) pixels, ``labels`` int64 (n,), ``masks`` uint8 (n, H, W); it may have ``iscrowd`` (n,), 1 for
what is neither to be found nor background, and ``semantic`` (H, W), a label map of its own for the semantic branch, 255
where it says nothing. Detections have ``boxes``, ``labels``, ``scores`` and ``masks``, float (d, 1, H, W) from 0 to 1.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from proxy_tasks import ranks
from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.images import IMAGE_MEAN, IMAGE_STD
from proxy_tasks.masks import efficientdet
from proxy_tasks.masks.cascade import CascadeHeads
from proxy_tasks.masks.proposals import proposals
from proxy_tasks.masks.pyramids import LEVELS, BiFPNPyramid, FPNPyramid
from proxy_tasks.masks.semantic import SemanticBranch
from proxy_tasks.masks.single import MaskedEfficientDet
from proxy_tasks.masks.truth import check_targets
from proxy_tasks.resizing import Resizing
from search_spaces import Architecture, InputError
from search_spaces.masks.head import MaskBranch

__all__ = ["AREA_LEVELS", "ROI_LEVELS", "MaskNetwork", "build_mask_network", "check_backbone", "parse_width"]

STRIDE = 32  # of C5; images are padded to multiples of it
ROI_LEVELS, AREA_LEVELS = LEVELS[:4], LEVELS[1:4]
"""The maps that RoIs are pooled from: P2 to P5, and P3 to P5 by CenterMask's rule (eq. 2.11)."""
SINGLE_ANCHORS = ((32,), (64,), (128,), (256,), (512,))  # on P2 … P6, as in torchvision's Mask R-CNN
CASCADE_ANCHORS = ((32, 64), (64, 128), (128, 256), (256, 512))  # on P2 … P5: without P6 two sides a level


class MaskTransform(Resizing):
    """torchvision's resizing, normalisation and padding, which resizes a target's ``semantic`` too."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """As torchvision's."""
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        image, target = resized
        if target is not None and "semantic" in target:
            size = (image.shape[-2], image.shape[-1])
            target["semantic"] = F.interpolate(target["semantic"][None, None].float(), size=size)[0, 0].long()
        return image, target


class MaskNetwork(GeneralizedRCNN):
    """torchvision's two-stage network around a pyramid, a region proposal network and `CascadeHeads`.

    Args:
        pyramid: images to P2 … P6, with ``out_channels``.
        rpn: the region proposal network.
        heads: what finds boxes and masks.
        transform: what is done to images and targets before.
        num_classes: the number of foreground classes.
    """

    def __init__(
        self,
        pyramid: nn.Module,
        rpn: nn.Module,
        heads: CascadeHeads,
        transform: GeneralizedRCNNTransform,
        num_classes: int,
    ):
        super().__init__(pyramid, rpn, heads, transform)
        self.num_classes = num_classes

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Images, float (3, H, W) from 0 to 1, and in training mode their targets -> losses, else detections.

        Of several processes that train together each draws RoIs of its own images; its losses are their part of the
        means over all images.

        Raises:
            InputError: targets that are missing or do not fit.
        """
        if self.training:
            check_targets(targets, images, self.num_classes)
        found = super().forward(images, targets)
        return ranks.part(found, len(images)) if self.training else found


def build_mask_network(
    architecture: Architecture,
    backbone: str = "resnet50",
    backbone_weights: str | None = None,
    frozen: bool | None = None,
    num_classes: int = 80,
    width: int | str = 256,
    min_size: int = 800,
    max_size: int = 1333,
    semantic_classes: int | None = None,
    averaged: bool = False,
    anchors: float = 1.0,
) -> "MaskNetwork | MaskedEfficientDet":
    """The network of ``architecture``, a mask head.

    Heads of several stages sit in a Hybrid Task Cascade. Those of a single stage sit in Mask R-CNN's network or, on
    ``efficientdet_d3``, in EfficientDet, whose detections are the RoIs (`proxy_tasks.masks.single`).

    Args:
        architecture: a point of `mask_head` or of `mask_head_single`.
        backbone: ``efficientdet_d3``, with its BiFPN; or any of `make_backbone`, with torchvision's FPN.
        backbone_weights: ``default``, ``none`` or a file; by default those of COCO for ``efficientdet_d3``, else none.
        frozen: whether pretrained parts keep their weights: ``efficientdet_d3`` all of them, others see
            `make_backbone`. By default so where there are weights.
        num_classes: foreground classes; labels count from 0.
        width: channels of the pyramid and of the mask stages; the box stages' layers have four times as many.
        min_size: pixels, the short side to which images are resized.
        max_size: pixels, the most that the long side may have.
        semantic_classes: classes of the semantic branch, where targets have a label map ``semantic`` of their own, such
            as the 183 of COCO-stuff; by default background and the foreground classes, drawn from the instances.
        averaged: see `CascadeHeads`.
        anchors: the anchors' published sides are multiplied by it: smaller ones for small images, whose objects are few
            pixels wide while the strides stay. EfficientDet's own detector keeps its anchors.

    Raises:
        InputError: no such backbone or weights, or a width that cannot be.
    """
    on_efficientdet = backbone == efficientdet.NAME
    weights = backbone_weights or ("default" if on_efficientdet else "none")
    channels = parse_width(width)
    single = len(architecture.space) and "mask.2.place" not in architecture.named
    sizes = {"min_size": min_size, "max_size": max_size, "image_mean": IMAGE_MEAN, "image_std": IMAGE_STD}
    transform = MaskTransform(**sizes, size_divisible=efficientdet.STRIDE if on_efficientdet else STRIDE)
    if single and on_efficientdet:
        branch = architecture.build(in_channels=efficientdet.CHANNELS, num_classes=num_classes, width=channels)
        return MaskedEfficientDet(branch, transform, weights, frozen, num_classes)
    pyramid = _pyramid(backbone, weights, frozen, channels)
    branch = architecture.build(in_channels=channels, num_classes=num_classes, width=channels)
    assert isinstance(branch, MaskBranch)
    semantic = None if single else SemanticBranch(LEVELS, channels, semantic_classes or num_classes + 1)
    mask_levels = AREA_LEVELS if branch.levels == "area" else ROI_LEVELS
    heads = CascadeHeads(branch, ROI_LEVELS, mask_levels, channels, num_classes, semantic, averaged)
    levels, published = (LEVELS, SINGLE_ANCHORS) if single else (ROI_LEVELS, CASCADE_ANCHORS)
    sides = [tuple(round(anchors * side) for side in level) for level in published]
    return MaskNetwork(pyramid, proposals(levels, sides, channels), heads, transform, num_classes)


def _pyramid(backbone: str, weights: str, frozen: bool | None, width: int) -> nn.Module:
    if backbone == efficientdet.NAME:
        return BiFPNPyramid(weights, frozen, width)
    check_backbone(backbone)
    return FPNPyramid(backbone, weights, frozen, width)


def check_backbone(name: str) -> None:
    """Refuses the name of a backbone that there is not; raises `InputError`."""
    if name == efficientdet.NAME:
        return
    try:
        channels_of_backbone(name)
    except InputError as error:
        raise InputError(f"{error}; mask networks have {efficientdet.NAME} too") from error


def parse_width(width: int | str) -> int:
    """The channels that a width says; raises `InputError` where it says none."""
    if not str(width).isdecimal() or int(width) < 1:
        raise InputError(f"the width of a mask network is a number of channels, got {width!r}")
    return int(width)
