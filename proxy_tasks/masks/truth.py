"""What is to be found in an image, and which RoIs answer for it.

Notation: n objects and c crowds in an image of H×W pixels; m RoIs. Labels count from 0 in targets and from 1 here,
where 0 is background and −1 what has no loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import box_iou

from search_spaces import InputError

__all__ = ["CROWD_SHARE", "Samples", "Truth", "assign", "check_targets", "covered", "sample", "without_crowds"]

CROWD_SHARE = 0.5  # what lies in a crowd by more than this share of its own area is neither object nor background


@dataclass(frozen=True)
class Truth:
    """The objects of one image.

    Args:
        boxes: float (n, 4) pixels.
        labels: int64 (n,), from 1.
        masks: uint8 (n, H, W).
        crowds: float (c, 4), the boxes of what is neither to be found nor background.
        crowd_masks: uint8 (c, H, W), where in those boxes it is.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    crowds: Tensor
    crowd_masks: Tensor

    @classmethod
    def of(cls, target: Mapping[str, Tensor]) -> "Truth":
        """That of a torchvision target: ``boxes``, ``labels`` from 0, ``masks`` and, if there are any, ``iscrowd``."""
        kept = without_crowds(target)
        boxes, masks = target["boxes"], target["masks"]
        return cls(boxes[kept], target["labels"][kept] + 1, masks[kept], boxes[~kept], masks[~kept])


def without_crowds(target: Mapping[str, Tensor]) -> Tensor:
    """bool (n,): which objects are to be found."""
    labels = target["labels"]
    return target["iscrowd"] == 0 if "iscrowd" in target else torch.ones_like(labels, dtype=torch.bool)


def covered(boxes: Tensor, crowds: Tensor) -> Tensor:
    """The largest share of each box (m, 4) that lies in one of the crowds (c, 4): float (m,), from 0 to 1."""
    if not len(boxes) or not len(crowds):
        return boxes.new_zeros(len(boxes))
    low, high = torch.maximum(boxes[:, None, :2], crowds[:, :2]), torch.minimum(boxes[:, None, 2:], crowds[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    own = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).clamp(min=torch.finfo(boxes.dtype).tiny)
    return (shared / own[:, None]).amax(dim=1)


def assign(boxes: Tensor, truth: Truth, threshold: float) -> tuple[Tensor, Tensor]:
    """Each RoI's label and the object that it answers for.

    Args:
        boxes: (m, 4).
        truth: of their image.
        threshold: the least IoU with an object.

    Returns:
        int64 (m,): labels, −1 where a crowd covers what would be background; and indices of objects, 0 where none is.
    """
    labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    matched = torch.zeros_like(labels)
    if len(boxes) and len(truth.boxes):
        overlap, matched = box_iou(truth.boxes, boxes).max(dim=0)
        labels = torch.where(overlap >= threshold, truth.labels[matched], labels)
    labels[(labels == 0) & (covered(boxes, truth.crowds) > CROWD_SHARE)] = -1
    return labels, matched


@dataclass(frozen=True)
class Samples:
    """RoIs of one image that a stage learns from.

    Args:
        boxes: float (m, 4).
        labels: int64 (m,), from 1; 0 is background.
        matched: int64 (m,), the objects that they answer for.
        targets: float (m, 4), the objects' boxes; zeros where the image has no object.
        given: bool (m,), which are objects' own boxes rather than proposals.
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    targets: Tensor
    given: Tensor

    def positive(self) -> "Samples":
        """Those that answer for an object."""
        kept = self.labels > 0
        return Samples(self.boxes[kept], self.labels[kept], self.matched[kept], self.targets[kept], self.given[kept])


def sample(
    proposals: Sequence[Tensor], truths: Sequence[Truth], threshold: float, sampler: BalancedPositiveNegativeSampler
) -> list[Samples]:
    """Draws RoIs of every image from its proposals and the objects' own boxes, as torchvision's heads do."""
    whole = []
    for boxes, truth in zip(proposals, truths, strict=True):
        boxes = torch.cat([boxes, truth.boxes.to(boxes)])
        labels, matched = assign(boxes, truth, threshold)
        given = torch.arange(len(boxes), device=boxes.device) >= len(boxes) - len(truth.boxes)
        targets = truth.boxes[matched] if len(truth.boxes) else torch.zeros_like(boxes)
        whole.append(Samples(boxes, labels, matched, targets, given))
    drawn = []
    for one, positive, negative in zip(whole, *sampler([one.labels for one in whole]), strict=True):
        kept = torch.where(positive.bool() | negative.bool())[0]
        drawn.append(Samples(one.boxes[kept], one.labels[kept], one.matched[kept], one.targets[kept], one.given[kept]))
    return drawn


def check_targets(targets: Sequence[Mapping[str, Tensor]] | None, images: Sequence[Tensor], num_classes: int) -> None:
    """Checks what a network is to learn from.

    Raises:
        InputError: no targets or not one an image, one without masks, masks of another size or number than the image's
            objects, a label beyond the classes, or a box without an area.
    """
    if targets is None or len(targets) != len(images):
        raise InputError(f"a network in training mode needs a target for each of {len(images)} images")
    for number, (target, image) in enumerate(zip(targets, images, strict=True)):
        place = f"target {number}"
        for name in ("boxes", "labels", "masks"):
            if name not in target:
                raise InputError(f"{place} has no {name!r}; a mask network learns from boxes, labels and masks")
        boxes, labels, masks = target["boxes"], target["labels"], target["masks"]
        expected = (len(labels), *image.shape[-2:])
        if tuple(masks.shape) != expected or tuple(boxes.shape) != (len(labels), 4):
            raise InputError(
                f"{place} has {len(labels)} labels, boxes of shape {tuple(boxes.shape)} and masks of shape "
                f"{tuple(masks.shape)}; expected {(len(labels), 4)} and {expected}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            raise InputError(f"{place} has a label beyond 0 to {num_classes - 1}")
        if not bool((boxes[:, 2:] > boxes[:, :2]).all()):
            raise InputError(f"{place} has a box without an area")
