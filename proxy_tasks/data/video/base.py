"""The video datasets' contract: what one is, wherever its frames come from.

Notation: a *frame* is one image of H x W pixels; a *clip* is a run of consecutive frames of one recording; a *sequence*
is a window of ``sequence_length`` consecutive frames of one clip. Labels are class numbers from 0; `VOID` marks the
pixels that belong to no class and that training and measurement leave out.
"""

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from proxy_tasks.data.decoding import in_threads
from search_spaces import InputError

__all__ = ["VIDEO_SUBSETS", "VOID", "VideoDataset", "check_video_subset"]

VOID = 255
"""The label of a pixel without a class."""

VIDEO_SUBSETS = ("train", "val", "test")


def check_video_subset(subset: str) -> str:
    """``subset`` itself; raises `InputError` where it is none of `VIDEO_SUBSETS`."""
    if subset not in VIDEO_SUBSETS:
        raise InputError(f"a video dataset has the subsets {', '.join(VIDEO_SUBSETS)}, got {subset!r}")
    return subset


class VideoDataset(ABC):
    """Frames with a class for every pixel, opened and checked. Frames are numbered from 0 in the order of their clips.

    Attributes:
        layout: how the data lies on disk, in words: ``"CamVid"``.
        root: the folder, as given.
        classes: the names that the labels count, the same for every subset.
        palette: the colour of each class, RGB, 0 to 255, as the dataset's authors draw it.
        fingerprint: hex digest of what the data is: frames (name, size in bytes and pixels), clips, classes, and the
            label files' bytes. It does not depend on where the folder lies.
        sequence_length: frames of a sequence; the class has the published number, an instance what it was opened with.
        sparse: whether single frames are annotated, far from each other. A sequence then ends in one of them, and those
            between its first and its last frame need no labels.
        clips: the frames' numbers, clip by clip; consecutive frames only, never across the end of a recording or a gap
            in it. Every frame is in one clip, which may be of one frame.
        annotated: bool (frames,), whether the frame has labels.
    """

    layout: str
    root: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    fingerprint: str
    sequence_length: int
    sparse: bool = False
    clips: tuple[tuple[int, ...], ...]
    annotated: np.ndarray

    @abstractmethod
    def __len__(self) -> int:
        """The number of frames."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of a frame, unique in the dataset: ``0001TP_006690``."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Height and width of a frame in pixels, the same throughout a clip."""

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """A frame, uint8 (3, H, W), RGB; raises `InputError` where its file cannot be decoded."""

    @abstractmethod
    def labels(self, index: int) -> Tensor:
        """The labels of an annotated frame, uint8 (H, W), classes from 0 and `VOID`.

        Raises:
            InputError: the label file cannot be decoded, or has a value that stands for nothing.
            ValueError: the frame is not annotated.
        """

    def describe(self) -> str:
        """One line: ``CamVid, 367 frames in 5 clips, 11 classes``."""
        clips = "1 clip" if len(self.clips) == 1 else f"{len(self.clips)} clips"
        return f"{self.layout}, {len(self)} frames in {clips}, {len(self.classes)} classes"

    def sequences(self) -> np.ndarray:
        """Every sequence to learn from: int64 (n, sequence_length), the frames' numbers in order.

        These are all windows (stride 1) within a clip whose frames after the first are annotated, or of a ``sparse``
        dataset whose last is: the static network alone sees the first one.
        """
        length = self.sequence_length
        windows = [clip[start : start + length] for clip in self.clips for start in range(len(clip) - length + 1)]
        found = np.array(windows, np.int64).reshape(-1, length)
        learned = found[:, -1:] if self.sparse else found[:, 1:]
        return found[self.annotated[learned].all(1)]

    def check_sequences(self, subset: str) -> None:
        """Raises `InputError` where the frames, those of ``subset``, have no sequence."""
        if not len(self.sequences()):
            raise InputError(
                f"{self.root}: its {subset} set has no run of {self.sequence_length} consecutive frames, which a"
                f" sequence needs (setting 'sequence_length'); the longest is of {max(map(len, self.clips))}"
            )

    def verify(self) -> None:
        """Decodes every image and every label file once, in threads; raises `InputError` at the first bad one."""
        in_threads(self.image, range(len(self)))
        in_threads(self.labels, np.flatnonzero(self.annotated))
