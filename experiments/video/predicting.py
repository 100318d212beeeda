"""Segmenting with a trained network: frames of a clip in order, the cell carried from frame to frame."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from experiments.predicting import Predictor, Trained
from experiments.video.evaluation import Player
from experiments.video.pictures import Palette, colour
from proxy_tasks.video.network import build_segmenter
from proxy_tasks.weights import load_weights
from search_spaces import Architecture, InputError

__all__ = ["SegmentationPredictor", "load"]

OPACITY = 0.6  # of the classes' colours over the frame


class SegmentationPredictor(Predictor):
    """A class for every pixel; a frame of another size than the one before begins a clip.

    Args:
        player: plays the network.
        classes: their names.
        palette: red, green and blue of each.
    """

    def __init__(self, player: Player, classes: list[str], palette: Palette):
        self.player, self.network, self.classes, self.palette = player, player.network, classes, palette
        self._size = (0, 0)

    def begin(self) -> None:
        """Forgets the frames before."""
        self.player.begin()

    def predict(self, image: Tensor) -> Tensor:
        """The classes of the next frame's pixels, uint8 (H, W), on the CPU."""
        if self._size != (size := (image.shape[-2], image.shape[-1])):
            self.begin()
            self._size = size
        return self.player.labels(image)

    def drawn(self, image: Tensor, found: Tensor) -> Tensor:
        """The frame under the colours of its classes."""
        colours = pil_to_tensor(colour(found, self.palette))
        mixed = (1 - OPACITY) * image.float() + OPACITY * colours.float()
        return mixed.round().to(torch.uint8)

    def rows(self, image_id: int, found: Tensor) -> list[dict[str, Any]]:
        """One entry a class that occurs: its pixels, run-length encoded as pycocotools does."""
        rows = []
        for label in found.unique().tolist():
            encoded = mask.encode(np.asfortranarray((found == label).numpy().astype(np.uint8)))
            region = {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
            rows.append({"image_id": image_id, "category_id": label + 1, "segmentation": region})
        return rows


def load(weights: Path, architecture: Architecture, job: Trained, device: torch.device) -> SegmentationPredictor:
    """The network that a full training ended with; raises `InputError` where the weights do not fit.

    Args:
        weights: the file.
        architecture: ``arch2`` or a cell.
        job: how it was trained.
        device: where it goes.
    """
    sizes = {name: job.recipe[name] for name in ("backbone", "width") if job.recipe.get(name) is not None}
    if "scale" not in job.recipe:
        raise InputError(f"{weights.parent / 'job.json'}: the recipe does not say at which scale frames are seen")
    network = build_segmenter(architecture, num_classes=len(job.classes), **sizes)
    load_weights(network, weights)
    interval = job.recipe.get("keyframe_interval", 0)
    player = Player(network.to(device), job.recipe["scale"], interval, device)
    return SegmentationPredictor(player, job.classes, job.palette)
