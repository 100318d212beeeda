"""What trials of the video task read: the two sides of the split, and the static network with its outputs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from proxy_tasks.data.video.base import VOID
from proxy_tasks.rows import Numbers
from proxy_tasks.video.frames import Frames, StaticOutputs
from proxy_tasks.video.static_network import StaticNetwork

__all__ = ["Prepared", "Side"]


@dataclass(frozen=True)
class Side:
    """Meta-train or meta-val, with all that the static network gives for it.

    Args:
        frames: the images and labels, at the size of the frames.
        outputs: the static network's maps and the labels at their stride, for the same frames.
        sequences: int64 (n, T), the numbers of each sequence's frames.
    """

    frames: Frames
    outputs: StaticOutputs
    sequences: np.ndarray

    @property
    def void(self) -> bool:
        """Whether no pixel of a frame after the first has a class, at the size of ``dec``."""
        return bool((self.outputs["small_labels"][self.sequences[:, 1:].reshape(-1)] == VOID).all())

    def unrolled(self, cell: nn.Module, classifier: nn.Module, sequences: Numbers) -> Iterator[Tensor]:
        """Class scores (B, C, h, w) of every frame after the first, the cell's output being the next frame's ``dec``.

        Args:
            cell: see `search_spaces.video.cell.DynamicCell`.
            classifier: the static network's.
            sequences: int64 (B, T), the numbers of their frames.
        """
        state = self.outputs.maps(("C5", "dec"), sequences[:, 0])
        for t in range(1, sequences.shape[1]):
            current = self.outputs.maps(("C3", "C4", "C5"), sequences[:, t])
            state = {"C5": current["C5"], "dec": cell(current, state)}
            yield classifier(state["dec"])

    def per_frame(self, classifier: nn.Module, sequences: Numbers) -> Iterator[Tensor]:
        """As `unrolled`, but by the static network on every frame: the baseline of every cell."""
        for frames in sequences.T[1:]:
            yield classifier(self.outputs.maps(("dec",), frames)["dec"])

    def held(self, classifier: nn.Module, sequences: Numbers) -> Iterator[Tensor]:
        """As `per_frame`, but what the static network says of a sequence's first frame is kept for all that follow."""
        first = classifier(self.outputs.maps(("dec",), sequences[:, 0])["dec"])
        for _ in range(1, sequences.shape[1]):
            yield first


@dataclass(frozen=True)
class Prepared:
    """All that trials read.

    Args:
        data: the fingerprint of the whole dataset.
        classes: the names of the classes.
        static: the static network around which cells are searched, with its sizes.
        meta_train: the sequences that cells learn from, at the size of the crops.
        meta_val: the sequences that cells are scored on, whole frames.
    """

    data: str
    classes: tuple[str, ...]
    static: StaticNetwork
    meta_train: Side
    meta_val: Side
