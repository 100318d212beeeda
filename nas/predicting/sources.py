"""Where images come from: a file, a folder, a video, a camera."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from proxy_tasks.data.decoding import MODES
from search_spaces import InputError

__all__ = ["Frame", "Source", "opened", "video_library"]

IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
CAMERAS = {"linux": ("/dev/video{}", "v4l2"), "darwin": ("{}", "avfoundation"), "win32": ("video={}", "dshow")}


@dataclass(frozen=True)
class Frame:
    """An image and the name of what is written of it."""

    name: str
    image: Tensor


@dataclass(frozen=True)
class Source:
    """Images in order.

    Args:
        frames: each uint8 (3, H, W), RGB; read as they are asked for.
        count: how many they are; None where that is not known.
        rate: frames a second, of a video or a camera; None of images.
        name: of what is written of a video.
    """

    frames: Iterator[Frame]
    count: int | None
    rate: Fraction | None
    name: str = ""


@contextmanager
def opened(what: str) -> Iterator[Source]:
    """Opens a source, and closes it.

    Args:
        what: an image file, a folder of images (in the order of their names), a video file, or a camera's number.

    Raises:
        InputError: there is no such thing, or it cannot be decoded.
    """
    if not what:
        raise InputError("the input is an empty text; it must be an image, a folder, a video or a camera's number")
    path = Path(what)
    if what.isdecimal() and not path.exists():
        with _video(*_camera(int(what)), name=f"camera{what}") as source:
            yield source
    elif path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES and _shown(file))
        if not files:
            raise InputError(f"{path} has no images; {', '.join(sorted(IMAGES))} are read")
        yield Source((Frame(file.name, _image(file)) for file in files), len(files), None)
    elif path.suffix.lower() in IMAGES:
        yield Source(iter([Frame(path.name, _image(path))]), 1, None)
    elif path.is_file():
        with _video(str(path), None, name=path.stem) as source:
            yield source
    else:
        raise InputError(f"there is no image, folder, video or camera {what!r}")


def _shown(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")


def _image(path: Path) -> Tensor:
    """An image file as it is meant to be seen: turned as its EXIF data say, RGB."""
    try:
        with Image.open(path) as image:
            mode = image.mode
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"there is no image {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"the image {path} cannot be decoded: {error}") from error
    if mode not in MODES:  # to convert it would make it all white, or all black
        raise InputError(f"the image {path} has pixels of mode {mode}; 8 bits a channel are read")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def video_library() -> Any:
    """PyAV; raises `InputError` that says how to install it."""
    try:
        import av
    except ImportError as error:
        raise InputError("videos and cameras need PyAV; pip install dense-nas[video]") from error
    return av


def _camera(number: int) -> tuple[str, str]:
    device, system = CAMERAS.get(sys.platform, CAMERAS["linux"])
    return device.format(number), system


@contextmanager
def _video(file: str, system: str | None, name: str) -> Iterator[Source]:
    av = video_library()
    try:
        container = av.open(file, format=system)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"the video {file} cannot be opened: {_said(error)}") from error
    with container:
        if not container.streams.video:
            raise InputError(f"{file} has no pictures in it, only {len(container.streams)} other streams")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        yield Source(_decoded(container, stream, file, name), stream.frames or None, Fraction(rate), name)


def _decoded(container: Any, stream: Any, file: str, name: str) -> Iterator[Frame]:
    av, number = video_library(), 0
    try:
        for number, frame in enumerate(container.decode(stream)):
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).contiguous()
            yield Frame(f"{name}-{number:06d}", pixels)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"the video {file} cannot be decoded after frame {number}: {_said(error)}") from error


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
