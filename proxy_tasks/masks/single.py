"""EfficientDet-D3 with masks: the detector's own boxes are the RoIs of a mask head on P3 … P5.

Mask R-CNN and CenterMask as the thesis has them on EfficientDet-D3: the whole detector with its weights, and a mask
head of one stage. With pretrained weights the detector is frozen and the mask head alone learns, by the masks' loss on
RoIs that match an object (thesis 5.1); without, or asked to, both learn, by the detector's own loss too.

Notation: B images; A anchors of an image on P3 … P7; K classes. effdet's boxes are (y1, x1, y2, x2), its labels count
from 1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import clip_boxes_to_image

from proxy_tasks import ranks
from proxy_tasks.masks.boxes import SCORE_THRESHOLD
from proxy_tasks.masks.cascade import IOU_THRESHOLDS, MASK_SIZE, mask_loss
from proxy_tasks.masks.efficientdet import efficientdet, maps_of
from proxy_tasks.masks.pyramids import frozen_part
from proxy_tasks.masks.rois import RoIPool
from proxy_tasks.masks.truth import CROWD_SHARE, Truth, check_targets, covered, sample
from search_spaces.masks.head import MaskBranch

__all__ = ["ROI_LEVELS", "MaskedEfficientDet"]

ROI_LEVELS = ("P3", "P4", "P5")
PYRAMID = ("P3", "P4", "P5", "P6", "P7")
POSITIVE = 128  # RoIs of an image that the mask head learns from, at most
IGNORED = -2  # effdet's class target of an anchor without a loss
BACKGROUND = -1


class MaskedEfficientDet(nn.Module):
    """EfficientDet-D3 and a mask head; inputs and outputs are those of torchvision's Mask R-CNN, labels from 0.

    Args:
        branch: the mask head, of one stage.
        transform: resizes and pads images to multiples of 128 pixels.
        weights: of the detector, see `efficientdet`.
        frozen: whether the detector keeps its weights; by default where it has any. Where its class predictor has none
            for these classes, the detector's heads learn all the same.
        num_classes: K.

    Raises:
        InputError: as `efficientdet`.
    """

    network: Any  # effdet has no types

    def __init__(
        self,
        branch: MaskBranch,
        transform: GeneralizedRCNNTransform,
        weights: str,
        frozen: bool | None,
        num_classes: int,
    ):
        super().__init__()
        self.network, classified = efficientdet(weights, num_classes)
        self.frozen = weights != "none" if frozen is None else frozen
        self.frozen_heads = self.frozen and classified
        self.network.requires_grad_(not self.frozen)
        for head in (self.network.class_net, self.network.box_net):
            head.requires_grad_(not self.frozen_heads)
        self.masks, self.transform, self.num_classes = branch, transform, num_classes
        self.pool = RoIPool(ROI_LEVELS, MASK_SIZE, branch.levels)
        self.sampler = BalancedPositiveNegativeSampler(POSITIVE, 1.0)
        self.train()  # a module begins in training mode, what is frozen must not

    def train(self, mode: bool = True) -> "MaskedEfficientDet":
        """As of any module, but what is frozen stays in evaluation mode."""
        super().train(mode)
        self.network.train(mode and not self.frozen)
        for head in (self.network.class_net, self.network.box_net):
            head.train(mode and not self.frozen_heads)
        return self

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Images, float (3, H, W) from 0 to 1, and in training mode their targets -> losses, else detections.

        Raises:
            InputError: targets that are missing or do not fit.
        """
        if self.training:
            check_targets(targets, images, self.num_classes)
        original = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, targets = self.transform(images, targets)
        maps = self.maps(batch.tensors)
        with frozen_part(self.frozen_heads):
            outputs = self._outputs(maps)
        found = self.detections(outputs, batch)
        if not self.training:
            return self.transform.postprocess(self._masked(maps, found, batch.image_sizes), batch.image_sizes, original)
        assert targets is not None
        truths = [Truth.of(target) for target in targets]
        losses = {"loss_mask": self._mask_loss(maps, [one["boxes"] for one in found], batch.image_sizes, truths)}
        losses |= {} if self.frozen_heads else self.detection_losses(outputs, truths, batch)
        return ranks.part(losses, len(images))

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised, of sides that 128 divides, -> P2 … P7."""
        with frozen_part(self.frozen):
            return maps_of(self.network, images)

    def _outputs(self, maps: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (B, 9K, ·, ·) and box codes (B, 36, ·, ·) of P3 … P7."""
        pyramid = [maps[level] for level in PYRAMID]
        return self.network.class_net(pyramid), self.network.box_net(pyramid)

    def _anchors(self, batch: ImageList) -> Any:
        from effdet.anchors import Anchors

        config = self.network.config
        size = (batch.tensors.shape[-2], batch.tensors.shape[-1])
        scales = (config.num_scales, config.aspect_ratios, config.anchor_scale)
        return Anchors(config.min_level, config.max_level, *scales, size).to(batch.tensors.device)

    @torch.no_grad()
    def detections(self, outputs: tuple[list[Tensor], list[Tensor]], batch: ImageList) -> list[dict[str, Tensor]]:
        """effdet's detections: for each image ``boxes`` (d, 4) pixels of the resized image, ``labels``, ``scores``."""
        from effdet.anchors import generate_detections
        from effdet.bench import _post_process

        anchors, config = self._anchors(batch).boxes, self.network.config
        most = min(config.max_detection_points, len(anchors) * self.num_classes)
        kept = _post_process(*outputs, len(PYRAMID), self.num_classes, most)
        scores, codes, indices, classes = kept
        found = []
        for number, size in enumerate(batch.image_sizes):
            rows = generate_detections(
                *(scores[number], codes[number], anchors, indices[number], classes[number]),
                *(None, None, config.max_det_per_image),
            )
            boxes = clip_boxes_to_image(rows[:, :4], size)
            seen = (rows[:, 4] > SCORE_THRESHOLD) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            rows, boxes = rows[seen], boxes[seen]
            found.append({"boxes": boxes, "labels": rows[:, 5].long() - 1, "scores": rows[:, 4]})
        return found

    def _masked(
        self, maps: dict[str, Tensor], found: list[dict[str, Tensor]], sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Detections with their ``masks`` (d, 1, 28, 28)."""
        labels = torch.cat([one["labels"] for one in found])
        logits = self.masks.masks(0, self.pool(maps, [one["boxes"] for one in found], sizes))
        masks = logits.sigmoid()[torch.arange(len(labels), device=labels.device), labels][:, None]
        counts = [len(one["labels"]) for one in found]
        return [one | {"masks": mask} for one, mask in zip(found, masks.split(counts), strict=True)]

    def _mask_loss(
        self, maps: dict[str, Tensor], boxes: list[Tensor], sizes: Sequence[tuple[int, int]], truths: list[Truth]
    ) -> Tensor:
        """The loss of the masks on detections and objects' own boxes that answer for an object."""
        positive = [one.positive() for one in sample(boxes, truths, IOU_THRESHOLDS[0], self.sampler)]
        logits = self.masks.masks(0, self.pool(maps, [one.boxes for one in positive], sizes))
        return mask_loss(logits, positive, truths)

    def detection_losses(
        self, outputs: tuple[list[Tensor], list[Tensor]], truths: list[Truth], batch: ImageList
    ) -> dict[str, Tensor]:
        """effdet's focal and Huber losses; an anchor in a crowd that answers for no object has none."""
        from effdet.anchors import AnchorLabeler
        from effdet.loss import DetectionLoss

        anchors = self._anchors(batch)
        labeler = AnchorLabeler(anchors, self.num_classes)
        corners = [truth.boxes[:, [1, 0, 3, 2]] for truth in truths]
        classes, boxes, positives = labeler.batch_label_anchors(corners, [truth.labels for truth in truths])
        counts = [one[0].numel() for one in classes]
        for number, truth in enumerate(truths):
            inside = (covered(anchors.boxes[:, [1, 0, 3, 2]], truth.crowds) > CROWD_SHARE).split(counts)
            for level, own in zip(classes, inside, strict=True):
                level[number][(level[number] == BACKGROUND) & own.view_as(level[number])] = IGNORED
        _, classifier, regression = DetectionLoss(self.network.config)(*outputs, classes, boxes, positives)
        return {"loss_classifier": classifier, "loss_box_reg": self.network.config.box_loss_weight * regression}
