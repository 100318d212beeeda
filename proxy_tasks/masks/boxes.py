"""The box stages of a cascade: modules, box coding, losses, and the detections that remain.

Notation: m RoIs of all images of a batch; K classes, numbered from 1 here, 0 being background.

Source: Cai and Vasconcelos, "Cascade R-CNN: Delving into High Quality Object Detection", CVPR 2018. A single stage is
that of Mask R-CNN (He et al., ICCV 2017), as torchvision has it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from proxy_tasks.masks.truth import Samples
from proxy_tasks.precision import at_least_float32

__all__ = ["BOX_SIZE", "SCORE_THRESHOLD", "BoxStage", "box_losses", "detections", "refined"]

BOX_SIZE = 7  # height and width of a RoI in a box stage
BETA = 1 / 9  # where the regression's loss turns from quadratic to linear, as in torchvision
SCORE_THRESHOLD, NMS_THRESHOLD, DETECTIONS = 0.05, 0.5, 100  # torchvision's
SMALLEST = 1e-2  # pixels; narrower boxes are dropped, as in torchvision


class BoxStage(nn.Module):
    """Two shared fully connected layers, then class scores and box regression.

    Args:
        channels: of the RoIs.
        num_classes: K.
        stage: its number from 0; later ones code boxes more finely (Cascade R-CNN, sec. 4.2).
        agnostic: whether one regression serves all classes.
    """

    def __init__(self, channels: int, num_classes: int, stage: int = 0, agnostic: bool = True):
        super().__init__()
        width = 4 * channels  # 1024 of 256
        self.head = TwoMLPHead(channels * BOX_SIZE**2, width)
        self.predictor = FastRCNNPredictor(width, num_classes + 1)
        if agnostic:
            self.predictor.bbox_pred = nn.Linear(width, 4)
        self.agnostic = agnostic
        finer = float(stage + 1)
        self.coder = BoxCoder((10 * finer, 10 * finer, 5 * finer, 5 * finer))

    def forward(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        """RoIs (m, channels, 7, 7) -> logits (m, K + 1) and box codes, (m, 4) or (m, 4 · (K + 1))."""
        logits, codes = self.predictor(self.head(rois))
        return at_least_float32(logits), at_least_float32(codes)  # from which boxes take their type

    def decode(self, codes: Tensor, boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Each image's boxes (m, 1 or K + 1, 4) that the codes of all images' RoIs say, clipped to the image."""
        counts = [len(one) for one in boxes]
        if not sum(counts):
            return [codes.new_zeros(0, codes.shape[1] // 4, 4) for _ in boxes]
        decoded = self.coder.decode(codes, list(boxes)).split(counts)
        return [clip_boxes_to_image(one, size) for one, size in zip(decoded, sizes, strict=True)]


def box_losses(stage: BoxStage, logits: Tensor, codes: Tensor, samples: Sequence[Samples]) -> tuple[Tensor, Tensor]:
    """Cross-entropy and smooth-L1 of one stage, each divided by the number of RoIs; 0 without any.

    With a regression a class it is torchvision's `fastrcnn_loss`.

    Args:
        stage: whose outputs these are.
        logits: (m, K + 1).
        codes: see `BoxStage`.
        samples: the RoIs of every image, m in all.
    """
    labels = torch.cat([one.labels for one in samples])
    if not len(labels):
        return logits.sum() * 0, codes.sum() * 0
    goals = torch.cat(stage.coder.encode([one.targets for one in samples], [one.boxes for one in samples]))
    positive = torch.where(labels > 0)[0]
    column = torch.zeros_like(positive) if stage.agnostic else labels[positive]
    found = codes.view(len(labels), -1, 4)[positive, column]
    regression = F.smooth_l1_loss(found, goals[positive], beta=BETA, reduction="sum") / len(labels)
    return F.cross_entropy(logits, labels), regression


def refined(
    stage: BoxStage, codes: Tensor, samples: Sequence[Samples], sizes: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """The next stage's proposals: a stage's boxes of its RoIs, without those of the objects' own boxes.

    Those are always among the next stage's RoIs as they are; boxes that are nearly empty are left out.
    """
    assert stage.agnostic, "a cascade regresses boxes whatever their class"
    boxes = stage.decode(codes.detach(), [one.boxes for one in samples], sizes)
    kept = [one[:, 0][~sampled.given] for one, sampled in zip(boxes, samples, strict=True)]
    return [one[remove_small_boxes(one, SMALLEST)] for one in kept]


def detections(boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
    """What remains of one image's boxes: above the threshold, suppressed class by class, the best hundred.

    Args:
        boxes: (m, 1 or K + 1, 4) pixels.
        scores: (m, K + 1), background first.

    Returns:
        ``boxes`` (d, 4), ``labels`` int64 (d,) from 0, ``scores`` (d,), best first.
    """
    classes = scores.shape[1] - 1
    each = (boxes.expand(-1, classes + 1, -1) if boxes.shape[1] == 1 else boxes)[:, 1:].reshape(-1, 4)
    labels = torch.arange(classes, device=scores.device).repeat(len(scores))
    flat = scores[:, 1:].reshape(-1)
    kept = torch.where(flat > SCORE_THRESHOLD)[0]
    kept = kept[remove_small_boxes(each[kept], SMALLEST)]
    kept = kept[batched_nms(each[kept], flat[kept], labels[kept], NMS_THRESHOLD)[:DETECTIONS]]
    return {"boxes": each[kept], "labels": labels[kept], "scores": flat[kept]}
