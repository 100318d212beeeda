"""COCO average precision, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

__all__ = ["coco_ap"]


def coco_ap(
    found: Sequence[dict[str, Tensor]], truth: Sequence[dict[str, Tensor]], num_classes: int
) -> dict[str, float]:
    """AP over IoU 0.50:0.95, AP at 0.50 and at 0.75, each in [0, 1]; NaN where there is no box at all.

    Args:
        found: for each image ``boxes`` (n, 4) (x0, y0, x1, y1) pixels, ``scores`` (n,), ``labels`` (n,).
        truth: for each image ``boxes`` (m, 4) and ``labels`` (m,).
        num_classes: labels count from 0 to one less.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        ground_truth = COCO()
        ground_truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(truth) + 1)],
            "categories": [{"id": label} for label in range(num_classes)],
            "annotations": _annotations(truth),
        }
        ground_truth.createIndex()
        results = _annotations(found)
        if not ground_truth.dataset["annotations"]:
            return dict.fromkeys(("ap", "ap50", "ap75"), float("nan"))
        if not results:
            return dict.fromkeys(("ap", "ap50", "ap75"), 0.0)
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("ap", "ap50", "ap75"), map(float, evaluation.stats[:3]), strict=True))


def _annotations(images: Sequence[dict[str, Tensor]]) -> list[dict]:
    """COCO's annotations (boxes as x, y, width, height); pycocotools needs ids that count from 1."""
    annotations: list[dict] = []
    for image, target in enumerate(images, start=1):
        boxes = target["boxes"].detach().cpu().double()
        boxes[:, 2:] -= boxes[:, :2]
        scores = target["scores"].tolist() if "scores" in target else [None] * len(boxes)
        for box, label, score in zip(boxes.tolist(), target["labels"].tolist(), scores, strict=True):
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": box}
            row |= {"area": box[2] * box[3], "iscrowd": 0} if score is None else {"score": score}
            annotations.append(row)
    return annotations
