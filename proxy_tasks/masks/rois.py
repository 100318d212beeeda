"""Regions of interest (RoIs): which level of the pyramid each takes, and what RoIAlign gives of it.

Notation: B images; n RoIs in one of them, ``(x1, y1, x2, y2)`` in pixels of the resized image; level k has stride 2^k.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.ops.boxes import box_area

__all__ = ["CANONICAL_LEVEL", "CANONICAL_SIDE", "LEVEL_RULES", "RoIPool", "area_levels", "fpn_levels"]

CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4  # Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017
SAMPLES = 2  # a side of every bin, as in torchvision's detectors
ROUNDING = 1e-6  # a side of exactly 224 pixels belongs to level 4 however its logarithm is rounded, as in torchvision

Sizes = Sequence[tuple[int, int]]
"""Height and width of every image, without its padding."""
LevelRule = Callable[[Sequence[Tensor], Sizes, int, int], Tensor]
"""``rule(boxes, sizes, first, last)``: int64 levels from ``first`` to ``last`` of the boxes, image after image."""


def fpn_levels(boxes: Sequence[Tensor], sizes: Sizes, first: int, last: int) -> Tensor:
    """k = floor(k0 + log2(sqrt(w · h) / 224)), k0 = 4 (thesis eq. 2.4), clamped to the levels there are."""
    side = torch.cat([box_area(one) for one in boxes]).sqrt()
    levels = torch.floor(CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIDE) + ROUNDING)
    return levels.clamp(first, last).long()


def area_levels(boxes: Sequence[Tensor], sizes: Sizes, first: int, last: int) -> Tensor:
    """k = ceil(k_max − log2(A_image / A_RoI)), areas in pixels (thesis eq. 2.11; CenterMask eq. 1), clamped too."""
    share = torch.cat([box_area(one) / (height * width) for one, (height, width) in zip(boxes, sizes, strict=True)])
    return torch.ceil(last + torch.log2(share)).clamp(first, last).long()


LEVEL_RULES: Mapping[str, LevelRule] = {"fpn": fpn_levels, "area": area_levels}
"""The rules by the names of `search_spaces.masks.choices.ROI_LEVELS`."""


class RoIPool(nn.Module):
    """torchvision's RoIAlign on the levels of a pyramid.

    Args:
        levels: the pyramid's maps that are pooled from, finest first, such as ("P2", "P3", "P4", "P5"); consecutive.
        size: height and width of what comes out.
        rule: which level each RoI takes, a name of `LEVEL_RULES`; of no matter with a single level.
    """

    def __init__(self, levels: Sequence[str], size: int, rule: str = "fpn"):
        super().__init__()
        self.levels, self.size, self.rule = tuple(levels), size, LEVEL_RULES[rule]
        self.numbers = [int(level[1:]) for level in levels]

    def forward(self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], sizes: Sizes) -> Tensor:
        """The maps (B, C, ·, ·) by level and each image's RoIs (n, 4) -> (RoIs of all images, C, size, size)."""
        images = [one.new_full((len(one), 1), number) for number, one in enumerate(boxes)]
        rois = torch.cat([torch.cat(images), torch.cat(list(boxes))], dim=1)
        taken = self.rule(boxes, sizes, self.numbers[0], self.numbers[-1])
        first = features[self.levels[0]]
        out = first.new_zeros((len(rois), first.shape[1], self.size, self.size))
        for level, number in zip(self.levels, self.numbers, strict=True):
            here = torch.where(taken == number)[0]
            pooled = roi_align(features[level], rois[here], self.size, 2.0**-number, SAMPLES)
            out = out.index_put((here,), pooled.to(out.dtype))
        return out
