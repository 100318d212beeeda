"""The built-in video set: the shapes of `proxy_tasks.data.images.shapes` in motion, drawn from a seed.

A clip is described once (`Clip`, `Mover`: plain numbers); its scene at any time follows from that. Times are in frames,
lengths in pixels, angles in radians.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from proxy_tasks.data.images.shapes import GRID, INSIDE, Scene, Shape, render
from proxy_tasks.data.video.base import VIDEO_SUBSETS, VideoDataset, check_video_subset
from search_spaces import InputError

__all__ = ["Clip", "Mover", "MovingShapes"]

SMALLEST = 32  # of an image; at an eighth of the resolution a shape still covers some cells
FEWEST, MOST = 2, 5  # shapes in a clip
SPEED = 0.02  # standard deviation of a shape's speed along x and y, in image sides a frame
TURN = 0.1  # and of its angular speed
DRIFT = 0.3  # the ground's longest way in a frame, in cells of its texture
SPREAD = 20.0  # standard deviation of a shape's colour about that of its class


@dataclass(frozen=True)
class Mover:
    """One shape in motion: it drifts and turns evenly, and turns back at the image's borders.

    Args:
        start: the shape at time 0.
        speed: how far its centre moves along x and y, pixels a frame.
        turn: radians a frame.
    """

    start: Shape
    speed: tuple[float, float]
    turn: float

    def at(self, time: int, size: int) -> Shape:
        """The shape at the given time; its centre stays in the image of ``size`` pixels a side."""
        x, y = (
            _between(start + time * speed, size - 1.0)
            for start, speed in zip((self.start.x, self.start.y), self.speed, strict=True)
        )
        angle = self.start.angle + time * self.turn
        return Shape(self.start.kind, x, y, self.start.radius, angle, self.start.colour)


@dataclass(frozen=True)
class Clip:
    """One clip.

    Args:
        ground: texture over which the view drifts, uint8, larger than `GRID` cells a side.
        drift: cells a frame along x and y, at least 0.
        noise: standard deviation of every pixel's noise, in grey levels.
        noise_seed: the noise of the frame at time t is drawn from ``noise_seed + t``.
        movers: from front to back.
    """

    ground: np.ndarray
    drift: tuple[float, float]
    noise: float
    noise_seed: int
    movers: tuple[Mover, ...]


class MovingShapes(VideoDataset):
    """The built-in video set; every frame is a function of (seed, subset, clip, time) alone, and annotated.

    Two to five shapes drift, turn and pass before one another over a ground that moves slowly. The classes are the
    ground and the four kinds of shape; each kind has a colour about which its shapes vary, so that a backbone without
    weights has something to go by. There is no void.

    Args:
        subset: ``"train"``, ``"val"`` or ``"test"``, sets that share no clip.
        count: the number of clips.
        length: the number of frames in a clip.
        size: the height and the width of a frame in pixels.
        seed: draws the whole set.
        sequence_length: the number of frames in a sequence; None is 3.

    Raises:
        InputError: an unknown subset, no clip, clips shorter than a sequence, frames of less than 32 pixels, or a
            negative seed.
    """

    layout = "moving shapes"
    root = "built-in"
    classes = ("ground", *INSIDE)
    palette = ((0, 0, 0), (220, 60, 60), (60, 180, 75), (70, 110, 230), (235, 200, 40))
    sequence_length = 3

    def __init__(
        self,
        subset: str = "train",
        count: int = 48,
        length: int = 6,
        size: int = 128,
        seed: int = 0,
        sequence_length: int | None = None,
    ):
        least = {"count": 1, "length": 1, "size": SMALLEST, "seed": 0}
        for what, value in (("count", count), ("length", length), ("size", size), ("seed", seed)):
            if value < least[what]:
                raise InputError(f"the moving shapes' {what} must be at least {least[what]}, got {value}")
        self.subset, self.seed = check_video_subset(subset), seed
        self.length, self.side = length, size
        self.sequence_length = sequence_length or self.sequence_length
        numbers = range(count * length)
        self.clips = tuple(tuple(numbers[start : start + length]) for start in numbers[::length])
        self.annotated = np.ones(len(numbers), bool)
        self.check_sequences(subset)
        head = [self.layout, self.classes, subset, count, length, size, seed]
        digest = hashlib.sha256(json.dumps(head).encode())
        for drawn in self._draw(length - 1):  # another way of drawing is another set
            digest.update(drawn.tobytes())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.annotated)

    def name(self, index: int) -> str:
        """``clip003_02``: clip and time."""
        clip, time = self._place(index)
        return f"clip{clip:03d}_{time:02d}"

    def size(self, index: int) -> tuple[int, int]:
        """See `VideoDataset.size`."""
        self._place(index)
        return self.side, self.side

    def image(self, index: int) -> Tensor:
        """See `VideoDataset.image`."""
        return torch.from_numpy(self._draw(index)[0]).permute(2, 0, 1).contiguous()

    def labels(self, index: int) -> Tensor:
        """See `VideoDataset.labels`."""
        return torch.from_numpy(self._draw(index)[1])

    def scene(self, index: int) -> Scene:
        """The description of frame number ``index``."""
        number, time = self._place(index)
        clip = self._clip(number)
        x, y = (time * step for step in clip.drift)
        view = Image.fromarray(clip.ground).resize((GRID, GRID), Image.Resampling.BILINEAR, (x, y, x + GRID, y + GRID))
        shapes = tuple(mover.at(time, self.side) for mover in clip.movers)
        return Scene(self.side, np.asarray(view), clip.noise, clip.noise_seed + time, shapes)

    def _place(self, index: int) -> tuple[int, int]:
        """The number of a frame's clip, and its time in it."""
        return divmod(range(len(self))[index], self.length)

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 (H, W, 3) and labels uint8 (H, W)."""
        image, kinds, masks = render(self.scene(index), least_visible=0.0)
        labels = np.zeros(image.shape[:2], np.uint8)
        for kind, mask in zip(kinds, masks, strict=True):
            labels[mask == 1] = kind + 1
        return image, labels

    def _clip(self, number: int) -> Clip:
        rng = np.random.default_rng([self.seed, VIDEO_SUBSETS.index(self.subset), number])
        cells = GRID + int(np.ceil(DRIFT * self.length))
        tone = rng.uniform(90, 165)
        ground = np.clip(tone + rng.normal(0, 20, (cells, cells, 3)), 0, 255).astype(np.uint8)
        drift_x, drift_y = rng.uniform(0, DRIFT, 2)
        movers = tuple(self._movers(rng))
        return Clip(ground, (drift_x, drift_y), rng.uniform(5, 15), int(rng.integers(2**32)), movers)

    def _movers(self, rng: np.random.Generator) -> Iterator[Mover]:
        for _ in range(rng.integers(FEWEST, MOST + 1)):
            label = int(rng.integers(1, len(self.classes)))
            red, green, blue = np.clip(rng.normal(self.palette[label], SPREAD), 0, 255)
            radius = self.side * np.exp(rng.uniform(np.log(1 / 8), np.log(1 / 3)))
            x, y = rng.uniform(0, self.side - 1, 2)
            speed_x, speed_y = rng.normal(0, SPEED * self.side, 2)
            shape = Shape(self.classes[label], x, y, radius, rng.uniform(0, 2 * np.pi), (red, green, blue))
            yield Mover(shape, (speed_x, speed_y), rng.normal(0, TURN))


def _between(position: float, end: float) -> float:
    """A position that moves evenly, thrown back at 0 and at ``end``."""
    return end - abs(position % (2 * end) - end)
