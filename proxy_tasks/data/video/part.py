"""Some frames of a video dataset as a dataset of their own."""

import hashlib
import json
from collections.abc import Iterable
from itertools import groupby

import numpy as np
from torch import Tensor

from proxy_tasks.data.video.base import VideoDataset

__all__ = ["Part"]


class Part(VideoDataset):
    """Some frames of ``whole``, numbered anew from 0 in the order in which they were.

    Where a frame is left out the clip is cut in two. So the sequences of a part are those of the whole all of whose
    frames are in the part.

    Args:
        whole: the dataset that the frames are of.
        frames: the numbers of the frames in ``whole``, in any order.
    """

    def __init__(self, whole: VideoDataset, frames: Iterable[int]):
        self._whole = whole
        self.numbers = np.array(sorted(frames), np.int64)
        """For each frame of this part, its number in the whole."""
        self.layout, self.root, self.classes, self.palette = whole.layout, whole.root, whole.classes, whole.palette
        self.sequence_length, self.sparse = whole.sequence_length, whole.sparse
        self.annotated = whole.annotated[self.numbers]
        self.clips = tuple(run for clip in whole.clips for run in self._runs(clip))
        content = json.dumps([whole.fingerprint, self.numbers.tolist()])
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

    def _runs(self, clip: tuple[int, ...]) -> list[tuple[int, ...]]:
        """What is left of a clip of the whole, in this part's numbers: one clip more wherever frames are left out."""
        own = {int(number): place for place, number in enumerate(self.numbers)}
        runs = groupby(clip, key=own.__contains__)
        return [tuple(own[number] for number in run) for here, run in runs if here]

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        """See `VideoDataset.name`."""
        return self._whole.name(int(self.numbers[index]))

    def size(self, index: int) -> tuple[int, int]:
        """See `VideoDataset.size`."""
        return self._whole.size(int(self.numbers[index]))

    def image(self, index: int) -> Tensor:
        """See `VideoDataset.image`."""
        return self._whole.image(int(self.numbers[index]))

    def labels(self, index: int) -> Tensor:
        """See `VideoDataset.labels`."""
        return self._whole.labels(int(self.numbers[index]))
