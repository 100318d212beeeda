"""Fixed crops: every image once resized and cropped, by the seed, and kept with its boxes.

The proxy task never augments, so that features can be cached (thesis 7.4.1: short side 384, crops of 384 x 384).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes

from proxy_tasks.cache import ArrayWriter, cache_key, open_cache
from proxy_tasks.data import DetectionDataset

__all__ = ["Crops", "crop_image"]

MINIMUM_SIDE = 2.0  # pixels; what is left of a box after cropping must be this wide and high to count


def crop_image(
    image: Tensor, target: dict[str, Any], crop: int, rng: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Resizes the short side to ``crop`` and takes a crop of ``crop`` x ``crop`` pixels, placed by ``rng``.

    Args:
        image: (3, H, W) uint8.
        target: ``boxes`` (n, 4) float32 (x0, y0, x1, y1) pixels and ``labels`` (n,) int64.
        crop: pixels.
        rng: draws the place.

    Returns:
        (3, crop, crop) uint8 and the target with the boxes that are still seen, clipped.
    """
    height, width = image.shape[-2:]
    scale = crop / min(height, width)
    size = [max(crop, round(height * scale)), max(crop, round(width * scale))]
    top, left = int(rng.integers(size[0] - crop + 1)), int(rng.integers(size[1] - crop + 1))
    boxes = BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(height, width))
    image = F.crop(F.resize(image, size, antialias=True), top, left, crop, crop)
    boxes = F.clamp_bounding_boxes(F.crop(F.resize(boxes, size), top, left, crop, crop)).as_subclass(Tensor)
    seen = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= MINIMUM_SIDE if len(boxes) else torch.zeros(0, dtype=torch.bool)
    return image, {"boxes": boxes[seen].float(), "labels": target["labels"][seen]}


class Crops:
    """The crops of a dataset, memory-mapped.

    Args:
        dataset: what is cropped.
        crop: pixels.
        seed: draws the crops' places.
        root: the cache directory.
        progress: called with the number of images done and their total.
    """

    def __init__(
        self, dataset: DetectionDataset, crop: int, seed: int, root: Path, progress: Callable[[int, int], None]
    ):
        self.classes, self.crop = dataset.classes, crop
        self.key = cache_key(data=dataset.fingerprint, crop=crop, seed=seed)
        self._cache = open_cache(root, "crops", self.key, lambda place: _write(dataset, crop, seed, place, progress))

    def __len__(self) -> int:
        return len(self._cache["images"])

    def images(self, indices: np.ndarray) -> Tensor:
        """(B, 3, crop, crop) uint8, channels last in memory."""
        return torch.from_numpy(self._cache["images"][indices]).permute(0, 3, 1, 2)

    def target(self, index: int) -> dict[str, Tensor]:
        """``boxes`` (n, 4) float32 pixels of the crop and ``labels`` (n,) int64."""
        rows = slice(*self._cache["offsets"][index : index + 2])
        boxes, labels = self._cache["boxes"][rows], self._cache["labels"][rows]
        return {"boxes": torch.from_numpy(boxes.copy()), "labels": torch.from_numpy(labels.copy())}


def _write(
    dataset: DetectionDataset, crop: int, seed: int, place: Path, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    boxes, labels, offsets = [], [], [0]
    with ArrayWriter(place, "images", (len(dataset), crop, crop, 3), "uint8") as images:
        for index in range(len(dataset)):
            image, target = crop_image(*dataset[index], crop, np.random.default_rng([seed, index]))
            images.append(image.permute(1, 2, 0).numpy()[None])
            boxes.append(target["boxes"].numpy())
            labels.append(target["labels"].numpy())
            offsets.append(offsets[-1] + len(labels[-1]))
            progress(index + 1, len(dataset))
    whole = {"boxes": np.concatenate(boxes), "labels": np.concatenate(labels), "offsets": np.array(offsets)}
    for name, dtype in (("boxes", "float32"), ("labels", "int64"), ("offsets", "int64")):
        with ArrayWriter(place, name, whole[name].shape, dtype) as writer:
            writer.append(whole[name])
    return {"data": dataset.describe(), "classes": list(dataset.classes)}
