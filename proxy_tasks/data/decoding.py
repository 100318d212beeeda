"""Image files: what their headers say, their pixels, and many of them at once."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from proxy_tasks.cpus import usable_cpus
from search_spaces import InputError

__all__ = [
    "MODES",
    "decode",
    "decode_image",
    "in_threads",
    "read_header",
]

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel, so RGB loses nothing


def read_header(path: Path, subject: str) -> tuple[tuple[int, int], str, int]:
    """What an image file's header says; ``subject`` names the file in messages: ``"the image a.png"``.

    Returns:
        width and height in pixels, Pillow's mode, the file's length in bytes.

    Raises:
        InputError: the file is missing or is no image.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            return image.size, image.mode, os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise InputError(f"{subject} is missing") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{subject} cannot be read: {error}") from error


def decode(path: Path, size: tuple[int, int], subject: str, mode: str | None = "RGB") -> np.ndarray:
    """An image file's pixels, uint8 (H, W, 3) for the mode ``"RGB"``; None keeps the file's own mode.

    Args:
        path: the file.
        size: width and height when the dataset was opened.
        subject: names the file in messages: ``"the image a.png"``.
        mode: Pillow's mode to convert to.

    Raises:
        InputError: the file is damaged, or its size is no longer ``size``.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert(mode) if mode else image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{subject} cannot be decoded: {error}") from error
    if pixels.shape[1::-1] != size:
        raise InputError(f"{subject} has changed its size since the dataset was opened")
    return pixels


def decode_image(path: Path, size: tuple[int, int]) -> Tensor:
    """The image, uint8 (3, H, W), RGB; arguments and errors are those of `decode`."""
    return torch.from_numpy(decode(path, size, f"the image {path}")).permute(2, 0, 1).contiguous()


def in_threads(function: Callable[[Any], Any], items: Any) -> list[Any]:
    """``function`` of each of ``items`` in order, by as many threads as there are processors to use."""
    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(pool.map(function, items))
