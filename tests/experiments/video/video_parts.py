"""A video dataset in memory, and recipes and networks small enough for tests."""

import dataclasses

import numpy as np
import torch

from experiments.video.recipe import StaticRecipe, VideoRecipe
from proxy_tasks.data.video.base import VideoDataset
from proxy_tasks.images import normalise
from proxy_tasks.video.network import build_segmenter
from search_spaces import Architecture
from search_spaces.video.choices import VIDEO_CELL_4

TINY = {"backbone": "tiny", "width": 16, "crop_height": 32, "crop_width": 32, "batch_size": 2}


class Memory(VideoDataset):
    """Images uint8 (n, 3, H, W) and labels uint8 (n, H, W) as given; ``lengths`` are the clips'."""

    layout, root, fingerprint, sequence_length = "memory", "memory", "0", 3
    classes = ("road", "sky", "car", "tree")
    palette = ((128, 64, 128), (70, 130, 180), (0, 0, 142), (107, 142, 35))

    def __init__(self, images, labels, lengths, annotated=None):
        self._images, self._labels = images, labels
        ends = np.cumsum(lengths)
        self.clips = tuple(tuple(range(end - length, end)) for end, length in zip(ends, lengths, strict=True))
        self.annotated = np.ones(len(images), bool) if annotated is None else np.array(annotated)

    def __len__(self):
        return len(self._images)

    def name(self, index):
        return f"frame{index}"

    def size(self, index):
        return tuple(self._images.shape[-2:])

    def image(self, index):
        return self._images[index]

    def labels(self, index):
        if not self.annotated[index]:
            raise ValueError("not annotated")
        return self._labels[index]


def noise(count, size=(40, 48), lengths=None, seed=0, **options):
    """Frames and labels without any sense, the first column void."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 4, (count, *size), generator=generator, dtype=torch.uint8)
    labels[..., 0] = 255
    return Memory(images, labels, lengths or [count], **options)


def static_recipe(**changes):
    return StaticRecipe(**{**TINY, **changes})


def video_recipe(**changes):
    return VideoRecipe(**{**TINY, **changes})


def options_of(recipe):
    """The recipe as ``--set`` takes it."""
    return [f"{name}={value}" for name, value in dataclasses.asdict(recipe).items()]


def cell(seed=0):
    """A random cell, but that it takes the frame before and all of the current one."""
    named = VIDEO_CELL_4.sample(np.random.default_rng(seed)).named
    taken = {f"cell.{layer}.x1": name for layer, name in enumerate(("prev_dec", "C3", "C4", "C5"), start=1)}
    return VIDEO_CELL_4.from_named(named | taken)


def build(architecture=None, auxiliary=False, seed=0, width=16):
    """The static network, or that with a cell in it."""
    torch.manual_seed(seed)
    return build_segmenter(architecture or Architecture.of("arch2", ()), "tiny", "none", 4, width, auxiliary)


def balanced(network, data):
    """The network with classes that occur about equally often, where initial weights give one class everywhere."""
    static = getattr(network, "static", network).eval()
    with torch.no_grad():
        logits = static(normalise(data.image(0)[None]))
        static.decoder.classifier.bias -= logits.mean(dim=(0, 2, 3))
    return network
