"""The FCOS loss on dense targets: static shapes, no loop over images or boxes.

Equal to ``torchvision.models.detection.fcos.FCOSHead.compute_loss`` on the same predictions and boxes, where nothing is
ignored; locations that are ignored have no loss. Notation: B images, L locations, C classes (foreground only, counted
from 0).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from proxy_tasks import ranks
from proxy_tasks.fcos.targets import IGNORED, DenseTargets

__all__ = ["FCOSLossSums", "fcos_loss_sums"]

EPSILON = 1e-7  # as in torchvision.ops.generalized_box_iou_loss
SILENT = -1e4  # a logit so far below 0 that its focal loss as background, and the loss's gradient, are exactly 0


@dataclass(frozen=True)
class FCOSLossSums:
    """The three terms summed over locations, and what divides them (all scalars).

    ``foreground``, the number of foreground locations, divides the first term and the last, ``boxes``, the sum of the
    locations' weights, the second.

    Sums over batches may be added before dividing, so that a score does not depend on the batch size.
    """

    classification: Tensor
    regression: Tensor
    centerness: Tensor
    foreground: Tensor
    boxes: Tensor

    def __add__(self, other: "FCOSLossSums") -> "FCOSLossSums":
        return FCOSLossSums(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def over_ranks(self) -> "FCOSLossSums":
        """The same with what divides summed over all processes, so that each has its part of the whole batch's loss."""
        return replace(self, foreground=ranks.summed(self.foreground), boxes=ranks.summed(self.boxes))

    def terms(self) -> dict[str, Tensor]:
        """The three losses by name, each divided by what it counts; where nothing is counted by 1."""
        count = self.foreground.clamp(min=1)
        boxes = self.boxes.where(self.foreground > 0, 1.0)
        return {
            "classification": self.classification / count,
            "regression": self.regression / boxes,
            "centerness": self.centerness / count,
        }

    def total(self) -> Tensor:
        """The sum of the three terms (thesis eq. 7.2, without its sign)."""
        return torch.stack(list(self.terms().values())).sum()


def fcos_loss_sums(
    outputs: dict[str, Tensor], targets: DenseTargets, sizes: Tensor, regression: str = "uniform"
) -> FCOSLossSums:
    """Focal, GIoU and centerness loss of a batch.

    Args:
        outputs: ``cls_logits`` (B, L, C), ``bbox_regression`` (B, L, 4) in strides, ``bbox_ctrness`` (B, L, 1).
        targets: what the outputs should say, for the same B images and L locations.
        sizes: (L,) the strides in pixels.
        regression: ``"uniform"``, or ``"centerness"`` where a location's box loss counts as much as its centerness.
    """
    logits = outputs["cls_logits"].float().where((targets.labels != IGNORED)[..., None], SILENT)
    foreground = targets.labels >= 0
    classes = torch.arange(logits.shape[-1], device=logits.device)
    one_hot = (targets.labels[..., None] == classes).to(logits.dtype)
    weight = foreground.to(logits.dtype)
    box_weight = weight if regression == "uniform" else targets.centerness  # that of the background is 0
    # background predictions, which may be anything, are kept out before the loss: infinity times weight 0 is not 0
    predicted = (outputs["bbox_regression"].float() * sizes[:, None]).where(foreground[..., None], 1.0)
    centerness = outputs["bbox_ctrness"].float().squeeze(-1)
    cross_entropy = F.binary_cross_entropy_with_logits(centerness, targets.centerness, reduction="none")
    return FCOSLossSums(
        classification=sigmoid_focal_loss(logits, one_hot, reduction="sum"),
        regression=(_giou_loss(predicted, targets.distances) * box_weight).sum(),
        centerness=(cross_entropy * weight).sum(),
        foreground=weight.sum(),
        boxes=box_weight.sum(),
    )


def _giou_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """1 - GIoU of boxes given by their distances (..., 4) from one common point inside both."""
    inner, outer = torch.minimum(predicted, truth), torch.maximum(predicted, truth)
    intersection, enclosing = _area(inner), _area(outer)
    union = _area(predicted) + _area(truth) - intersection
    return 1 - intersection / (union + EPSILON) + (enclosing - union) / (enclosing + EPSILON)


def _area(distances: Tensor) -> Tensor:
    return (distances[..., 0] + distances[..., 2]) * (distances[..., 1] + distances[..., 3])
