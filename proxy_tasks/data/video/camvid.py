"""CamVid: driving scenes (Brostow et al., Semantic object classes in video, PRL 2009), in the layout of SegNet."""

import re
from pathlib import Path

import numpy as np

from proxy_tasks.data.video.base import VIDEO_SUBSETS, VOID
from proxy_tasks.data.video.files import INVALID, FileVideoDataset, Frame
from search_spaces import InputError

__all__ = ["CamVid"]

NAME = re.compile(r"(.+)_[A-Za-z]*(\d+)")
SUFFIXES = (".png", ".jpg", ".jpeg")


class CamVid(FileVideoDataset):
    """A folder with ``train/`` and ``trainannot/``, ``val/`` and ``valannot/``, ``test/`` and ``testannot/``.

    Images are PNG or JPEG files, and each has a label file of its name in PNG, of class numbers 0 to 10 and 11 for
    void. A name is ``RECORDING_NUMBER``, whatever letters come before the number: ``0001TP_006690``,
    ``0006R0_f00930``. Every frame is annotated. Opening decodes every file once, a second's work for the whole set.
    """

    layout = "CamVid"
    looks_for = "trainannot/, valannot/ or testannot/"
    sequence_length = 3
    # fmt: off
    classes = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
    )
    palette = (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    )
    # fmt: on
    label_map = np.array([*range(len(classes)), VOID] + [INVALID] * (255 - len(classes)), np.uint8)

    def __init__(
        self, root: str | Path, subset: str = "train", sequences: bool = True, sequence_length: int | None = None
    ):
        super().__init__(root, subset, sequences, sequence_length)
        self.verify()

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """Whether ``root`` holds the labels of at least one subset."""
        return any((root / f"{subset}annot").is_dir() for subset in VIDEO_SUBSETS)

    def read(self, root: Path, subset: str) -> list[Frame]:
        """See `FileVideoDataset.read`."""
        images, labels = (_files(root / folder) for folder in (subset, f"{subset}annot"))
        for name in sorted(images.keys() ^ labels.keys()):
            if name in images:
                raise InputError(f"the image {images[name]} has no label file {root / f'{subset}annot' / name}.png")
            raise InputError(f"the label file {labels[name]} has no image of its name in {root / subset}")
        return [_frame(name, images[name], labels[name]) for name in images]


def _files(folder: Path) -> dict[str, Path]:
    """The images in a folder by their names without suffix."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; a subset of CamVid has one of images and one of labels")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise InputError(f"{path} and {found[path.stem]} are the same frame; a frame has one file")
            found[path.stem] = path
    return found


def _frame(name: str, image: Path, labels: Path) -> Frame:
    match = NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{image}: a frame is called RECORDING_NUMBER, as 0001TP_006690, got {name!r}")
    return Frame(match[1], int(match[2]), name, image, labels)
