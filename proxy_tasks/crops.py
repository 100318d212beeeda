"""Fixed crops: every image once resized and cropped, by the seed, and kept with its boxes and, if asked to, masks.

The published proxy task never augments, so that features can be cached (thesis 7.4.1: short side 384, crops of
384 x 384). Mirror images are a fixed augmentation: they are cached beside what they mirror.
"""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, Mask

from proxy_tasks.cache import cache_key
from proxy_tasks.data import DetectionDataset
from proxy_tasks.rows import CachedRows, Site, batched

__all__ = ["CropRows", "Crops", "MirroredBeside", "crop_image", "mirrored_boxes"]

MINIMUM_SIDE = 2.0  # pixels; what is left of a box after cropping must be this wide and high to count
OBJECTS = ("boxes", "labels", "iscrowd", "difficult")  # arrays of one row an object, the others have one an image
MASKS = "masks"  # a further one of those, eight pixels a byte, where masks are asked for


def crop_image(
    image: Tensor, target: dict[str, Any], crop: int, rng: np.random.Generator, masks: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Resizes the short side to ``crop`` and takes a crop of ``crop`` x ``crop`` pixels, placed by ``rng``.

    Args:
        image: (3, H, W) uint8.
        target: ``boxes`` (n, 4) float32 (x0, y0, x1, y1) pixels; ``labels``, ``iscrowd`` and ``difficult`` (n,) int64.
        crop: pixels.
        rng: draws the place.
        masks: crop ``masks``, uint8 (n, H, W), too; an object of which no pixel is left is then not seen.

    Returns:
        (3, crop, crop) uint8 and the target with the objects that are still seen, boxes clipped.
    """
    height, width = image.shape[-2:]
    scale = crop / min(height, width)
    size = [max(crop, round(height * scale)), max(crop, round(width * scale))]
    top, left = int(rng.integers(size[0] - crop + 1)), int(rng.integers(size[1] - crop + 1))
    boxes = BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(height, width))
    image = F.crop(F.resize(image, size, antialias=True), top, left, crop, crop)
    boxes = F.clamp_bounding_boxes(F.crop(F.resize(boxes, size), top, left, crop, crop)).as_subclass(Tensor)
    seen = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= MINIMUM_SIDE if len(boxes) else torch.zeros(0, dtype=torch.bool)
    found = {name: boxes.float() if name == "boxes" else target[name] for name in OBJECTS}
    if masks:
        found[MASKS] = F.crop(F.resize(Mask(target[MASKS]), size), top, left, crop, crop).as_subclass(Tensor)
        seen &= (found[MASKS] > 0).flatten(1).any(dim=1)
    return image, {name: value[seen] for name, value in found.items()}


class CropRows(Protocol):
    """Crops by number."""

    key: str
    """Stands for all that they depend on."""

    def __len__(self) -> int: ...

    def images(self, indices: np.ndarray) -> Tensor:
        """(B, 3, crop, crop) uint8 on the CPU, channels last in memory."""

    def target(self, index: int) -> dict[str, Tensor]:
        """``boxes`` (n, 4) float32 pixels of the crop; ``labels``, ``iscrowd`` and ``difficult`` (n,) int64.

        Crops with masks have ``masks``, uint8 (n, crop, crop), too.
        """


class Crops(CachedRows):
    """The crops of a dataset.

    Args:
        dataset: what is cropped.
        crop: pixels.
        seed: draws the crops' places.
        site: where they are kept.
        what: they are called in the progress.
        masks: keep masks too, of a dataset that has them.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        crop: int,
        seed: int,
        site: Site,
        what: str = "cropping the images",
        masks: bool = False,
    ):
        def row(indices: np.ndarray) -> dict[str, Tensor]:
            (index,) = indices
            image, target = crop_image(*dataset[index], crop, np.random.default_rng([seed, index]), masks)
            if masks:
                target[MASKS] = torch.from_numpy(np.packbits(target[MASKS].numpy(), axis=-1))
            return {"images": image.permute(1, 2, 0)[None], "objects": torch.tensor([len(target["boxes"])]), **target}

        self.classes, self.crop = dataset.classes, crop
        self._masks = masks
        key = cache_key(data=dataset.fingerprint, crop=crop, seed=seed, **({"masks": True} if masks else {}))
        super().__init__(site, "crops", key, lambda: batched(len(dataset), 1, row, site.counted(what)))
        self._offsets = np.concatenate([[0], np.cumsum(self["objects"])])

    def __len__(self) -> int:
        return len(self["images"])

    def images(self, indices: np.ndarray) -> Tensor:
        """(B, 3, crop, crop) uint8 on the CPU, channels last in memory."""
        return torch.from_numpy(self["images"][indices]).permute(0, 3, 1, 2)

    def target(self, index: int) -> dict[str, Tensor]:
        """See `CropRows`."""
        objects = slice(*self._offsets[index : index + 2])
        target = {name: torch.from_numpy(self[name][objects].copy()) for name in OBJECTS}
        if self._masks:
            target[MASKS] = torch.from_numpy(np.unpackbits(self[MASKS][objects], axis=-1, count=self.crop))
        return target


class MirroredBeside:
    """Crops, and after them the mirror images, left to right, of some.

    Args:
        crops: keep their numbers.
        chosen: numbers of those whose mirror images follow, in this order.
    """

    def __init__(self, crops: Crops, chosen: np.ndarray):
        self._crops, self._chosen = crops, chosen
        self.key = cache_key(crops=crops.key, mirrored=chosen.tolist())

    def __len__(self) -> int:
        return len(self._crops) + len(self._chosen)

    @property
    def mirrored(self) -> np.ndarray:
        """The numbers of the mirror images."""
        return np.arange(len(self._crops), len(self))

    def _original(self, indices: np.ndarray) -> np.ndarray:
        """Of every number that of the crop which is, or is mirrored as, this one."""
        mirrored = np.maximum(indices - len(self._crops), 0)
        return np.where(indices < len(self._crops), indices, self._chosen[mirrored])

    def images(self, indices: np.ndarray) -> Tensor:
        """See `CropRows`."""
        images, turned = self._crops.images(self._original(indices)), torch.from_numpy(indices >= len(self._crops))
        return images.where(~turned[:, None, None, None], images.flip(-1))

    def target(self, index: int) -> dict[str, Tensor]:
        """See `CropRows`."""
        target = self._crops.target(int(self._original(np.array(index))))
        if index < len(self._crops):
            return target
        mirrored = {MASKS: target[MASKS].flip(-1)} if MASKS in target else {}
        return {**target, "boxes": mirrored_boxes(target["boxes"], self._crops.crop), **mirrored}


def mirrored_boxes(boxes: Tensor, width: int) -> Tensor:
    """Boxes (..., 4) in an image of this width, in pixels, as they lie in its mirror image, left to right."""
    return torch.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], dim=-1)
