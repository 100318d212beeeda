"""What every dataset on disk shares: image headers, the check of boxes, decoding, the fingerprint.

A reader of a layout only parses: it yields one `Annotation` an image, and `FileDataset` checks them.
"""

import hashlib
import json
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from proxy_tasks.data.decoding import MODES, decode_image, read_header
from proxy_tasks.data.images.base import DetectionDataset, Target, check_subset
from proxy_tasks.data.images.masks import MaskAnnotation
from search_spaces import InputError

__all__ = ["Annotation", "FileDataset", "ObjectAnnotation"]

TOLERANCE = 1.0  # pixels over the border: annotation tools count from 0 or from 1


@dataclass(frozen=True, slots=True)
class ObjectAnnotation:
    """One object as a reader found it.

    Args:
        box: x1, y1, x2, y2 in pixels, half-open, unchecked.
        label: position in the dataset's classes.
        ignore: evaluation must ignore it (crowd, difficult), and so must training.
        place: file, number and the box as it is written there; messages begin with it.
        area: pixels, of the object's outline where the layout knows it; None is that of its box.
        mask: unchecked, of a dataset that was opened with masks.
    """

    box: tuple[float, float, float, float]
    label: int
    ignore: bool
    place: str
    area: float | None = None
    mask: MaskAnnotation | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One image as a reader found it.

    Args:
        image: the image file.
        image_id: unique in the dataset.
        size: annotated width and height in pixels, None where the annotation does not say.
        objects: in file order.
        place: file and key, for messages.
    """

    image: Path
    image_id: int
    size: tuple[float, float] | None
    objects: Sequence[ObjectAnnotation]
    place: str


@dataclass(frozen=True, slots=True)
class _Record:
    path: Path
    image_id: int
    size: tuple[int, int]  # width, height
    file_bytes: int
    boxes: np.ndarray  # float32 (n, 4)
    labels: np.ndarray  # int64 (n,)
    ignore: np.ndarray  # int64 (n,)
    area: np.ndarray  # float32 (n,), pixels
    masks: Sequence[MaskAnnotation]  # n of them where masks were asked for


class FileDataset(DetectionDataset):
    """A dataset on disk; a layout of its own is a subclass with `layout`, `looks_for`, `recognise` and `read`.

    Args:
        root: the folder.
        subset: ``"train"`` or ``"test"``.
        skip_bad_boxes: drop boxes outside their image or of no area, with one warning, instead of refusing the data. A
            box that reaches over the border by no more than one pixel is clipped and is never bad. Objects with a bad
            mask are dropped likewise.
        masks: read masks too: they are checked now and decoded with each image. Without it nothing is read of them.

    Raises:
        InputError: anything wrong with the annotations or the images' headers, with the file and the place in it.
    """

    looks_for: str
    """The files by which the layout is recognised, in words, for messages."""
    crowds = False
    """Whether an object to be ignored is a region of many (COCO's crowds), not a single one (VOC's difficult)."""
    has_masks = False
    """Whether `read` gives every object its mask where `masks` is set."""

    def __init__(self, root: str | Path, subset: str = "train", skip_bad_boxes: bool = False, masks: bool = False):
        self.root, self.subset, self.masks = str(root), check_subset(subset), masks
        if masks and not self.has_masks:
            raise InputError(f"{root}: masks are not read from the layout {self.layout}; COCO and Cityscapes have them")
        classes, annotations = self.read(Path(root), subset)
        self.classes = tuple(classes)
        bad: list[str] = []
        self._records = [_check(annotation, skip_bad_boxes, bad) for annotation in annotations]
        if not self._records:
            raise InputError(f"{root}: its {subset} set has no images; a dataset needs at least one")
        if not self.box_count:
            raise InputError(f"{root}: its {subset} set has {len(self)} images and not one box; it needs at least one")
        if bad:
            what = "boxes or masks" if masks else "boxes"
            warnings.warn(f"{root}: dropped {len(bad)} bad {what}; the first: {bad[0]}", stacklevel=2)
        self.fingerprint = self._digest()

    @classmethod
    @abstractmethod
    def recognise(cls, root: Path) -> bool:
        """Whether the folder ``root`` has this layout."""

    @abstractmethod
    def read(self, root: Path, subset: str) -> tuple[Sequence[str], Iterable[Annotation]]:
        """The classes and the subset's annotations; raises `InputError` where a file breaks the layout's rules."""

    @property
    def box_count(self) -> int:
        """The number of boxes in all images, without those that are ignored."""
        return sum(int((record.ignore == 0).sum()) for record in self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        record = self._records[index]
        target = {
            "boxes": torch.tensor(record.boxes),
            "labels": torch.tensor(record.labels),
            "iscrowd": torch.tensor(record.ignore),
            "difficult": torch.tensor(record.ignore * (not self.crowds)),
            "area": torch.tensor(record.area),
            "image_id": record.image_id,
        }
        if self.masks:
            target["masks"] = torch.from_numpy(self.decode_masks(record.masks, record.size))
        return decode_image(record.path, record.size), target

    def decode_masks(self, masks: Sequence[MaskAnnotation], size: tuple[int, int]) -> np.ndarray:
        """The masks of one image of this width and height, uint8 (n, H, W)."""
        width, height = size
        decoded = [mask.decode(size) for mask in masks]
        return np.stack(decoded) if decoded else np.zeros((0, height, width), np.uint8)

    def describe(self) -> str:
        """Layout and counts: ``Pascal VOC, 364 images, 3 classes, 4888 boxes``."""
        return f"{self.layout}, {len(self)} images, {len(self.classes)} classes, {self.box_count} boxes"

    def _digest(self) -> str:
        digest = hashlib.sha256(json.dumps([self.layout, self.subset, self.classes]).encode())
        for record in self._records:
            name = os.path.relpath(record.path, self.root).replace(os.sep, "/")
            head = [name, record.image_id, record.size, record.file_bytes, len(record.boxes)]
            digest.update(json.dumps(head).encode())
            for array in (record.boxes, record.labels, record.ignore):
                digest.update(array.tobytes())
            for mask in record.masks:
                digest.update(mask.content())
        return digest.hexdigest()


def _check(annotation: Annotation, skip_bad_boxes: bool, bad: list[str]) -> _Record:
    """Checks the image's header and its boxes; what is skipped is appended to ``bad``."""
    size, file_bytes = _header(annotation)
    kept, boxes = [], []
    for thing in annotation.objects:
        box, fault = _clip(thing.box, size)
        rule = "a box must lie in its image and have an area, mend it or drop all such boxes with --skip-bad-boxes"
        if not fault and thing.mask is not None and (fault := thing.mask.fault(size)):
            fault = f": its mask {fault}"
            rule = "mend it, or drop all objects with bad masks with --skip-bad-boxes"
        if fault and not skip_bad_boxes:
            raise InputError(f"{thing.place}{'' if fault[0] == ':' else ' '}{fault}; {rule}")
        if fault:
            bad.append(f"{thing.place}{'' if fault[0] == ':' else ' '}{fault}")
        else:
            kept.append(thing)
            boxes.append(box)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    return _Record(
        annotation.image,
        annotation.image_id,
        size,
        file_bytes,
        corners,
        np.array([thing.label for thing in kept], np.int64),
        np.array([thing.ignore for thing in kept], np.int64),
        np.array(
            [own if thing.area is None else thing.area for thing, own in zip(kept, areas, strict=True)], np.float32
        ),
        [thing.mask for thing in kept if thing.mask is not None],
    )


def _clip(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """The box as float32 within its image, and what is wrong with it ("" where nothing is)."""
    (x1, y1, x2, y2), (width, height) = box, size
    clipped = np.array([max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)], np.float32)
    if not (x2 > x1 and y2 > y1):  # also where one is NaN
        return clipped, "has no area"
    if min(x1, y1) < -TOLERANCE or x2 > width + TOLERANCE or y2 > height + TOLERANCE:
        return clipped, f"lies outside its image of {width} x {height} pixels"
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:  # beside the border, or too thin for float32
        return clipped, f"has no area within its image of {width} x {height} pixels"
    return clipped, ""


def _header(annotation: Annotation) -> tuple[tuple[int, int], int]:
    """Width and height in pixels and the file's length, read from the header alone."""
    path, subject = annotation.image, f"{annotation.place}: its image {annotation.image}"
    size, mode, file_bytes = read_header(path, subject)
    if mode not in MODES:
        raise InputError(f"{subject} has pixels of mode {mode}; 8 bits a channel are read")
    if annotation.size is not None and annotation.size != size:
        annotated, found = (f"{width:g} x {height:g}" for width, height in (annotation.size, size))
        raise InputError(f"{annotation.place}: the annotated size is {annotated} pixels, its image {path} has {found}")
    return size, file_bytes
