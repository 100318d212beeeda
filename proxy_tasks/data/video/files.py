"""What every video dataset on disk shares: clips from frame numbers, checks of images and label files, the fingerprint.

A reader of a layout only lists its `Frame`s; `FileVideoDataset` checks them.
"""

import hashlib
import json
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from statistics import multimode

import numpy as np
import torch
from torch import Tensor

from proxy_tasks.data.decoding import MODES, decode, decode_image, in_threads, read_header
from proxy_tasks.data.video.base import VideoDataset, check_video_subset
from search_spaces import InputError

__all__ = ["INVALID", "FileVideoDataset", "Frame", "find_clips"]

TAIL = 1024  # bytes: the end mark of a PNG file, and what some programs append to it

INVALID = 254
"""Marks the values in `FileVideoDataset.label_map` that a label file may not hold."""


@dataclass(frozen=True, slots=True, order=True)
class Frame:
    """One frame as a reader found it; frames sort by recording and number.

    Args:
        recording: the video it is from.
        number: its place in that video; equal steps are equal times.
        name: unique in the dataset.
        image: the image file.
        labels: the label file, None where the frame is not annotated.
    """

    recording: str
    number: int
    name: str
    image: Path
    labels: Path | None


def find_clips(frames: Sequence[Frame]) -> tuple[tuple[int, ...], ...]:
    """Cuts sorted ``frames`` into runs of consecutive ones, given as positions.

    Two neighbours of one recording are consecutive if their numbers differ by the step that is the most frequent
    there, give or take a tenth (CamVid has a frame 901 between 870 and 930). Which step that is differs: CamVid
    annotates one recording at steps of 30 in its training set and of 2 in its validation set.
    """
    clips: list[list[int]] = []
    for _, group in groupby(range(len(frames)), key=lambda position: frames[position].recording):
        positions = list(group)
        steps = [frames[later].number - frames[earlier].number for earlier, later in pairwise(positions)]
        usual = min(multimode(steps), default=0)
        clips.append(positions[:1])
        for position, step in zip(positions[1:], steps, strict=True):
            if abs(step - usual) > usual // 10:
                clips.append([])
            clips[-1].append(position)
    return tuple(map(tuple, clips))


class FileVideoDataset(VideoDataset):
    """A video dataset on disk; a layout of its own is a subclass with the attributes below, `recognise` and `read`.

    Args:
        root: the folder.
        subset: ``"train"``, ``"val"`` or ``"test"``.
        sequences: whether sequences are asked for, see `open_video`.
        sequence_length: see `open_video`; None is the layout's own.

    Raises:
        InputError: anything wrong with the files, found by their headers; no frame; or, where sequences are asked for,
            no clip as long as one.
    """

    looks_for: str
    """The files by which the layout is recognised, in words, for messages."""

    label_map: np.ndarray
    """uint8 (256,): the class of each value in a label file, `VOID` or `INVALID`."""

    def __init__(
        self, root: str | Path, subset: str = "train", sequences: bool = True, sequence_length: int | None = None
    ):
        self.root, self.subset = str(root), check_video_subset(subset)
        self.sequence_length = sequence_length or self.sequence_length
        frames = self.read(Path(root), subset)
        if sequences:
            frames = [*frames, *self.read_for_sequences(Path(root), subset, frames)]
        self._frames = sorted(frames)
        if not self._frames:
            raise InputError(f"{root}: its {subset} set has no images; a dataset needs at least one")
        for earlier, later in pairwise(self._frames):
            if (earlier.recording, earlier.number) == (later.recording, later.number):
                raise InputError(f"{later.image} and {earlier.image} are the same frame; a frame has one image")
        self.annotated = np.array([frame.labels is not None for frame in self._frames])
        self.clips = find_clips(self._frames)
        checked = in_threads(_check, self._frames)
        self._sizes = [size for size, _ in checked]
        self._check_sizes()
        if sequences:
            self.check_sequences(subset)
        head = [self.layout, subset, self.classes, self.label_map.tolist(), self.clips, [frame[1] for frame in checked]]
        self.fingerprint = hashlib.sha256(json.dumps(head).encode()).hexdigest()

    @classmethod
    @abstractmethod
    def recognise(cls, root: Path) -> bool:
        """Whether the folder ``root`` has this layout."""

    @abstractmethod
    def read(self, root: Path, subset: str) -> list[Frame]:
        """The subset's frames, in any order; raises `InputError` where the files break the layout's rules."""

    def read_for_sequences(self, root: Path, subset: str, frames: Sequence[Frame]) -> list[Frame]:
        """Further frames, without labels, that only sequences need; none unless a layout says otherwise.

        Args:
            root: the folder.
            subset: as in `read`.
            frames: what `read` gave.
        """
        return []

    def __len__(self) -> int:
        return len(self._frames)

    def name(self, index: int) -> str:
        """See `VideoDataset.name`."""
        return self._frames[index].name

    def size(self, index: int) -> tuple[int, int]:
        """See `VideoDataset.size`."""
        width, height = self._sizes[index]
        return height, width

    def image(self, index: int) -> Tensor:
        """See `VideoDataset.image`."""
        return decode_image(self._frames[index].image, self._sizes[index])

    def labels(self, index: int) -> Tensor:
        """See `VideoDataset.labels`."""
        path = self._frames[index].labels
        if path is None:
            raise ValueError(f"frame {self.name(index)} has no labels")
        values = decode(path, self._sizes[index], f"the label file {path}", mode=None)
        mapped = self.label_map[values]
        wrong = mapped == INVALID
        if wrong.any():
            (y, x), known = np.argwhere(wrong)[0], _spans(np.flatnonzero(self.label_map != INVALID))
            raise InputError(f"{path}: the pixel x {x}, y {y} has the value {values[y, x]}; a label is one of {known}")
        return torch.from_numpy(mapped)

    def _check_sizes(self) -> None:
        for first, index in ((clip[0], index) for clip in self.clips for index in clip):
            if self._sizes[index] != self._sizes[first]:
                (w, h), (first_w, first_h) = self._sizes[index], self._sizes[first]
                raise InputError(
                    f"the image {self._frames[index].image} has {w} x {h} pixels, {self._frames[first].image} of the "
                    f"same clip has {first_w} x {first_h}"
                )


def _check(frame: Frame) -> tuple[tuple[int, int], list[object]]:
    """The frame's width and height, and what the fingerprint takes of it."""
    subject = f"the image {frame.image}"
    size, mode, file_bytes = read_header(frame.image, subject)
    _check_end(frame.image, subject)
    if mode not in MODES:
        raise InputError(f"{subject} has pixels of mode {mode}; 8 bits a channel are read")
    if frame.labels is None:
        return size, [frame.name, size, file_bytes]
    subject = f"the label file {frame.labels}"
    label_size, mode, _ = read_header(frame.labels, subject)
    _check_end(frame.labels, subject)
    if mode not in ("L", "P"):
        raise InputError(
            f"{subject} has pixels of mode {mode}; labels are class numbers in one channel of 8 bits (mode L or P), "
            "not colours"
        )
    if label_size != size:
        (w, h), (label_w, label_h) = size, label_size
        raise InputError(f"{subject} has {label_w} x {label_h} pixels, its image {frame.image} has {w} x {h}")
    return size, [frame.name, size, file_bytes, zlib.crc32(frame.labels.read_bytes())]


def _check_end(path: Path, subject: str) -> None:
    """Finds a PNG file that was not written or copied to its end, without decoding it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        if path.suffix.lower() == ".png" and b"IEND" not in file.read():
            raise InputError(f"{subject} is truncated; copy or download it again")


def _spans(values: np.ndarray) -> str:
    """Sorted whole numbers in words: ``0 to 33, 255``."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
