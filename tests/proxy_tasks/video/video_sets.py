"""Video sets in memory, a cell, and settings small enough for the tests of the video proxy task."""

import hashlib
import itertools

import numpy as np
import torch

import proxy_tasks
import search_spaces
from proxy_tasks import TaskOptions
from proxy_tasks.data.video.base import VOID, VideoDataset

TINY = {
    **{"long_side": 64, "crop_height": 40, "crop_width": 56, "width": 8},
    **{"batch_size": 4, "epochs": 2, "pretrain_iterations": 3, "pretrain_batch_size": 4},
}


class Noise(VideoDataset):
    """Clips of random frames; ``sizes`` has one (height, width) a clip, ``labelled`` says which frames have labels."""

    layout, root, classes = "noise", "in memory", ("a", "b", "c")
    palette = ((0, 0, 0), (9, 0, 0), (0, 9, 0))

    def __init__(self, lengths, sequence_length=3, sizes=None, labelled=None):
        numbers = iter(range(sum(lengths)))
        self.clips = tuple(tuple(next(numbers) for _ in range(length)) for length in lengths)
        self.sequence_length = sequence_length
        self._sizes = [
            size for size, n in zip(sizes or [(40, 56)] * len(lengths), lengths, strict=True) for _ in range(n)
        ]
        self.annotated = np.array([True] * sum(lengths) if labelled is None else labelled, bool)
        told = [lengths, sequence_length, self._sizes, self.annotated.tolist()]
        self.fingerprint = hashlib.sha256(str(told).encode()).hexdigest()

    def __len__(self):
        return len(self.annotated)

    def name(self, index):
        return f"frame{index}"

    def size(self, index):
        return self._sizes[index]

    def image(self, index):
        rng = np.random.default_rng([index, 0])
        return torch.from_numpy(rng.integers(0, 256, (3, *self._sizes[index]), dtype=np.uint8))

    def labels(self, index):
        values = np.random.default_rng([index, 1]).integers(
            0, len(self.classes) + 1, self._sizes[index], dtype=np.uint8
        )
        return torch.from_numpy(np.where(values == len(self.classes), VOID, values).astype(np.uint8))


def chain(space="video_cell"):
    """A cell whose layers form a chain that takes all inputs."""
    rows = [
        ("C3", "prev_dec", "sep3x3", "skip", "sum"),
        ("prev_C5", "C5", "skip", "gap", "conv3d"),
        ("c1", "C4", "skip", "sep3x3_dil3", "concat"),
        ("c3", "c2", "skip", "skip", "sum"),
        ("c4", "C3", "skip", "skip", "attention"),
    ]
    space = search_spaces.get(space)
    return space.from_named(dict(zip((choice.name for choice in space.choices), itertools.chain(*rows), strict=False)))


def shaken(module):
    """The module with every parameter moved away from its start, so that its outputs are far from constant."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
    return module


def apart(found, expected):
    """The largest difference, in standard deviations of what is expected over the positions of its map."""
    return float(((found - expected).abs().amax((-2, -1)) / expected.std((-2, -1))).max())


DATA = Noise([9, 8, 7, 9])


def make(cache_dir, data=DATA, space="video_cell", changes=None, **options):
    """A task on data in memory."""
    options = TaskOptions(cache_dir=str(cache_dir), overrides=TINY | (changes or {}), **options)
    task = proxy_tasks.make("video", search_spaces.get(space), options)
    task.open_data = lambda: data
    return task


def prepared(cache_dir, progress=lambda *n: None, **options):
    task = make(cache_dir, **options)
    task.prepare(progress)
    return task


def sample(task, seed=0):
    return task.space.sample(np.random.default_rng(seed))
