"""The datasets' contract: what a detection dataset is, wherever its images come from.

Notation: n objects in an image of H x W pixels. Boxes are ``(x1, y1, x2, y2)`` in pixels, half-open: the box of the one
pixel in the top left corner is ``(0, 0, 1, 1)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from proxy_tasks.data.decoding import in_threads
from search_spaces import InputError

__all__ = ["SUBSETS", "DetectionDataset", "Target", "check_subset"]

SUBSETS = ("train", "test")
Target = dict[str, Any]
"""torchvision's target of one image, see `DetectionDataset.__getitem__`."""


def check_subset(subset: str) -> str:
    """``subset`` itself; raises `InputError` where it is none of `SUBSETS`."""
    if subset not in SUBSETS:
        raise InputError(f"a dataset has the subsets {' and '.join(SUBSETS)}, got {subset!r}")
    return subset


class DetectionDataset(Dataset[tuple[Tensor, Target]], ABC):
    """Images with boxes, opened and checked: what can be wrong with the annotations was found when it was opened.

    Attributes:
        layout: how the data lies on disk, in words: ``"Pascal VOC"``.
        root: the folder, as given.
        classes: the names that the labels count, the same for both subsets.
        fingerprint: hex digest of what the data is: images (name, size in bytes and pixels), classes, boxes, labels. It
            does not depend on where the folder lies.
    """

    layout: str
    root: str
    classes: tuple[str, ...]
    fingerprint: str

    @property
    def category_ids(self) -> tuple[int, ...]:
        """What results files call each class, in the order of `classes`; 1 and on where the data do not say."""
        return tuple(range(1, len(self.classes) + 1))

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Image and target number ``index``.

        Returns:
            the image, uint8 (3, H, W), RGB; and the target: ``boxes`` float32 (n, 4), ``labels`` int64 (n,) from 0,
            ``iscrowd`` int64 (n,), 1 for an object that training and evaluation ignore: it is neither to be found nor
            a false alarm when found; ``difficult`` int64 (n,), 1 where such an object is a single one (VOC), 0 where it
            is a crowd (COCO); ``area`` float32 (n,), pixels, by which evaluation tells small objects from large ones;
            ``image_id`` int, unique in the dataset; opened with masks it adds ``masks`` uint8 (n, H, W).
            An image may have no object.

        Raises:
            InputError: the image cannot be decoded.
        """

    @abstractmethod
    def describe(self) -> str:
        """One line: ``Pascal VOC, 364 images, 3 classes, 4888 boxes``."""

    def __iter__(self) -> Iterator[tuple[Tensor, Target]]:
        """Every image and target, in order."""
        return (self[index] for index in range(len(self)))

    def verify(self) -> None:
        """Decodes every image once, in threads; raises `InputError` at the first that cannot be decoded."""

        def decode(index: int) -> None:
            self[index]

        in_threads(decode, range(len(self)))
