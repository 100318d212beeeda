"""Detecting with a trained detector."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.fcos.evaluation import Detections, detected, results
from experiments.fcos.pictures import drawn
from experiments.predicting import Predictor, Trained
from proxy_tasks.fcos.detector import Detector, build_detector
from proxy_tasks.weights import load_weights
from search_spaces import Architecture

__all__ = ["DetectorPredictor", "load"]


class DetectorPredictor(Predictor):
    """Boxes with classes and scores, of each image by itself."""

    def __init__(self, network: Detector, classes: list[str], device: torch.device):
        self.network: Detector = network.eval().to(device)
        self.classes, self.device = classes, device

    def predict(self, image: Tensor) -> Detections:
        """``boxes`` (n, 4) in the image's pixels, ``scores`` (n,), ``labels`` (n,) from 0, best first, on the CPU."""
        return detected(self.network, image, self.device)

    def drawn(self, image: Tensor, found: Detections) -> Tensor:
        """The image with boxes, classes and scores."""
        return drawn(image, found, self.classes)

    def rows(self, image_id: int, found: Detections) -> list[dict[str, Any]]:
        """One entry a box: x, y, width, height in pixels."""
        return results(found, image_id, range(1, len(self.classes) + 1))


def load(weights: Path, architecture: Architecture, job: Trained, device: torch.device) -> DetectorPredictor:
    """The detector that a full training ended with; raises `InputError` where the weights do not fit.

    Args:
        weights: the file.
        architecture: what was trained.
        job: how it was trained.
        device: where it goes.
    """
    sizes = {name: job.recipe[name] for name in ("backbone", "width", "min_size", "max_size", "centerness_on")}
    detector = build_detector(architecture, backbone_weights="none", num_classes=len(job.classes), **sizes)
    load_weights(detector, weights)
    return DetectorPredictor(detector, job.classes, device)
