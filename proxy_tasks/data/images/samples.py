"""A few images of a dataset, to compare two runtimes on."""

from pathlib import Path

import torch
from torch import Tensor

from proxy_tasks.data.images import open_dataset
from proxy_tasks.images import beside_mirror_image

__all__ = ["samples"]


def samples(data: str | Path | None, count: int) -> tuple[list[Tensor], str]:
    """The first test images of a dataset, each twice, as a clip of two equal frames, beside its mirror image.

    Args:
        data: the dataset's folder; None is the built-in one.
        count: how many at most.

    Returns:
        tensors float32 (2, 2, 3, H, W) from 0 to 1 (frame; image and mirror image), each of its own size; and what they
        are, in words.

    Raises:
        InputError: bad data.
    """
    images = open_dataset(data, "test")
    pairs = [torch.stack([images[index][0]] * 2) for index in range(min(count, len(images)))]
    clips = [beside_mirror_image(pair) for pair in pairs]
    return clips, f"{len(clips)} images of {images.layout} and their mirror images"
