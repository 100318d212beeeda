"""Images as networks take them: ImageNet's mean and deviation, and the colour of padding."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "IMAGE_MEAN",
    "IMAGE_STD",
    "PADDING",
    "STRIDE",
    "beside_mirror_image",
    "detector_input",
    "normalise",
    "pad_to_stride",
    "padded",
]

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PADDING = [round(255 * value) for value in IMAGE_MEAN]  # red, green, blue of what an image lacks: 0 once normalised
STRIDE = 128  # that of P7, a detector's coarsest map; inputs are multiples of it, so that all maps' strides are exact


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to float32, ImageNet-normalised as torchvision's detectors do, channels last."""
    mean, std = (torch.tensor(value, device=images.device).view(1, 3, 1, 1) for value in (IMAGE_MEAN, IMAGE_STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def padded(side: int) -> int:
    """A side in pixels, made a multiple of `STRIDE`."""
    return (side + STRIDE - 1) // STRIDE * STRIDE  # ONNX divides negative numbers towards zero


def pad_to_stride(images: Tensor) -> Tensor:
    """(B, 3, H, W) with zeros on the right and at the bottom, so that both sides are multiples of `STRIDE`.

    An exporter with free sizes sees that they are multiples, hence plain products in place of roundings in the sizes
    of all maps, which halves the time that it takes.
    """
    height, width = images.shape[-2:]
    return F.pad(images, (0, padded(width) - width, 0, padded(height) - height))


def detector_input(images: Tensor) -> Tensor:
    """As `normalise`, then `pad_to_stride`."""
    return pad_to_stride(normalise(images)).contiguous(memory_format=torch.channels_last)


def beside_mirror_image(frames: Tensor) -> Tensor:
    """Frames (T, 3, H, W) uint8, each beside its mirror image: (T, 2, 3, H, W) float32 from 0 to 1."""
    return torch.stack([frames, frames.flip(-1)], dim=1).float() / 255
