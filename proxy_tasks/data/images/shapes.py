"""The built-in synthetic set: coloured shapes on a noisy ground, drawn from a seed, so that nothing is downloaded.

An image is described first (`Scene`, `Shape`: plain numbers) and rendered afterwards. Lengths are in pixels; x runs
to the right, y down; a pixel's centre lies at whole coordinates.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from proxy_tasks.data.images.base import SUBSETS, DetectionDataset, Target, check_subset
from search_spaces import InputError

__all__ = ["Scene", "Shape", "Shapes", "render"]

SMALLEST = 8  # diameter of the smallest shape
MOST_SHAPES = 6
VISIBLE = 0.3  # a shape that others hide more than this leaves is not drawn at all
GRID = 6  # the ground's coarse texture has this many cells a side

# whether a point (u, v) of the shape's own frame, with the unit circle around the shape, is inside
INSIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= np.sqrt(0.5),
    "triangle": lambda u, v: (v <= 0.5) & (np.sqrt(3) * abs(u) - v <= 1),
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.32) & (np.maximum(abs(u), abs(v)) <= 0.95),
}


@dataclass(frozen=True)
class Shape:
    """One object.

    Args:
        kind: a key of `INSIDE`.
        x: the centre's position to the right.
        y: the centre's position downwards.
        radius: the radius of the circle around the shape, pixels.
        angle: radians.
        colour: RGB, 0 to 255.
    """

    kind: str
    x: float
    y: float
    radius: float
    angle: float
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """One image.

    Args:
        size: height and width.
        ground: the ground's coarse texture, uint8 (`GRID`, `GRID`, 3), stretched over the image.
        noise: standard deviation of every pixel's noise, in grey levels.
        noise_seed: draws the noise.
        shapes: from front to back.
    """

    size: int
    ground: np.ndarray
    noise: float
    noise_seed: int
    shapes: tuple[Shape, ...]


class Shapes(DetectionDataset):
    """The built-in set; every image is a function of (seed, subset, index) alone.

    Targets hold ``masks`` beside the boxes; masks and boxes cover the visible pixels only.

    Args:
        count: number of images.
        size: height and width of an image; shapes are 8 to ``size / 2`` pixels across.
        seed: determines every image of the set.
        subset: ``"train"`` or ``"test"``, two sets that share no image.

    Raises:
        InputError: no image asked for, images of less than 32 pixels, or a negative seed.
    """

    layout = "shapes"
    root = "built-in"
    classes = tuple(INSIDE)

    def __init__(self, count: int = 256, size: int = 128, seed: int = 0, subset: str = "train"):
        for what, value, least in (("count", count, 1), ("size", size, 4 * SMALLEST), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"the shapes set's {what} must be at least {least}, got {value}")
        self.count, self.size, self.seed, self.subset = count, size, seed, check_subset(subset)
        first, target = self[0]  # what is drawn belongs to the data: another way of drawing is another set
        arrays = [first, *(target[key] for key in ("boxes", "labels", "masks"))]
        digest = hashlib.sha256(json.dumps([self.layout, self.classes, count, size, seed, subset]).encode())
        for array in arrays:
            digest.update(array.numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        number = range(self.count)[index]
        image, labels, masks = render(self.scene(number))
        target = {
            "boxes": _boxes(masks),
            "labels": torch.from_numpy(labels),
            "iscrowd": torch.zeros(len(labels), dtype=torch.int64),
            "difficult": torch.zeros(len(labels), dtype=torch.int64),
            "area": torch.from_numpy(masks.sum(axis=(1, 2), dtype=np.float32)),
            "image_id": number,
            "masks": torch.from_numpy(masks),
        }
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), target

    def describe(self) -> str:
        """Layout, counts and seed: ``shapes, 256 images of 128 x 128 pixels, 4 classes, seed 0``."""
        pixels = f"{self.size} x {self.size}"
        return f"shapes, {self.count} images of {pixels} pixels, {len(self.classes)} classes, seed {self.seed}"

    def scene(self, index: int) -> Scene:
        """The description of image number ``index``."""
        rng = np.random.default_rng([self.seed, SUBSETS.index(self.subset), index])
        tone = rng.uniform(60, 195, 3)
        ground = np.clip(tone + rng.normal(0, 30, (GRID, GRID, 3)), 0, 255).astype(np.uint8)
        shapes = tuple(self._shape(rng, tone) for _ in range(rng.integers(1, MOST_SHAPES + 1)))
        return Scene(self.size, ground, rng.uniform(5, 20), int(rng.integers(2**32)), shapes)

    def _shape(self, rng: np.random.Generator, tone: np.ndarray) -> Shape:
        direction = rng.normal(size=3)
        colour = tone + direction / np.linalg.norm(direction) * rng.uniform(70, 150)  # stands out from the ground
        diameter = np.exp(rng.uniform(np.log(SMALLEST), np.log(self.size / 2)))
        x, y = rng.uniform(0.05 * self.size, 0.95 * self.size, 2)
        red, green, blue = np.clip(colour, 0, 255)
        kind = self.classes[rng.integers(len(self.classes))]
        return Shape(kind, x, y, diameter / 2, rng.uniform(0, 2 * np.pi), (red, green, blue))


def render(scene: Scene, least_visible: float = VISIBLE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws a scene from front to back; a shape of which less than ``least_visible`` can be seen is left out.

    Returns:
        image uint8 (H, W, 3); labels int64 (n,), positions in `Shapes.classes`; masks uint8 (n, H, W), 1 where visible.
    """
    side = (scene.size, scene.size)
    canvas = np.array(Image.fromarray(scene.ground).resize(side, Image.Resampling.BICUBIC), np.float32)
    covered = np.zeros(side, bool)
    labels, masks = [], []
    for shape in scene.shapes:
        window, inside = _inside(shape, scene.size)
        visible = inside & ~covered[window]
        if not inside.any() or visible.sum() < least_visible * inside.sum():
            continue
        mask = np.zeros(side, np.uint8)
        mask[window] = visible
        canvas[window][visible] = shape.colour
        covered[window] |= inside
        labels.append(list(INSIDE).index(shape.kind))
        masks.append(mask)
    noise = np.random.default_rng(scene.noise_seed).standard_normal(canvas.shape, np.float32)
    image = np.clip(canvas + scene.noise * noise, 0, 255).astype(np.uint8)
    return image, np.array(labels, np.int64), np.array(masks, np.uint8).reshape(-1, *side)


def _inside(shape: Shape, size: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """The window of the image around a shape, and which of the window's pixels are inside it."""
    spans = [
        np.arange(max(0, int(np.ceil(c - shape.radius))), min(size, int(np.floor(c + shape.radius)) + 1))
        for c in (shape.y, shape.x)
    ]
    y, x = (spans[0][:, None] - shape.y) / shape.radius, (spans[1][None] - shape.x) / shape.radius
    cos, sin = np.cos(shape.angle), np.sin(shape.angle)
    rows, columns = (slice(span[0], span[-1] + 1) for span in spans)
    return (rows, columns), INSIDE[shape.kind](cos * x + sin * y, cos * y - sin * x)


def _boxes(masks: np.ndarray) -> Tensor:
    """Boxes, float32 (n, 4), around masks of at least one pixel each."""
    rows, columns = np.any(masks, axis=2), np.any(masks, axis=1)
    size_y, size_x = masks.shape[1:]
    sides = [columns.argmax(1), rows.argmax(1), size_x - columns[:, ::-1].argmax(1), size_y - rows[:, ::-1].argmax(1)]
    return torch.from_numpy(np.stack(sides, 1).astype(np.float32))
