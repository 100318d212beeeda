"""Finding objects with a trained network."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.detection.evaluation import Detections, detected, results
from experiments.detection.jobs import Networks
from experiments.detection.pictures import drawn
from experiments.detection.recipe import ImageRecipe
from experiments.predicting import Predictor, Trained
from proxy_tasks.weights import load_weights
from search_spaces import Architecture

__all__ = ["DetectorPredictor", "load_predictor"]


class DetectorPredictor(Predictor):
    """Boxes with classes and scores, and masks where the network gives them, of each image by itself."""

    def __init__(self, network: nn.Module, classes: list[str], device: torch.device):
        self.network = network.eval().to(device)
        self.classes, self.device = classes, device

    def predict(self, image: Tensor) -> Detections:
        """See `Detections`."""
        return detected(self.network, image, self.device)

    def drawn(self, image: Tensor, found: Detections) -> Tensor:
        """The image with boxes, classes and scores, and masks."""
        return drawn(image, found, self.classes)

    def rows(self, image_id: int, found: Detections) -> list[dict[str, Any]]:
        """One entry a box: x, y, width, height in pixels; with masks their run lengths too."""
        return results(found, image_id, range(1, len(self.classes) + 1))


def load_predictor(
    networks: Networks,
    settings: type[ImageRecipe],
    weights: Path,
    architecture: Architecture,
    job: Trained,
    device: torch.device,
) -> DetectorPredictor:
    """The network that a full training ended with; raises `InputError` where the weights do not fit.

    Args:
        networks: the family's.
        settings: the class of the recipe that it was trained by.
        weights: the file.
        architecture: what was trained.
        job: how it was trained.
        device: where it goes.
    """
    known = {item.name for item in fields(settings)}
    recipe = settings(**{name: value for name, value in job.recipe.items() if name in known})
    network = networks.build(architecture, recipe, "none", len(job.classes))
    load_weights(network, weights)
    return DetectorPredictor(network, job.classes, device)
