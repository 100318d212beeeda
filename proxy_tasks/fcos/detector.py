"""The whole detector: torchvision's ``FCOS`` or ``RetinaNet`` around a backbone and a decoder from a search space.

It takes and gives torchvision's lists of dicts; labels count from 0 (the classifier has no background column).
"""

import functools
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead

from proxy_tasks import ranks
from proxy_tasks.anchors import Anchors
from proxy_tasks.backbones import channels_of_backbone, make_backbone
from proxy_tasks.fcos.loss import fcos_loss_sums
from proxy_tasks.fcos.targets import Locations, anchors_of, assign, level_sizes, location_anchors, pad_boxes
from proxy_tasks.images import STRIDE
from proxy_tasks.resizing import Resizing
from search_spaces import Architecture, InputError
from search_spaces.fcos.head import TOWERS

__all__ = ["SCORE_THRESHOLD", "AnchorDetector", "Detector", "Pyramid", "build_detector", "detections", "parse_width"]

LOSSES = {"classification": "classification", "regression": "bbox_regression", "centerness": "bbox_ctrness"}
"""The terms of the loss, and what torchvision calls them."""
ANCHOR_SIZES = tuple(
    (side, round(side * 2 ** (1 / 3), 3), round(side * 2 ** (2 / 3), 3)) for side in (32, 64, 128, 256, 512)
)
"""RetinaNet's anchors in pixels, P3 first."""
DETECTIONS = 100  # an image, as COCO counts them
SCORE_THRESHOLD, NMS_THRESHOLD = 0.05, 0.6  # FCOS, sec. 4; as the authors of NAS-FCOS have them


class Pyramid(nn.Module):
    """A backbone and an FPN: (B, 3, H, W) to an ordered dict of P3..P7, as torchvision's detectors expect."""

    def __init__(self, body: nn.Module, fpn: nn.Module, out_channels: int):
        super().__init__()
        self.body, self.fpn, self.out_channels = body, fpn, out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps normalised images to P3..P7."""
        features: dict[str, Tensor] = self.fpn(self.body(images))
        return features


class Detector(FCOS):
    """torchvision's `FCOS` with this toolkit's loss, which knows crowds and scaled sizes of interest.

    At ``interest`` 1, ``regression`` ``"uniform"`` and without anything ignored the loss is torchvision's. A target may
    have ``iscrowd`` (n,), 1 for what is neither to be found nor background.

    Attributes:
        interest: the published sizes of interest (64, 128, 256, 512 pixels) are multiplied by it in training.
        regression: see `proxy_tasks.fcos.loss.fcos_loss_sums`.
    """

    interest: float = 1.0
    regression: str = "uniform"

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """The three terms, each divided by what it counts; torchvision's ``forward`` calls it.

        Image by image, since locations times boxes of a whole batch of large images would fill the memory.
        """
        locations = Locations.around(anchors[0], tuple(num_anchors_per_level), self.interest)
        sums = []
        for number, target in enumerate(targets):
            target = {"iscrowd": torch.zeros_like(target["labels"]), **target}
            dense = assign(*pad_boxes([target], anchors[0].device), locations)
            outputs = {name: value[number : number + 1] for name, value in head_outputs.items()}
            sums.append(fcos_loss_sums(outputs, dense, locations.sizes, self.regression))
        terms = functools.reduce(operator.add, sums).over_ranks().terms()
        return {LOSSES[name]: term for name, term in terms.items()}


class AnchorDetector(RetinaNet):
    """torchvision's `RetinaNet`; what a target marks by ``iscrowd`` is left out, as torchvision's own recipes do."""

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """As torchvision's: losses in training, else detections."""
        if targets is not None:
            targets = [_without_crowds(target) for target in targets]
        return super().forward(images, targets)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
    ) -> dict[str, Tensor]:
        """torchvision's means over the images; of several processes this one's part of those over all images."""
        return ranks.part(super().compute_loss(targets, head_outputs, anchors), len(targets))


class _Transform(Resizing):
    """As torchvision's; the images of all processes that train together are padded to one size."""

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """As torchvision's: (B, 3, H, W)."""
        if self.training:
            sides = torch.tensor([image.shape[-2:] for image in images], device=images[0].device).amax(dim=0)
            height, width = (int(side) for side in ranks.largest(sides))
            first = images[0]
            images = [F.pad(first, (0, width - first.shape[-1], 0, height - first.shape[-2])), *images[1:]]
        batch: Tensor = super().batch_images(images, size_divisible)
        return batch


def _without_crowds(target: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = target["iscrowd"] == 0 if "iscrowd" in target else torch.ones_like(target["labels"], dtype=torch.bool)
    return {name: target[name][kept] for name in ("boxes", "labels")}


def parse_width(width: str | int) -> tuple[int, int]:
    """The widths of FPN and head: ``"128-256"`` is (128, 256), ``256`` both.

    Raises:
        InputError: not of that form.
    """
    parts = str(width).removeprefix("@").split("-")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"width {width!r} must be a number, or FPN width and head width as in '128-256'")
    return int(parts[0]), int(parts[-1])


def build_detector(
    architecture: Architecture,
    backbone: str = "resnet50",
    backbone_weights: str = "none",
    frozen: bool | None = None,
    num_classes: int = 80,
    width: str | int = 256,
    min_size: int = 800,
    max_size: int = 1333,
    centerness_on: str = TOWERS[0],
) -> Detector | AnchorDetector:
    """The detector of ``architecture``; it pads its images to multiples of 128 pixels, so that strides are exact.

    Args:
        architecture: an architecture of any FCOS space.
        backbone: see `proxy_tasks.backbones.make_backbone`.
        backbone_weights: ``default``, ``none`` or a file.
        frozen: see `make_backbone`.
        num_classes: foreground classes; labels count from 0.
        width: channels of FPN and head, ``"128-256"`` where they differ (table 7.2's "@128-256").
        min_size: pixels, the short side to which images are resized.
        max_size: pixels, the most that the long side may have.
        centerness_on: the tower that predicts it, ``classification`` or ``regression``.
    """
    fpn_width, head_width = parse_width(width)
    body = make_backbone(backbone, backbone_weights, frozen)
    decoder = architecture.build(
        in_channels=channels_of_backbone(backbone), num_classes=num_classes, fpn_width=fpn_width, head_width=head_width
    )
    pyramid = Pyramid(body, decoder.fpn, head_width)
    sizes: dict[str, Any] = {"min_size": min_size, "max_size": max_size, "size_divisible": STRIDE}
    sizes |= {"score_thresh": SCORE_THRESHOLD, "detections_per_img": DETECTIONS}
    if isinstance(decoder.head, RetinaNetHead):
        anchors = Anchors(ANCHOR_SIZES, ((0.5, 1.0, 2.0),) * len(ANCHOR_SIZES))
        return _padded_alike(AnchorDetector(pyramid, num_classes, anchor_generator=anchors, head=decoder.head, **sizes))
    if centerness_on not in TOWERS:
        raise InputError(f"centerness is predicted on the tower of {' or '.join(TOWERS)}, got {centerness_on!r}")
    decoder.head.centerness_on = centerness_on
    sizes |= {"anchor_generator": location_anchors(), "nms_thresh": NMS_THRESHOLD}
    return _padded_alike(Detector(pyramid, num_classes, head=decoder.head, **sizes))


def _padded_alike(detector: Any) -> Any:
    """The detector with our `_Transform` for torchvision's, of the same settings."""
    own = detector.transform
    detector.transform = _Transform(own.min_size, own.max_size, own.image_mean, own.image_std, own.size_divisible)
    return detector


def detections(
    outputs: dict[str, Tensor], crop: int, score_threshold: float = SCORE_THRESHOLD
) -> list[dict[str, Tensor]]:
    """Boxes from a head's outputs on square crops, by torchvision's post-processing.

    Args:
        outputs: ``cls_logits`` (B, L, C), ``bbox_regression`` (B, L, 4), ``bbox_ctrness`` (B, L, 1).
        crop: pixels.
        score_threshold: boxes of lower scores are left out.

    Returns:
        For each image ``boxes`` (n, 4) pixels, ``scores`` (n,), ``labels`` (n,).
    """
    classes = outputs["cls_logits"].shape[-1]
    stem = nn.Identity()
    stem.out_channels = 1  # type: ignore[assignment]
    model = FCOS(stem, classes, head=nn.Identity(), score_thresh=score_threshold, nms_thresh=NMS_THRESHOLD)
    batch, levels = len(outputs["cls_logits"]), [side * side for side in level_sizes(crop)]
    anchors = anchors_of(crop).to(outputs["cls_logits"].device)
    split = {name: list(value.float().split(levels, dim=1)) for name, value in outputs.items()}
    found: list[dict[str, Tensor]] = model.postprocess_detections(
        split, [list(anchors.split(levels))] * batch, [(crop, crop)] * batch
    )
    return found
