"""Cityscapes: driving scenes in 50 cities (Cordts et al., The Cityscapes Dataset, CVPR 2016)."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from proxy_tasks.data.video.base import VOID
from proxy_tasks.data.video.files import INVALID, FileVideoDataset, Frame
from search_spaces import InputError

__all__ = ["Cityscapes"]

NAME = re.compile(r"([^_]+_\d+)_(\d+)")
IMAGE, LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"
LAST_ID = 33
# fmt: off
IDS = {  # the label ids that count, in the order of the training ids
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}
# fmt: on


def _label_map() -> np.ndarray:
    """Training ids of the label ids; 255 is how a file stores the id -1 (licence plate)."""
    mapping = np.full(256, INVALID, np.uint8)
    mapping[[*range(LAST_ID + 1), 255]] = VOID
    mapping[list(IDS)] = range(len(IDS))
    return mapping


class Cityscapes(FileVideoDataset):
    """A folder with ``leftImg8bit/``, ``leftImg8bit_sequence/`` and ``gtFine/``; in each ``train/CITY``, ``val/CITY``.

    A clip is an annotated frame, ``gtFine/*_gtFine_labelIds.png`` and ``leftImg8bit/*_leftImg8bit.png``, after those
    before it that make a sequence with it (the published one has two frames, so that is one), from
    ``leftImg8bit_sequence``; where no sequences are asked for, it is the annotated frame alone.
    The labels of the test set are not public: ``"test"`` reads ``val`` as the papers do. Values in label files are
    checked when they are decoded, not before: a file is large.
    """

    layout = "Cityscapes"
    looks_for = "leftImg8bit/ or gtFine/"
    sequence_length, sparse = 2, True
    classes = tuple(IDS.values())
    # fmt: off
    palette = (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
        (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
        (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    )
    # fmt: on
    label_map = _label_map()

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """Whether ``root`` holds the images or the labels."""
        return (root / "leftImg8bit").is_dir() or (root / "gtFine").is_dir()

    def read(self, root: Path, subset: str) -> list[Frame]:
        """See `FileVideoDataset.read`."""
        part = "val" if subset == "test" else subset
        images, labels = _files(root, "leftImg8bit", part, IMAGE), _files(root, "gtFine", part, LABELS)
        for name in sorted(images.keys() ^ labels.keys()):
            if name in images:
                raise InputError(f"the image {images[name]} has no label file {root / 'gtFine' / part / name}{LABELS}")
            raise InputError(f"the label file {labels[name]} has no image {root / 'leftImg8bit' / part / name}{IMAGE}")
        return [_frame(images[name], labels[name]) for name in images]

    def read_for_sequences(self, root: Path, subset: str, frames: Sequence[Frame]) -> list[Frame]:
        """The frames before every annotated one, as far as a sequence reaches and as they are not annotated too."""
        known = {(frame.recording, frame.number) for frame in frames}
        folder = _folder(root, "leftImg8bit_sequence", "val" if subset == "test" else subset)
        found: list[Frame] = []
        for frame in frames:
            for steps in range(1, self.sequence_length):
                if (frame.recording, frame.number - steps) not in known:
                    found.append(_before(frame, steps, folder))
                    known.add((frame.recording, frame.number - steps))
        return found


def _folder(root: Path, package: str, part: str) -> Path:
    folder = root / package / part
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; download Cityscapes' package {package}_trainvaltest")
    return folder


def _files(root: Path, package: str, part: str, suffix: str) -> dict[str, Path]:
    """The files with the given suffix by ``CITY/NAME``, the name without the suffix."""
    paths = sorted(_folder(root, package, part).glob(f"[!.]*/[!.]*{suffix}"))
    return {f"{path.parent.name}/{path.name.removesuffix(suffix)}": path for path in paths}


def _frame(image: Path, labels: Path) -> Frame:
    name = image.name.removesuffix(IMAGE)
    match = NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{image}: a frame is called CITY_SEQUENCE_FRAME, as aachen_000000_000019, got {name!r}")
    return Frame(match[1], int(match[2]), name, image, labels)


def _before(frame: Frame, steps: int, folder: Path) -> Frame:
    """The frame so many steps before an annotated one, without labels."""
    number = frame.number - steps
    name = f"{frame.recording}_{number:06d}"
    image = folder / frame.image.parent.name / f"{name}{IMAGE}"
    if not image.is_file():
        which, otherwise = (
            (f"frame {steps}", ", or lower the setting 'sequence_length'") if steps > 1 else ("frame", "")
        )
        raise InputError(
            f"the {which} before {frame.image} is missing, {image}; download Cityscapes' package "
            f"leftImg8bit_sequence_trainvaltest{otherwise}"
        )
    return Frame(frame.recording, number, name, image, None)
