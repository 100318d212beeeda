"""Images to compare runtimes on: those of the user's data, or the built-in ones."""

from pathlib import Path

import torch
from torch import Tensor

from proxy_tasks.data import open_dataset
from proxy_tasks.data.video import open_video

__all__ = ["CLIPS", "clips_of"]

CLIPS = 3


def clips_of(proxy_task: str | None, data: str | Path | None) -> tuple[list[Tensor], str]:
    """The first images of a dataset as clips of two frames, each beside its mirror image.

    Args:
        proxy_task: ``video`` reads a video dataset's test frames, anything else a detection dataset's test images.
        data: the dataset's folder; None is the built-in one.

    Returns:
        up to `CLIPS` tensors float32 (2, 2, 3, H, W) from 0 to 1 (frame, image and mirror image), each of its own size,
        and what they are, in words.

    Raises:
        InputError: bad data.
    """
    if proxy_task == "video":
        video = open_video(data, "test")
        pairs = [(clip[0], clip[min(1, len(clip) - 1)]) for clip in video.clips[:CLIPS]]
        frames = [torch.stack([video.image(first), video.image(second)]) for first, second in pairs]
        layout = video.layout
    else:
        images = open_dataset(data, "test")
        frames = [torch.stack([images[i][0]] * 2) for i in range(min(CLIPS, len(images)))]
        layout = images.layout
    clips = [torch.stack([pair, pair.flip(-1)], dim=1).float() / 255 for pair in frames]
    return clips, f"{len(clips)} {'clips' if proxy_task == 'video' else 'images'} of {layout} and their mirror images"
