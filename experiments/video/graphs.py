"""Segmentation networks as graphs: one frame at a time, with what a clip's frame leaves to the next.

Notation: N images of H x W pixels; C classes; h, w are H/8, W/8 rounded up.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.graphs import Graph, Sizes
from proxy_tasks.video.network import StaticSegmenter, VideoSegmenter

__all__ = ["FirstFrame", "FollowingFrame", "Frame", "graphs"]


def graphs(network: StaticSegmenter | VideoSegmenter) -> list[Graph]:
    """One graph of a network for single frames; of one with a dynamic cell the first frame's and the following's."""
    if isinstance(network, StaticSegmenter):
        return [Frame(network)]
    return [FirstFrame(network), FollowingFrame(network)]


class Frame(Graph):
    """A per-frame segmentation network: ``logits`` (N, C, h, w)."""

    outputs: ClassVar = {"logits": ("batch", None, "height_8", "width_8")}
    compared = ("logits",)
    network: StaticSegmenter

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """(N, 3, H, W) -> class scores."""
        return (self.network(self.normalised(images)),)


_STATE: dict[str, Sizes] = {
    "C5": ("batch", None, "height_32", "width_32"),
    "dec": ("batch", None, "height_8", "width_8"),
}


class FirstFrame(Graph):
    """A clip's first frame through a network with a dynamic cell: ``logits``, and the state for the next frame."""

    suffix = ".first"
    outputs: ClassVar = Frame.outputs | _STATE
    compared = ("logits", "C5", "dec")
    network: VideoSegmenter

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> class scores and state."""
        logits, (c5, dec) = self.network.first(self.normalised(images))
        return logits, c5, dec


class FollowingFrame(FirstFrame):
    """A clip's later frame: the state of the frame before comes in beside the image."""

    suffix = ".following"
    inputs: ClassVar = Graph.inputs | {f"previous_{name}": dimensions for name, dimensions in _STATE.items()}

    def forward(  # type: ignore[override]
        self, images: Tensor, previous_C5: Tensor, previous_dec: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) and the state -> class scores and the new state."""
        state = _of_stride(previous_C5, images, 32), _of_stride(previous_dec, images, 8)
        logits, (c5, dec) = self.network.following(self.normalised(images), state)
        return logits, c5, dec

    def arguments(self, clip: Tensor) -> tuple[Tensor, ...]:
        """The second frame, and what the first leaves."""
        with torch.no_grad():
            _, state = self.network.first(self.normalised(clip[0]))
        return (clip[1], *state)


def _of_stride(x: Tensor, images: Tensor, stride: int) -> Tensor:
    """``x`` itself, in an operation that tells an exporter how its size follows from that of the images."""
    height, width = ((size - 1) // stride + 1 for size in images.shape[-2:])
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
