"""Measuring a trained detector: COCO's figures on whole images, its detections as a results file, its cost."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from experiments.timing import median_milliseconds
from proxy_tasks.average_precision import coco_figures
from proxy_tasks.data import DetectionDataset
from proxy_tasks.fcos.detector import Detector
from search_spaces.parts.complexity import count

__all__ = ["Detections", "cost", "detected", "evaluate", "results", "results_file"]

Detections = dict[str, Tensor]
"""``boxes`` (n, 4) in the image's own pixels, ``scores`` (n,), ``labels`` (n,) from 0; best first, on the CPU."""


@torch.inference_mode()
def detected(detector: Detector, image: Tensor, device: torch.device) -> Detections:
    """What the detector finds in an image (3, H, W) uint8."""
    (found,) = detector.eval()([image.to(device) / 255])
    return {name: value.cpu() for name, value in found.items()}


def evaluate(
    detector: Detector, data: DetectionDataset, device: torch.device, progress: Callable[[int, int], None]
) -> tuple[dict[str, float], list[Detections], list[int]]:
    """COCO's figures at the images' own size, what was found in each image, and the images' ids.

    Args:
        detector: trained; it resizes images as it was built to.
        data: the images it is measured on.
        device: the device that it is on.
        progress: called with the number of images done and their total.
    """
    found, truth, image_ids = [], [], []
    for done, (image, target) in enumerate(data, start=1):
        found.append(detected(detector, image, device))
        truth.append({name: target[name] for name in ("boxes", "labels", "iscrowd", "difficult", "area")})
        image_ids.append(target["image_id"])
        progress(done, len(data))
    return coco_figures(found, truth, len(data.classes)), found, image_ids


def results(found: Detections, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """An image's detections as entries of COCO's results: x, y, width, height in pixels.

    Args:
        found: the detections.
        image_id: the image's.
        category_ids: what the classes are called, in the order that the labels count.
    """
    boxes = found["boxes"].double()
    boxes[:, 2:] -= boxes[:, :2]
    columns = (boxes.tolist(), found["labels"].tolist(), found["scores"].tolist())
    return [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for box, label, score in zip(*columns, strict=True)
    ]


def results_file(
    found: Sequence[Detections], image_ids: Sequence[int], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """The content of a results file: all detections, under the data's own ids of images and categories."""
    each = (results(one, image_id, category_ids) for one, image_id in zip(found, image_ids, strict=True))
    return list(chain.from_iterable(each))


class _Network(nn.Module):
    """Backbone, FPN and head of a detector, without resizing and post-processing."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to the head's outputs."""
        outputs: dict[str, Tensor] = self.head(list(self.backbone(images).values()))
        return outputs


@torch.inference_mode()
def cost(detector: Detector, data: DetectionDataset, device: torch.device) -> dict[str, float]:
    """``params``; ``macs`` and ``ms`` of the first image, resized and padded: without, and with, post-processing."""
    detector.eval()
    image = data[0][0].to(device) / 255
    resized, _ = detector.transform([image])
    return {
        "params": sum(parameter.numel() for parameter in detector.parameters()),
        "macs": count(_Network(detector), resized.tensors).macs,
        "ms": median_milliseconds(lambda: detector([image]), device, repeats=20, warmup=3),
    }
