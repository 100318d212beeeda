"""Dense FCOS targets: for every location of the pyramid its class, its distances to a box's sides, its centerness.

Notation: B images, M boxes an image (padded), L locations over the levels P3..P7, in that order, each row by row.
Boxes are (x0, y0, x1, y1) in pixels. The assignment is that of ``torchvision.models.detection.FCOS``, with the sizes of
interest scaled to the input (thesis 7.4.1: "sizes of interest scaled correspondingly").

Inputs are padded to a multiple of 128 pixels (`proxy_tasks.images.detector_input`), so that the levels' strides are
exactly 8, 16, 32, 64 and 128 pixels. Locations in the padding are background, as torchvision has them. A location that
answers for no box but lies in a region that evaluation ignores (a crowd, a difficult object) is neither foreground nor
background.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from proxy_tasks.anchors import Anchors
from proxy_tasks.images import STRIDE, padded

__all__ = [
    "BACKGROUND",
    "IGNORED",
    "DenseTargets",
    "Locations",
    "anchors_of",
    "assign",
    "level_sizes",
    "location_anchors",
    "pad_boxes",
]

BACKGROUND, IGNORED = -1, -2
STRIDES = (8, 16, 32, 64, STRIDE)
CENTER_SAMPLING_RADIUS = 1.5  # strides; torchvision's default, and that of FCOS's center sampling


def level_sizes(crop: int) -> tuple[int, ...]:
    """The side of P3..P7 for a square crop of ``crop`` pixels, once it is padded."""
    return tuple(padded(crop) // stride for stride in STRIDES)


def location_anchors() -> Anchors:
    """The anchors of torchvision's FCOS: one at every location of P3..P7, as wide as the level's stride."""
    return Anchors(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))


def anchors_of(crop: int) -> Tensor:
    """torchvision's anchors for a square crop of ``crop`` pixels, padded; (L, 4): a stride wide, one at every location.

    Anchors are centred on multiples of the stride, from 0, as torchvision has them.
    """
    maps = [torch.empty(1, 1, side, side) for side in level_sizes(crop)]
    whole = torch.empty(1, 3, padded(crop), padded(crop))
    (anchors,) = location_anchors()(ImageList(whole, [(crop, crop)]), maps)
    return anchors


@dataclass(frozen=True)
class Locations:
    """Where the pyramid looks.

    Args:
        centers: (L, 2) float32, x and y in pixels.
        sizes: (L,) float32, the level's stride in pixels, the unit of the regression.
        ranges: (L, 2) float32, the sizes of interest in pixels: a location answers for a box whose farthest side lies
            between the two.
        levels: locations a level, P3 first.
    """

    centers: Tensor
    sizes: Tensor
    ranges: Tensor
    levels: tuple[int, ...]

    @classmethod
    def of(cls, crop: int, size_scale: float = 1.0, device: torch.device | str = "cpu") -> "Locations":
        """The locations for a square crop of ``crop`` pixels, those in its padding included.

        Args:
            crop: pixels.
            size_scale: 1 for the published sizes of interest (64, 128, 256, 512 pixels at a short side of 800).
            device: where the tensors go.
        """
        levels = tuple(side * side for side in level_sizes(crop))
        return cls.around(anchors_of(crop).to(device), levels, size_scale)

    @classmethod
    def around(cls, anchors: Tensor, levels: tuple[int, ...], size_scale: float = 1.0) -> "Locations":
        """The locations in the middle of anchors, for inputs of any size.

        Args:
            anchors: (L, 4), torchvision's, each a stride wide.
            levels: how many of them each level of the pyramid has, P3 first.
            size_scale: see `of`.
        """
        sizes = anchors[:, 2] - anchors[:, 0]
        lower, upper = sizes * 4 * size_scale, sizes * 8 * size_scale
        lower[: levels[0]] = 0
        upper[-levels[-1] :] = torch.inf
        centers = (anchors[:, :2] + anchors[:, 2:]) / 2
        return cls(centers, sizes, torch.stack([lower, upper], dim=1), levels)


@dataclass(frozen=True)
class DenseTargets:
    """What every location should say.

    Args:
        labels: (B, L) int64, the class from 0, `BACKGROUND` or `IGNORED`.
        distances: (B, L, 4) float32, left, top, right, bottom to the box's sides in pixels; zeros without a class.
        centerness: (B, L) float32 in [0, 1] (FCOS, eq. 3); zeros without a class.
    """

    labels: Tensor
    distances: Tensor
    centerness: Tensor


def pad_boxes(targets: Sequence[dict[str, Tensor]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Stacks lists of boxes.

    Args:
        targets: for each image ``boxes`` (n, 4), ``labels`` (n,) and ``iscrowd`` (n,), 1 for what is ignored.
        device: where the tensors go.

    Returns:
        (B, M, 4) float32 boxes; (B, M) int64 labels, `IGNORED` for what is ignored, `BACKGROUND` where there is no box.
    """
    most = max(1, max(len(target["labels"]) for target in targets))
    here = targets[0]["labels"].device  # one copy goes from there to the device, not one of each box
    boxes = torch.zeros(len(targets), most, 4, device=here)
    labels = torch.full((len(targets), most), BACKGROUND, device=here)
    for row, target in enumerate(targets):
        boxes[row, : len(target["boxes"])] = target["boxes"]
        labels[row, : len(target["labels"])] = target["labels"].where(target["iscrowd"] == 0, IGNORED)
    return boxes.to(device), labels.to(device)


def assign(boxes: Tensor, labels: Tensor, locations: Locations) -> DenseTargets:
    """Gives every location the smallest box it answers for (FCOS, sec. 3.2; center sampling as torchvision has it).

    Args:
        boxes: (B, M, 4) float32.
        labels: (B, M) int64, `BACKGROUND` marks padding, `IGNORED` a region that is ignored.
        locations: where the pyramid looks on the input that the boxes are in.
    """
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    offset = (locations.centers[:, None] - centers[:, None]).abs().amax(dim=-1)  # (B, L, M)
    distances = torch.cat(
        [locations.centers[:, None] - boxes[:, None, :, :2], boxes[:, None, :, 2:] - locations.centers[:, None]], dim=-1
    )
    farthest = distances.amax(dim=-1)
    inside = distances.amin(dim=-1) > 0
    match = (labels >= 0)[:, None]
    match = match & (offset < CENTER_SAMPLING_RADIUS * locations.sizes[:, None]) & inside
    match = match & (farthest > locations.ranges[:, None, 0]) & (farthest < locations.ranges[:, None, 1])
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    # torchvision's arithmetic to the letter (float32, 1e8 as "larger than any box"), so that ties fall alike
    best, index = (match.float() * (1e8 - areas[:, None])).max(dim=-1)
    foreground = best >= 1e-5
    ignored = (inside & (labels == IGNORED)[:, None]).any(dim=-1)
    otherwise = torch.full_like(index, BACKGROUND).masked_fill(ignored, IGNORED)
    chosen = labels.gather(1, index).where(foreground, otherwise)
    sides = distances.gather(2, index[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)
    sides = sides * foreground[..., None]
    return DenseTargets(chosen, sides, _centerness(sides, foreground))


def _centerness(sides: Tensor, foreground: Tensor) -> Tensor:
    horizontal, vertical = sides[..., 0::2], sides[..., 1::2]
    nearest = horizontal.amin(-1) * vertical.amin(-1)
    farthest = horizontal.amax(-1) * vertical.amax(-1)
    return (nearest / farthest.where(foreground, torch.ones_like(farthest))).sqrt()
