"""One's own video with classes: folders of frames, label files beside them, and a list of the classes.

This is how VSPW (Miao et al., CVPR 2021) and the segmentation set of BDD100K can be laid out, and any camera's frames.
"""

import re
from pathlib import Path

import numpy as np

from proxy_tasks.data.video.base import VOID
from proxy_tasks.data.video.files import INVALID, FileVideoDataset, Frame
from search_spaces import InputError

__all__ = ["FramesFolder", "colours"]

SUFFIXES = (".png", ".jpg", ".jpeg")
NUMBER = re.compile(r"(\d+)$")


class FramesFolder(FileVideoDataset):
    """A folder with ``classes.txt``, ``images/`` and ``labels/``; in both of these ``train/``, ``val/`` and ``test/``.

    ``classes.txt`` has a class a line; the first is the value 0 in label files, 255 is void. In a subset every folder
    is a recording of frames, PNG or JPEG, whose names end in their number: ``images/train/drive/000120.jpg``. Frames
    may lie in the subset's folder itself, as one recording. A label file is the PNG of the same place and name in
    ``labels/``; a frame without one is not annotated. Where there is no ``images/test``, ``"test"`` reads ``val``.
    """

    layout = "folders of frames"
    looks_for = "classes.txt, images/ and labels/"
    sequence_length = 3

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """Whether ``root`` holds these three."""
        folders = (root / "images", root / "labels")
        return (root / "classes.txt").is_file() and all(folder.is_dir() for folder in folders)

    def read(self, root: Path, subset: str) -> list[Frame]:
        """See `FileVideoDataset.read`."""
        self.classes = _classes(root / "classes.txt")
        self.palette = colours(len(self.classes))
        values = [*range(len(self.classes))]
        self.label_map = np.full(256, INVALID, np.uint8)
        self.label_map[values], self.label_map[VOID] = values, VOID
        if subset == "test" and not (root / "images" / "test").is_dir():
            subset = "val"
        images, labels = (_files(root / kind / subset) for kind in ("images", "labels"))
        for place in sorted(labels.keys() - images.keys()) if images else []:
            raise InputError(f"the label file {labels[place]} has no image {root / 'images' / subset / place}.*")
        return [_frame(place, image, labels.get(place)) for place, image in images.items()]


def _classes(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    classes = tuple(line for line in lines if line)
    if not classes or len(set(classes)) < len(classes) or len(classes) > INVALID:
        raise InputError(f"{path} must name each class once, a line each, from 1 to {INVALID} of them, got {classes}")
    return classes


def _files(folder: Path) -> dict[str, Path]:
    """The image files under a folder by their place in it, without suffix."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            place = path.relative_to(folder).with_suffix("").as_posix()
            if place in found:
                raise InputError(f"{path} and {found[place]} are the same frame; a frame has one file")
            found[place] = path
    return found


def _frame(place: str, image: Path, labels: Path | None) -> Frame:
    recording, _, name = place.rpartition("/")
    number = NUMBER.search(name)
    if number is None:
        raise InputError(f"{image}: the name of a frame ends in its number, as 000120, got {name!r}")
    if labels is not None and labels.suffix.lower() != ".png":
        raise InputError(f"the label file {labels} must be a PNG: JPEG changes the classes' numbers")
    start = name[: number.start()]
    return Frame(f"{recording}/{start}" if start else recording, int(number[1]), place.replace("/", "-"), image, labels)


def colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Colours far from each other, as Pascal VOC numbers them: the bits of 1, 2, … go round red, green and blue."""
    numbers = np.arange(1, count + 1)
    bits = (numbers[:, None] >> np.arange(24)) & 1  # the lowest bit is red's highest
    channels = [(bits[:, channel::3] << np.arange(7, -1, -1)).sum(axis=1) for channel in range(3)]
    return tuple((int(red), int(green), int(blue)) for red, green, blue in zip(*channels, strict=True))
