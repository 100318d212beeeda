"""Training batches of frames or sequences: decoded, scaled, cropped, padded and flipped, each a function of its step.

Notation: B items of T frames; a batch is uint8 images (B, T, 3, H, W) and uint8 labels (B, T, H, W), VOID where there
is nothing to learn.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from experiments.loading import loaded, places
from experiments.video.recipe import Recipe
from proxy_tasks import ranks
from proxy_tasks.data.video.base import VOID, VideoDataset
from proxy_tasks.images import PADDING
from proxy_tasks.video.frames import shrunk

__all__ = ["Batch", "augmented", "batches"]

Batch = tuple[Tensor, Tensor]


def augmented(images: Tensor, labels: Tensor, recipe: Recipe, rng: np.random.Generator) -> Batch:
    """One scale, one crop and one flip for all frames of a sequence.

    Args:
        images: the sequence's frames, (T, 3, H, W) uint8.
        labels: their labels, (T, H, W) uint8.
        recipe: the range of the scale, the size of the crop, and the share that is mirrored.
        rng: draws the scale, the crop's place, and whether to mirror.

    Returns:
        (T, 3, crop_height, crop_width) and (T, crop_height, crop_width).
    """
    factor = recipe.scale * rng.uniform(recipe.scale_min, recipe.scale_max)
    size = [max(1, round(side * factor)) for side in images.shape[-2:]]
    images = F.resize(images, size, antialias=True)
    labels = shrunk(labels, (size[0], size[1]))
    crop = (recipe.crop_height, recipe.crop_width)
    top, left = (int(rng.integers(max(0, side - want) + 1)) for side, want in zip(size, crop, strict=True))
    images, labels = (x[..., top : top + crop[0], left : left + crop[1]] for x in (images, labels))
    if rng.random() < recipe.flip:
        images, labels = images.flip(-1), labels.flip(-1)
    padded = torch.tensor(PADDING, dtype=torch.uint8).view(3, 1, 1).repeat(len(images), 1, *crop)
    void = torch.full((len(labels), *crop), VOID, dtype=torch.uint8)
    lacks = [want - have for want, have in zip(crop, labels.shape[-2:], strict=True)]
    y, x = (int(rng.integers(lack + 1)) for lack in lacks)  # the padding's place is drawn too
    window = (..., slice(y, y + labels.shape[-2]), slice(x, x + labels.shape[-1]))
    padded[window], void[window] = images, labels
    return padded, void


class _Steps(Dataset[Batch]):
    """Item number n is the batch of step n."""

    def __init__(self, data: VideoDataset, sequences: np.ndarray, recipe: Recipe, seed: int, rows: slice):
        self.data, self.sequences, self.recipe, self.seed, self.rows = data, sequences, recipe, seed, rows

    def __getitem__(self, step: int) -> Batch:
        size, count = self.recipe.batch_size, len(self.sequences)
        chosen = list(enumerate(places(step, size, count, self.seed)))[self.rows]
        items = [self._item(step, row, place) for row, place in chosen]
        return torch.stack([images for images, _ in items]), torch.stack([labels for _, labels in items])

    def _item(self, step: int, row: int, place: int) -> Batch:
        """One sequence; what is drawn for it hangs on no other's, which another process may have."""
        rng = np.random.default_rng([self.seed, 1, step, row])
        return augmented(*self._decoded(self.sequences[place]), self.recipe, rng)

    def _decoded(self, sequence: np.ndarray) -> Batch:
        images = [self.data.image(int(i)) for i in sequence]
        labels = [
            self.data.labels(int(i))
            if self.data.annotated[i]
            else torch.full(image.shape[-2:], VOID, dtype=torch.uint8)
            for i, image in zip(sequence, images, strict=True)
        ]
        return torch.stack(images), torch.stack(labels)


def batches(
    data: VideoDataset, sequences: np.ndarray, recipe: Recipe, seed: int, steps: range, loaders: int
) -> Iterator[Batch]:
    """This process's rows of the batches of these steps, decoded by so many ``loaders`` (0: in this one)."""
    return loaded(_Steps(data, sequences, recipe, seed, ranks.rows()), steps, loaders)
