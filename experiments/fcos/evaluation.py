"""Measuring a trained detector: COCO's figures on whole images, its detections as a results file, its cost."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.timing import median_milliseconds
from proxy_tasks.data import DetectionDataset
from proxy_tasks.fcos.average_precision import coco_figures
from proxy_tasks.fcos.detector import Detector
from search_spaces.parts.complexity import count

__all__ = ["Detections", "cost", "detected", "evaluate", "results_file"]

Detections = dict[str, Tensor]
"""``boxes`` (n, 4) in the image's own pixels, ``scores`` (n,), ``labels`` (n,) from 0; best first, on the CPU."""


@torch.inference_mode()
def detected(detector: Detector, image: Tensor, device: torch.device) -> Detections:
    """What the detector finds in an image (3, H, W) uint8."""
    (found,) = detector.eval()([image.to(device) / 255])
    return {name: value.cpu() for name, value in found.items()}


def evaluate(
    detector: Detector, data: DetectionDataset, device: torch.device, progress: Callable[[int, int], None]
) -> tuple[dict[str, float], list[Detections]]:
    """COCO's figures at the images' own size, and what was found in each image.

    Args:
        detector: trained; it resizes images as it was built to.
        data: the images it is measured on.
        device: the device that it is on.
        progress: called with the number of images done and their total.
    """
    found, truth = [], []
    for done, (image, target) in enumerate(data, start=1):
        found.append(detected(detector, image, device))
        truth.append({name: target[name] for name in ("boxes", "labels", "iscrowd", "difficult", "area")})
        progress(done, len(data))
    return coco_figures(found, truth, len(data.classes)), found


def results_file(found: Sequence[Detections], data: DetectionDataset) -> list[dict[str, Any]]:
    """Detections in the format of COCO's results: the data's own ids of images and categories; x, y, width, height."""
    rows = []
    for detections, (_, target) in zip(found, data, strict=True):
        boxes = detections["boxes"].double()
        boxes[:, 2:] -= boxes[:, :2]
        columns = (boxes.tolist(), detections["labels"].tolist(), detections["scores"].tolist())
        rows += [
            {"image_id": target["image_id"], "category_id": data.category_ids[label], "bbox": box, "score": score}
            for box, label, score in zip(*columns, strict=True)
        ]
    return rows


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
