"""Instance masks as annotation files have them, kept small and decoded when they are asked for.

Notation: an image of H×W pixels. Runs count pixels down the columns, from the left, of background and object in turn,
background first, as COCO's run-length encoding (RLE) has them.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pycocotools import mask as coco_masks

__all__ = ["MaskAnnotation", "Polygons", "Runs", "coco_mask"]

TOLERANCE = 1.0  # pixels over the border, as for boxes
Size = tuple[int, int]
"""Width and height, as everywhere in the readers."""


class MaskAnnotation(Protocol):
    """One object's mask as a reader found it."""

    def fault(self, size: Size) -> str:
        """What is wrong with it in an image of this width and height, "" where nothing is: ``"has no polygon"``."""

    def decode(self, size: Size) -> np.ndarray:
        """uint8 (H, W), 1 inside; only of a mask without a fault."""

    def content(self) -> bytes:
        """What it is, for the fingerprint of the data."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """A mask as outlines, which may overlap; inside any of them is inside.

    Args:
        points: each outline's x1, y1, x2, y2, … in pixels, float64.
    """

    points: tuple[np.ndarray, ...]

    def fault(self, size: Size) -> str:
        """See `MaskAnnotation`."""
        if not self.points:
            return "has no polygon"
        width, height = size
        for points in self.points:
            if len(points) < 6 or len(points) % 2:
                return f"has a polygon of {len(points)} numbers, x and y of at least 3 points are needed"
            low, high = points.reshape(-1, 2).min(axis=0), points.reshape(-1, 2).max(axis=0)
            inside = (low >= -TOLERANCE).all() and high[0] <= width + TOLERANCE and high[1] <= height + TOLERANCE
            if not inside:
                return f"has a polygon outside its image of {width} x {height} pixels"
        return ""

    def decode(self, size: Size) -> np.ndarray:
        """See `MaskAnnotation`."""
        width, height = size
        parts = coco_masks.frPyObjects([points.tolist() for points in self.points], height, width)
        mask: np.ndarray = coco_masks.decode(coco_masks.merge(parts))
        return mask

    def content(self) -> bytes:
        """See `MaskAnnotation`."""
        return b";".join(points.tobytes() for points in self.points)


@dataclass(frozen=True, slots=True)
class Runs:
    """A mask as runs.

    Args:
        height: of the image that the runs are of.
        width: likewise.
        counts: int64, the runs.
    """

    height: int
    width: int
    counts: np.ndarray

    def fault(self, size: Size) -> str:
        """See `MaskAnnotation`."""
        width, height = size
        if (self.width, self.height) != size:
            return f"is of {self.width} x {self.height} pixels, its image of {width} x {height}"
        total = int(self.counts.sum())
        if total != width * height or (self.counts < 0).any():
            return f"has runs of {total} pixels in all, its image has {width * height}"
        return ""

    def decode(self, size: Size) -> np.ndarray:
        """See `MaskAnnotation`."""
        values = np.arange(len(self.counts), dtype=np.uint8) % 2
        return np.repeat(values, self.counts).reshape(self.width, self.height).T

    def content(self) -> bytes:
        """See `MaskAnnotation`."""
        return self.counts.tobytes()


def coco_mask(value: Any) -> MaskAnnotation | None:
    """The mask that COCO's ``segmentation`` describes; None where it is of no known form.

    Args:
        value: a list of polygons, each a list of numbers; or an object with ``size``, height and width, and ``counts``,
            a list of runs or a text with the runs compressed.
    """
    if isinstance(value, list):
        if not all(isinstance(part, list) and all(_is_number(x) for x in part) for part in value):
            return None
        return Polygons(tuple(np.array(part, np.float64) for part in value))
    if not isinstance(value, dict):
        return None
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or any(type(side) is not int or side < 1 for side in size):
        return None
    if isinstance(counts, str):
        counts = _expanded(counts)
    if not isinstance(counts, list) or any(type(run) is not int or abs(run) >= 2**62 for run in counts):
        return None
    return Runs(size[0], size[1], np.array(counts, np.int64))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def _expanded(text: str) -> list[int] | None:
    """The runs that a text compresses; None where it is cut or has other characters.

    Five bits a character, least first, a sixth that says whether more follow, the last one's fifth the sign; from the
    fourth run on it is the difference to the run before the last. pycocotools reads it too, but checks nothing.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs
