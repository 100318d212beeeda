"""A few clips of a dataset, to compare two runtimes on."""

from pathlib import Path

import torch
from torch import Tensor

from proxy_tasks.data.video import open_video
from proxy_tasks.images import beside_mirror_image

__all__ = ["samples"]


def samples(data: str | Path | None, count: int) -> tuple[list[Tensor], str]:
    """The first two test frames of a dataset's clips, each beside its mirror image.

    Args:
        data: the dataset's folder; None is the built-in one.
        count: how many clips at most.

    Returns:
        tensors float32 (2, 2, 3, H, W) from 0 to 1 (frame; image and mirror image), each of its own size; and what they
        are, in words.

    Raises:
        InputError: bad data.
    """
    video = open_video(data, "test", sequence_length=2)
    pairs = [(clip[0], clip[min(1, len(clip) - 1)]) for clip in video.clips[:count]]
    frames = [torch.stack([video.image(first), video.image(second)]) for first, second in pairs]
    clips = [beside_mirror_image(pair) for pair in frames]
    return clips, f"{len(clips)} clips of {video.layout} and their mirror images"
