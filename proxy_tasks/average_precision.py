"""COCO average precision, by pycocotools."""

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import area, encode
from torch import Tensor

__all__ = ["FIGURES", "MASK_THRESHOLD", "coco_ap", "coco_figures", "run_lengths"]

FIGURES = ("ap", "ap50", "ap75", "aps", "apm", "apl")
"""AP over IoU 0.50:0.95, at 0.50, at 0.75; and that of small, medium and large objects."""


MASK_THRESHOLD = 0.5
"""Of the probability that a pixel is an object's, torchvision's."""


def coco_ap(found: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], num_classes: int) -> dict[str, float]:
    """The first three of `coco_figures`."""
    figures = coco_figures(found, truth, num_classes)
    return {name: figures[name] for name in FIGURES[:3]}


def coco_figures(
    found: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], num_classes: int, masks: bool = False
) -> dict[str, float]:
    """COCO's figures by the names in `FIGURES`, each in [0, 1]; NaN where there is no object to be found.

    Args:
        found: for each image ``boxes`` (n, 4) (x0, y0, x1, y1) pixels, ``scores`` (n,), ``labels`` (n,).
        truth: for each image ``boxes`` (m, 4), ``labels``, ``iscrowd`` and ``difficult`` (m,). What has ``iscrowd`` set
            need not be found, and detections that match it and no other box are no false alarms, however many: they
            match by IoU where ``difficult`` is set, else by the share of the detection that lies in the crowd. Where
            there is ``area`` (m,), it says what is small, medium or large, else the area of the box does.
        num_classes: labels count from 0 to one less.
        masks: compare ``segmentations``, each image's list of `run_lengths`, in place of boxes.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        ground_truth = COCO()
        ground_truth.dataset = {
            "info": {},
            "images": [_image(number, *both) for number, both in enumerate(zip(truth, found, strict=True), start=1)],
            "categories": [{"id": label} for label in range(num_classes)],
            "annotations": _annotations(truth, masks),
        }
        ground_truth.createIndex()
        results = _annotations(found, masks)
        if all(annotation["iscrowd"] for annotation in ground_truth.dataset["annotations"]):
            return dict.fromkeys(FIGURES, float("nan"))
        if not results:
            return dict.fromkeys(FIGURES, 0.0)
        evaluation = _Evaluation(ground_truth, ground_truth.loadRes(results), "segm" if masks else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = zip(FIGURES, evaluation.stats[: len(FIGURES)], strict=True)
    return {name: float(value) if value >= 0 else math.nan for name, value in stats}  # -1 says: none of them


class _Evaluation(COCOeval):
    """To pycocotools whatever is ignored is a crowd; of a difficult object only the overlap is not that of a crowd."""

    def computeIoU(self, imgId: int, catId: int) -> Any:
        difficult = [truth for truth in self._gts[imgId, catId] if truth["difficult"]]
        for truth in difficult:
            truth["iscrowd"] = 0
        overlaps = super().computeIoU(imgId, catId)
        for truth in difficult:
            truth["iscrowd"] = 1
        return overlaps


def _image(number: int, target: dict[str, Any], found: dict[str, Any]) -> dict[str, int]:
    """COCO's entry of an image, with its size where there are masks: pycocotools asks for it."""
    masks = [*target.get("segmentations", ()), *found.get("segmentations", ())]
    return {"id": number, **(dict(zip(("height", "width"), masks[0]["size"], strict=True)) if masks else {})}


def _annotations(images: Sequence[dict[str, Any]], masks: bool) -> list[dict]:
    """COCO's annotations; pycocotools needs ids that count from 1.

    With masks they have no box (x, y, width, height): pycocotools would take a detection's size from it.
    """
    annotations: list[dict] = []
    for image, target in enumerate(images, start=1):
        boxes = target["boxes"].detach().cpu().double()
        boxes[:, 2:] -= boxes[:, :2]
        named = {"score": "scores", "iscrowd": "iscrowd", "difficult": "difficult", "area": "area"}
        columns = {key: target[name].tolist() for key, name in named.items() if name in target}
        shapes = (
            [{"segmentation": one, "area": float(area(one))} for one in target["segmentations"]]
            if masks
            else [{"bbox": box, "area": box[2] * box[3]} for box in boxes.tolist()]
        )
        for shape, label, *values in zip(shapes, target["labels"].tolist(), *columns.values(), strict=True):
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": label}
            annotations.append(row | shape | dict(zip(columns, values, strict=True)))
    return annotations


def run_lengths(masks: Tensor) -> list[dict[str, Any]]:
    """Masks, bool or uint8 (n, H, W), as COCO's compressed run lengths."""
    return [encode(np.asfortranarray(mask)) for mask in masks.detach().cpu().numpy().astype(np.uint8)]
