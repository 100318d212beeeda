"""Training batches of images with boxes and, if asked for, masks: decoded, mirrored, each a function of its step."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from experiments.detection.recipe import ImageRecipe
from experiments.loading import loaded, places
from proxy_tasks import ranks
from proxy_tasks.crops import mirrored_boxes
from proxy_tasks.data import DetectionDataset

__all__ = ["Batch", "batches"]

Batch = tuple[int, list[Tensor], list[dict[str, Tensor]]]
"""The short side to resize to, the images as torchvision's detectors take them, and their targets."""


class _Steps(Dataset[Batch]):
    """Item number n is the batch of step n."""

    def __init__(self, data: DetectionDataset, recipe: ImageRecipe, seed: int, rows: slice):
        self.data, self.recipe, self.seed, self.rows = data, recipe, seed, rows

    def __getitem__(self, step: int) -> Batch:
        recipe, rng = self.recipe, np.random.default_rng([self.seed, 1, step])
        side = int(rng.integers(recipe.min_size_least, recipe.min_size + 1))
        chosen = places(step, recipe.batch_size, len(self.data), self.seed)
        drawn = list(zip(chosen, rng.random(len(chosen)) < recipe.flip, strict=True))
        items = [self._item(place, bool(mirrored)) for place, mirrored in drawn[self.rows]]
        return side, [image for image, _ in items], [target for _, target in items]

    def _item(self, place: int, mirrored: bool) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = self.data[place]
        learned = {name: target[name] for name in self.recipe.learned}
        if mirrored:
            image, learned["boxes"] = image.flip(-1), mirrored_boxes(learned["boxes"], image.shape[-1])
            if "masks" in learned:
                learned["masks"] = learned["masks"].flip(-1)
        return image, learned


def batches(data: DetectionDataset, recipe: ImageRecipe, seed: int, steps: range, loaders: int) -> Iterator[Batch]:
    """This process's rows of the batches of these steps, decoded by so many ``loaders`` (0: in this one)."""
    return loaded(_Steps(data, recipe, seed, ranks.rows()), steps, loaders)
