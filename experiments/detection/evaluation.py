"""Measuring a trained network: COCO's figures on whole images, what it finds as a results file, its cost."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from experiments.timing import median_milliseconds
from proxy_tasks.average_precision import MASK_THRESHOLD, coco_figures, run_lengths
from proxy_tasks.data import DetectionDataset

__all__ = ["Detections", "cost", "detected", "evaluate", "results", "results_file"]

Detections = dict[str, Any]
"""``boxes`` (n, 4) in the image's own pixels, ``scores`` (n,), ``labels`` (n,) from 0; best first, on the CPU. With
masks ``segmentations`` too, a list of COCO's compressed run lengths."""


@torch.inference_mode()
def detected(detector: nn.Module, image: Tensor, device: torch.device) -> Detections:
    """What the detector finds in an image (3, H, W) uint8."""
    (found,) = detector.eval()([image.to(device) / 255])
    masks = found.pop("masks", None)
    segmented = {} if masks is None else {"segmentations": run_lengths(masks[:, 0] > MASK_THRESHOLD)}
    return {name: value.cpu() for name, value in found.items()} | segmented


def evaluate(
    detector: nn.Module,
    data: DetectionDataset,
    device: torch.device,
    progress: Callable[[int, int], None],
    masks: bool = False,
) -> tuple[dict[str, float], list[Detections], list[int]]:
    """COCO's figures at the images' own size, what was found in each image, and the images' ids.

    With masks the figures are those of masks, and those of boxes are called ``box_ap`` and so on.

    Args:
        detector: trained; it resizes images as it was built to.
        data: the images it is measured on.
        device: the device that it is on.
        progress: called with the number of images done and their total.
        masks: whether it finds masks, and the data have them.
    """
    found, truth, image_ids = [], [], []
    for done, (image, target) in enumerate(data, start=1):
        found.append(detected(detector, image, device))
        truth.append({name: target[name] for name in ("boxes", "labels", "iscrowd", "difficult", "area")})
        if masks:
            truth[-1]["segmentations"] = run_lengths(target["masks"])
        image_ids.append(target["image_id"])
        progress(done, len(data))
    figures = coco_figures(found, truth, len(data.classes))
    if masks:
        figures = {f"box_{name}": value for name, value in figures.items()}
        figures = coco_figures(found, truth, len(data.classes), masks=True) | figures
    return figures, found, image_ids


def results(found: Detections, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """An image's detections as entries of COCO's results: x, y, width, height in pixels, and masks as run lengths.

    Args:
        found: the detections.
        image_id: the image's.
        category_ids: what the classes are called, in the order that the labels count.
    """
    boxes = found["boxes"].double()
    boxes[:, 2:] -= boxes[:, :2]
    columns = (boxes.tolist(), found["labels"].tolist(), found["scores"].tolist())
    rows = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for box, label, score in zip(*columns, strict=True)
    ]
    for row, segmentation in zip(rows, found.get("segmentations", ()), strict=False):
        row["segmentation"] = segmentation | {"counts": segmentation["counts"].decode("ascii")}
    return rows


def results_file(
    found: Sequence[Detections], image_ids: Sequence[int], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """The content of a results file: all detections, under the data's own ids of images and categories."""
    each = (results(one, image_id, category_ids) for one, image_id in zip(found, image_ids, strict=True))
    return list(chain.from_iterable(each))


@torch.inference_mode()
def cost(
    detector: nn.Module, macs: Callable[[Any, Tensor], int], data: DetectionDataset, device: torch.device
) -> dict[str, float]:
    """``params``; ``macs`` and ``ms`` of the first image, resized and padded: without, and with, post-processing.

    Args:
        detector: the network.
        macs: counts it on an image (1, 3, H, W).
        data: has the image.
        device: where the network is.
    """
    network: Any = detector.eval()
    image = data[0][0].to(device) / 255
    resized, _ = network.transform([image])
    return {
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "macs": macs(network, resized.tensors),
        "ms": median_milliseconds(lambda: network([image]), device, repeats=20, warmup=3),
    }
