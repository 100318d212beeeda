"""Some images of a detection dataset as a dataset of their own."""

import hashlib
import json
from collections.abc import Iterable

import numpy as np
from torch import Tensor

from proxy_tasks.data.images.base import DetectionDataset, Target
from search_spaces import InputError

__all__ = ["Part", "held_apart", "meta_split"]

HELD_OUT = 0.1
META_TRAIN_SHARE = 4000 / 5715  # NAS-FCOS, thesis 7.4.1


def held_apart(whole: DetectionDataset, seed: int) -> tuple["Part", "Part"]:
    """Nine tenths of the images and the last tenth, drawn by the seed.

    Raises:
        InputError: too few images to have both.
    """
    if len(whole) < 2:
        raise InputError(f"{whole.root}: a tenth held out needs at least 2 images, the train set has {len(whole)}")
    order = np.random.default_rng(seed).permutation(len(whole))
    cut = min(round(len(whole) * (1 - HELD_OUT)), len(whole) - 1)
    return Part(whole, order[:cut]), Part(whole, order[cut:])


def meta_split(dataset: DetectionDataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of meta-train and meta-val, 4000 : 1715, drawn by the seed.

    Raises:
        InputError: too few images to have both.
    """
    images = len(dataset)
    if images < 2:
        raise InputError(f"{dataset.root}: meta-train and meta-val need at least 2 images, the train set has {images}")
    order = np.random.default_rng(seed).permutation(images)
    cut = min(max(1, round(images * META_TRAIN_SHARE)), images - 1)
    return np.sort(order[:cut]), np.sort(order[cut:])


class Part(DetectionDataset):
    """Some images of ``whole``, numbered anew from 0 in the order in which they were.

    Args:
        whole: the dataset that the images are of.
        images: the numbers of the images in ``whole``, in any order.
    """

    def __init__(self, whole: DetectionDataset, images: Iterable[int]):
        self._whole = whole
        self.numbers = np.array(sorted(images), np.int64)
        """For each image of this part, its number in the whole."""
        self.layout, self.root, self.classes = whole.layout, whole.root, whole.classes
        content = json.dumps([whole.fingerprint, self.numbers.tolist()])
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

    @property
    def category_ids(self) -> tuple[int, ...]:
        """See `DetectionDataset.category_ids`."""
        return self._whole.category_ids

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """See `DetectionDataset.__getitem__`."""
        return self._whole[int(self.numbers[index])]

    def describe(self) -> str:
        """See `DetectionDataset.describe`; the boxes are the whole's."""
        return f"{len(self)} images of: {self._whole.describe()}"
