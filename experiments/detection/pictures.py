"""Detections drawn on their image."""

from collections.abc import Sequence

import torch
from pycocotools.mask import decode
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from experiments.detection.evaluation import Detections

__all__ = ["LEAST_SCORE", "drawn"]

LEAST_SCORE = 0.3
"""Detections below are not drawn: figures need many, eyes do not."""
PALETTE = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000", "#808000", "#000075")


def drawn(image: Tensor, found: Detections, classes: Sequence[str]) -> Tensor:
    """The image (3, H, W) uint8 with boxes, their classes and scores, and masks where there are any.

    A class has its colour; where there are masks, an object has its own, so that those that touch can be told apart.

    Args:
        image: as it was decoded.
        found: detections in its pixels.
        classes: the names that the labels count.
    """
    kept = found["scores"] >= LEAST_SCORE
    boxes, labels, scores = (found[name][kept] for name in ("boxes", "labels", "scores"))
    texts = [f"{classes[label]} {score:.2f}" for label, score in zip(labels.tolist(), scores.tolist(), strict=True)]
    of_colour = range(len(labels)) if "segmentations" in found else labels.tolist()
    colours = [PALETTE[number % len(PALETTE)] for number in of_colour]
    width = max(1, round(min(image.shape[-2:]) / 200))
    if not texts:
        return image
    picture = image
    if "segmentations" in found:
        chosen = [one for one, drawn in zip(found["segmentations"], kept.tolist(), strict=True) if drawn]
        masks = torch.from_numpy(decode(chosen)).permute(2, 0, 1).bool()
        picture = draw_segmentation_masks(picture, masks, alpha=0.5, colors=colours)
    return draw_bounding_boxes(picture, boxes, texts, colours, width=width)
