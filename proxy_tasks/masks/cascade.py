"""The heads of a Hybrid Task Cascade: box stages, mask stages and the semantic branch, interleaved.

Notation, that of the thesis' algorithm 1: X'' the pyramid's maps, S' the semantic features, P RoIAlign, b_t the boxes
of stage t (b_{-1} the proposals), m_t its masks. A cascade has three stages; Mask R-CNN is one of a single stage,
without a semantic branch, with a regression a class, and with masks learned on the proposals themselves.

Source: R. Manzanedo, "Hybrid Task Cascade with Attention", 2022, algorithm 1 and eq. 5.2; Chen et al., CVPR 2019.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.roi_heads import maskrcnn_loss

from proxy_tasks.masks.boxes import BOX_SIZE, BoxStage, box_losses, detections, refined
from proxy_tasks.masks.rois import RoIPool
from proxy_tasks.masks.semantic import SemanticBranch, given_labels, semantic_labels, semantic_loss
from proxy_tasks.masks.truth import Samples, Truth, sample
from search_spaces.masks.head import MaskBranch

__all__ = [
    "IOU_THRESHOLDS",
    "MASK_SIZE",
    "SEMANTIC",
    "SEMANTIC_WEIGHT",
    "STAGE_WEIGHTS",
    "CascadeHeads",
    "Maps",
    "StageBoxes",
    "mask_loss",
]

IOU_THRESHOLDS = (0.5, 0.6, 0.7)  # of the stages
STAGE_WEIGHTS = (1.0, 0.5, 0.25)  # alpha_t of eq. 5.2
SEMANTIC_WEIGHT = 1.0  # beta
MASK_SIZE = 14  # height and width of a RoI in a mask stage
SEMANTIC = "P3"  # the level of S'
SAMPLED, POSITIVE_SHARE = 512, 0.25  # RoIs of an image that a stage learns from, torchvision's
Maps = Mapping[str, Tensor]
"""The pyramid's maps by level and, in a cascade, S' as ``semantic``."""


@dataclass(frozen=True)
class StageBoxes:
    """What a box stage gives in evaluation.

    Args:
        rois: each image's boxes that the masks of this stage are of: its own, or in a single stage the proposals.
        decoded: each image's boxes, (m, 1 or K + 1, 4).
        scores: of the boxes of all images, (·, K + 1).
    """

    rois: list[Tensor]
    decoded: list[Tensor]
    scores: Tensor


class CascadeHeads(nn.Module):
    """Takes the place of torchvision's `RoIHeads` in its `GeneralizedRCNN`.

    Args:
        branch: the mask stages; there are as many box stages.
        levels: the pyramid's maps that RoIs are pooled from.
        mask_levels: those that the masks' RoIs are pooled from.
        channels: of the pyramid's maps.
        num_classes: the number of foreground classes.
        semantic: the semantic branch, where there is one.
        averaged: whether detections average class scores and masks over all stages, as the published code of the
            Hybrid Task Cascade does; else they are the last stage's, as in algorithm 1.
    """

    def __init__(
        self,
        branch: MaskBranch,
        levels: Sequence[str],
        mask_levels: Sequence[str],
        channels: int,
        num_classes: int,
        semantic: SemanticBranch | None = None,
        averaged: bool = False,
    ):
        super().__init__()
        stages = len(branch.stages)
        self.cascaded = stages > 1
        self.boxes = nn.ModuleList(BoxStage(channels, num_classes, t, self.cascaded) for t in range(stages))
        self.masks, self.semantic, self.averaged = branch, semantic, averaged
        self.box_pool, self.mask_pool = RoIPool(levels, BOX_SIZE), RoIPool(mask_levels, MASK_SIZE, branch.levels)
        self.semantic_box_pool, self.semantic_mask_pool = (RoIPool([SEMANTIC], size) for size in (BOX_SIZE, MASK_SIZE))
        self.sampler = BalancedPositiveNegativeSampler(SAMPLED, POSITIVE_SHARE)

    def forward(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Tensor],
        sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """The pyramid's maps and every image's proposals -> detections in evaluation, losses in training.

        Returns:
            for each image ``boxes`` (d, 4) pixels of the resized image, ``labels`` from 0, ``scores``, ``masks``
            (d, 1, 28, 28) from 0 to 1 within the box; and the weighted terms of the loss, whose sum is eq. 5.2.
        """
        maps = dict(features)
        logits = None
        if self.semantic is not None:
            logits, maps["semantic"] = self.semantic(features)
        if not self.training:
            return self._detect(maps, proposals, sizes), {}
        assert targets is not None, "a network in training mode needs targets"
        truths = [Truth.of(target) for target in targets]
        losses = self._learn(maps, proposals, sizes, truths)
        if logits is not None:
            losses["loss_semantic"] = SEMANTIC_WEIGHT * semantic_loss(logits, _labels(logits, targets, truths, sizes))
        return [], losses

    def _box_rois(self, maps: Maps, boxes: Sequence[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
        """X_box = P(X'', b) + P(S', b)."""
        rois: Tensor = self.box_pool(maps, boxes, sizes)
        return rois + self.semantic_box_pool({SEMANTIC: maps["semantic"]}, boxes, sizes) if self.semantic else rois

    def mask_rois(self, maps: Maps, boxes: Sequence[Tensor], sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """P(X'', b) and P(S', b), whose sum is X_mask; a mask stage adds the second where it fuses it."""
        rois = {"pyramid": self.mask_pool(maps, boxes, sizes)}
        if self.semantic is not None and self.masks.uses_semantic:
            rois["semantic"] = self.semantic_mask_pool({SEMANTIC: maps["semantic"]}, boxes, sizes)
        return rois

    def _learn(
        self,
        maps: Maps,
        proposals: list[Tensor],
        sizes: list[tuple[int, int]],
        truths: Sequence[Truth],
    ) -> dict[str, Tensor]:
        """The losses of all stages; box stage t, then mask stage t on the boxes b_t of it, then the next."""
        losses: dict[str, Tensor] = {}
        for t, stage in enumerate(self.boxes):
            assert isinstance(stage, BoxStage)
            threshold, weight = IOU_THRESHOLDS[t], STAGE_WEIGHTS[t]
            samples = sample(proposals, truths, threshold, self.sampler)
            logits, codes = stage(self._box_rois(maps, [one.boxes for one in samples], sizes))
            classifier, regression = box_losses(stage, logits, codes, samples)
            if self.cascaded:
                proposals = refined(stage, codes, samples, sizes)
                samples = sample(proposals, truths, threshold, self.sampler)
            positive = [one.positive() for one in samples]
            rois = self.mask_rois(maps, [one.boxes for one in positive], sizes)
            masks = self.masks.masks(t, rois["pyramid"], rois.get("semantic"))
            suffix = f"_{t + 1}" if self.cascaded else ""
            losses |= {
                f"loss_classifier{suffix}": weight * classifier,
                f"loss_box_reg{suffix}": weight * regression,
                f"loss_mask{suffix}": weight * mask_loss(masks, positive, truths),
            }
        return losses

    def maps(self, features: Maps) -> dict[str, Tensor]:
        """The pyramid's maps with S' beside them, which is all that stages read."""
        return dict(features) | ({"semantic": self.semantic(features)[1]} if self.semantic is not None else {})

    def box_stages(self, maps: Maps, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> Iterator[StageBoxes]:
        """What every box stage makes of the proposals, each of the boxes of the one before it."""
        boxes = proposals
        for stage in self.boxes:
            assert isinstance(stage, BoxStage)
            logits, codes = stage(self._box_rois(maps, boxes, sizes))
            decoded = stage.decode(codes, boxes, sizes)
            boxes = [one[:, 0] for one in decoded] if self.cascaded else boxes
            yield StageBoxes(boxes, decoded, logits.softmax(dim=1))

    def detected_boxes(
        self, maps: Maps, proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Each image's detections, without masks; see `boxes.detections`."""
        stages = list(self.box_stages(maps, proposals, sizes))
        decoded, scores = stages[-1].decoded, [stage.scores for stage in stages]
        score = torch.stack(scores).mean(dim=0) if self.averaged else scores[-1]
        return [detections(*one) for one in zip(decoded, score.split([len(one) for one in decoded]), strict=True)]

    def _detect(self, maps: Maps, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        found = self.detected_boxes(maps, proposals, sizes)
        rois = self.mask_rois(maps, [one["boxes"] for one in found], sizes)
        labels = torch.cat([one["labels"] for one in found])
        masks = self._probabilities(rois)[torch.arange(len(labels), device=labels.device), labels][:, None]
        for one, mask in zip(found, masks.split([len(one["boxes"]) for one in found]), strict=True):
            one["masks"] = mask
        return found

    def _probabilities(self, rois: Mapping[str, Tensor]) -> Tensor:
        """Mask probabilities (RoIs, classes, 28, 28): the last stage's, or the mean of all."""
        last = len(self.masks.stages) - 1
        if not self.averaged:
            return self.masks.masks(last, rois["pyramid"], rois.get("semantic")).sigmoid()
        return torch.stack([one.sigmoid() for one in self.masks(rois).values()]).mean(dim=0)


def mask_loss(logits: Tensor, positive: Sequence[Samples], truths: Sequence[Truth]) -> Tensor:
    """Binary cross-entropy of each positive RoI's map of its object's class; 0 without any.

    Args:
        logits: (RoIs of all images, classes, 28, 28).
        positive: each image's positive RoIs.
        truths: of the images.
    """
    loss: Tensor = maskrcnn_loss(
        logits,
        [one.boxes for one in positive],
        [truth.masks for truth in truths],
        [truth.labels - 1 for truth in truths],
        [one.matched for one in positive],
    )
    return loss


def _labels(
    logits: Tensor, targets: Sequence[Mapping[str, Tensor]], truths: Sequence[Truth], sizes: Sequence[tuple[int, int]]
) -> Tensor:
    """The label maps of all images (B, H, W): ``semantic`` where a target has it, else that of the instances."""
    padded = (8 * logits.shape[-2], 8 * logits.shape[-1])
    maps = [
        given_labels(target["semantic"], padded) if "semantic" in target else semantic_labels(truth, size, padded)
        for target, truth, size in zip(targets, truths, sizes, strict=True)
    ]
    return torch.stack(maps)
