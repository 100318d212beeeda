"""Images as networks take them: ImageNet's mean and deviation, and the colour of padding."""

import torch
from torch import Tensor

__all__ = [
    "IMAGE_MEAN",
    "IMAGE_STD",
    "PADDING",
    "normalise",
]

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PADDING = [round(255 * value) for value in IMAGE_MEAN]  # red, green, blue of what an image lacks: 0 once normalised


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to float32, ImageNet-normalised as torchvision's detectors do, channels last."""
    mean, std = (torch.tensor(value, device=images.device).view(1, 3, 1, 1) for value in (IMAGE_MEAN, IMAGE_STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
