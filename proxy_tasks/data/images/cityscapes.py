"""Cityscapes as instances: road users in street scenes (Cordts et al., The Cityscapes Dataset, CVPR 2016)."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from proxy_tasks.data.decoding import decode, in_threads, read_header
from proxy_tasks.data.images.files import Annotation, FileDataset, ObjectAnnotation
from proxy_tasks.data.images.masks import MaskAnnotation
from search_spaces import InputError

__all__ = ["CityscapesInstances"]

IMAGE, INSTANCES = "_leftImg8bit.png", "_gtFine_instanceIds.png"
# fmt: off
THINGS = {  # the label ids whose instances are told apart, in the order of the training ids
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}
# fmt: on
LAST_ID = 33
PER_CLASS = 1000  # an instance's value is 1000 times its label id, and its number; smaller values are label ids


class CityscapesInstances(FileDataset):
    """A folder with ``leftImg8bit/`` and ``gtFine/``; in each ``train/CITY`` and ``val/CITY``.

    Objects are read from ``gtFine/*_gtFine_instanceIds.png``, boxes and masks alike: each value from 24000 on is one
    object. Pixels with the label id of such a class alone are a group that nobody told apart: a crowd. The labels of
    the test set are not public: ``"test"`` reads ``val`` as the papers do.
    """

    layout = "Cityscapes"
    looks_for = "leftImg8bit/ and gtFine/"
    crowds = has_masks = True

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """Whether ``root`` holds images and labels."""
        return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()

    def read(self, root: Path, subset: str) -> tuple[Sequence[str], Iterator[Annotation]]:
        """See `FileDataset.read`."""
        part = "val" if subset == "test" else subset
        images = sorted((root / "leftImg8bit" / part).glob(f"[!.]*/[!.]*{IMAGE}"))
        files = [root / "gtFine" / part / one.parent.name / one.name.replace(IMAGE, INSTANCES) for one in images]
        found = in_threads(_objects, files)
        return tuple(THINGS.values()), (
            Annotation(image, number, size, objects, str(file))
            for number, (image, file, (size, objects)) in enumerate(zip(images, files, found, strict=True))
        )

    def decode_masks(self, masks: Sequence[MaskAnnotation], size: tuple[int, int]) -> np.ndarray:
        """As for any dataset; the file, which all masks of an image share, is decoded once."""
        if not masks:
            return super().decode_masks(masks, size)
        first = masks[0]
        assert isinstance(first, _InstanceMask)
        pixels = _pixels(first.file.path, size)
        return np.stack([pixels == mask.value for mask in masks if isinstance(mask, _InstanceMask)]).astype(np.uint8)


@dataclass(frozen=True)
class _InstanceFile:
    """A file of instances, as it was when the dataset was opened."""

    path: Path
    checksum: int


@dataclass(frozen=True)
class _InstanceMask:
    """A `MaskAnnotation`: the pixels of one value in a file of instances."""

    file: _InstanceFile
    value: int

    def fault(self, size: tuple[int, int]) -> str:
        return ""  # the box around it was found in the file itself

    def decode(self, size: tuple[int, int]) -> np.ndarray:
        return (_pixels(self.file.path, size) == self.value).astype(np.uint8)

    def content(self) -> bytes:
        return f"{self.value}:{self.file.checksum}".encode()


def _pixels(path: Path, size: tuple[int, int]) -> np.ndarray:
    return decode(path, size, f"the file of instances {path}", mode=None)


def _objects(path: Path) -> tuple[tuple[int, int], list[ObjectAnnotation]]:
    """The size of a file of instances, width and height, and its objects in the order of their values."""
    size, _, _ = read_header(path, f"the file of instances {path}")
    pixels = _pixels(path, size)
    if pixels.ndim != 2:
        raise InputError(f"the file of instances {path} must have one whole number a pixel, it has colours")
    values, places = np.unique(pixels, return_inverse=True)
    file, objects = _InstanceFile(path, zlib.crc32(np.ascontiguousarray(pixels).data)), []
    # numbered from 1, since 0 is nothing to scipy
    windows = ndimage.find_objects((places + 1).reshape(pixels.shape))
    for value, (rows, columns) in zip(values.tolist(), windows, strict=True):
        label_id = value // PER_CLASS if value >= PER_CLASS else value
        if not 0 <= label_id <= LAST_ID and value not in (-1, 255, 65535):  # how the id -1 is stored
            raise InputError(
                f"the file of instances {path} has the value {value}; a value is a label id up to {LAST_ID}, or "
                f"{PER_CLASS} times that and the number of an instance"
            )
        if label_id in THINGS:
            box = (columns.start, rows.start, columns.stop, rows.stop)
            place, crowd = f"{path}: value {value}", value < PER_CLASS
            area = int((pixels[rows, columns] == value).sum())
            mask = _InstanceMask(file, value)
            objects.append(ObjectAnnotation(box, list(THINGS).index(label_id), crowd, place, area, mask))
    return size, objects
