"""The region proposal network: torchvision's, which knows crowds and takes some of the pyramid's levels."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from proxy_tasks.anchors import Anchors
from proxy_tasks.masks.truth import CROWD_SHARE, covered, without_crowds
from proxy_tasks.precision import at_least_float32

__all__ = ["Proposals", "proposals"]

RATIOS = (0.5, 1.0, 2.0)
KEPT = {"training": 2000, "testing": 1000}  # before and after suppression, torchvision's


class Proposals(RegionProposalNetwork):
    """torchvision's region proposal network.

    An anchor that lies in a crowd by more than half of its area and answers for no object has no loss; a batch in which
    no anchor has one has a loss of 0. Without crowds all is torchvision's.

    Attributes:
        levels: the maps that are taken.
    """

    levels: Sequence[str] = ()

    def keep(self, count: int) -> None:
        """From here on at most so many proposals of an image remain after suppression."""
        self._post_nms_top_n = {"training": count, "testing": count}

    def forward(
        self, images: ImageList, features: Mapping[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """See torchvision's; ``targets`` may have ``iscrowd``."""
        taken = {level: features[level] for level in self.levels}
        found: tuple[list[Tensor], dict[str, Tensor]] = super().forward(images, taken, targets)
        return found

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels (1 object, 0 background, −1 no loss) and the boxes answered for, of every image's anchors."""
        kept = [without_crowds(target) for target in targets]
        things = [{"boxes": target["boxes"][one]} for target, one in zip(targets, kept, strict=True)]
        labels, boxes = super().assign_targets_to_anchors(anchors, things)
        for one, own, target, objects in zip(labels, anchors, targets, kept, strict=True):
            one[(one == 0) & (covered(own, target["boxes"][~objects]) > CROWD_SHARE)] = -1
        return labels, boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The two terms; torchvision's would be 0 / 0 where no anchor has a loss."""
        if not any(bool((one >= 0).any()) for one in labels):
            return objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        terms: tuple[Tensor, Tensor] = super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)
        return terms


class _Head(RPNHead):
    """torchvision's, with outputs of float32, from which boxes take their type."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and box codes of every map."""
        objectness, codes = super().forward(x)
        return list(map(at_least_float32, objectness)), list(map(at_least_float32, codes))


def proposals(levels: Sequence[str], sides: Sequence[tuple[int, ...]], channels: int) -> Proposals:
    """A region proposal network with torchvision's settings.

    Args:
        levels: the pyramid's maps that it takes.
        sides: of the anchors at each of them, pixels.
        channels: of the maps.
    """
    anchors = Anchors(tuple(sides), (RATIOS,) * len(levels))
    head = _Head(channels, anchors.num_anchors_per_location()[0])
    settings: dict[str, Any] = {"pre_nms_top_n": dict(KEPT), "post_nms_top_n": dict(KEPT), "nms_thresh": 0.7}
    settings |= {"fg_iou_thresh": 0.7, "bg_iou_thresh": 0.3, "batch_size_per_image": 256, "positive_fraction": 0.5}
    network = Proposals(anchors, head, **settings)
    network.levels = tuple(levels)
    return network
