"""Measuring a trained segmentation network: IoU and its kin on whole clips, parameters, MACs, milliseconds a frame."""

import math
from collections.abc import Callable, Container, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from experiments.timing import median_milliseconds
from proxy_tasks.data.video.base import VideoDataset
from proxy_tasks.images import normalise
from proxy_tasks.video.metrics import SegmentationMeter
from proxy_tasks.video.network import Following, State, StaticSegmenter, VideoSegmenter, upsample
from search_spaces.parts.complexity import count

__all__ = ["Network", "Player", "cost", "evaluate", "keyframes", "network_input", "predictions"]

Network = StaticSegmenter | VideoSegmenter


def network_input(image: Tensor, scale: float) -> Tensor:
    """A frame (3, H, W) uint8 as the network takes it: (1, 3, scale·H, scale·W), normalised."""
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return normalise(F.resize(image[None], size, antialias=True))


def _is_keyframe(position: int, interval: int) -> bool:
    """Whether the static decoder runs on a clip's frame number ``position``, the first being 0; see `Player`."""
    return position == 0 or (interval > 0 and position % interval == 0)


def keyframes(length: int, interval: int) -> int:
    """On how many frames of a clip of ``length`` the static decoder runs; see `Player`."""
    return sum(_is_keyframe(position, interval) for position in range(length))


class Player:
    """Plays clips frame by frame, as they come from a camera, and carries the state from one to the next.

    Of a `VideoSegmenter` the static decoder runs on a clip's first frame and on every ``keyframe_interval``-th (0: on
    the first alone), the cell on the others; a `StaticSegmenter` looks at every frame by itself.

    Args:
        network: trained; put into evaluation mode.
        scale: the resolution of its input in parts of the frames' own.
        keyframe_interval: see above.
        device: the device that it is on.
    """

    def __init__(self, network: Network, scale: float, keyframe_interval: int, device: torch.device):
        self.network, self.scale = network.eval(), scale
        self.keyframe_interval, self.device = keyframe_interval, device
        self.begin()

    def begin(self) -> None:
        """The next frame is the first of a clip."""
        self._state: State | None = None
        self._position = 0

    @torch.inference_mode()
    def labels(self, image: Tensor) -> Tensor:
        """The classes of the next frame's pixels, uint8 (H, W), at its own size, on the CPU."""
        x = network_input(image, self.scale).to(self.device)
        if isinstance(self.network, StaticSegmenter):
            logits = self.network(x)
        elif self._state is None or _is_keyframe(self._position, self.keyframe_interval):
            logits, self._state = self.network.first(x)
        else:
            logits, self._state = self.network.following(x, self._state)
        self._position += 1
        height, width = image.shape[-2:]
        found: Tensor = upsample(logits, (height, width)).argmax(dim=1)[0].to("cpu", torch.uint8)
        return found


def predictions(
    network: Network, data: VideoDataset, scale: float, keyframe_interval: int, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Number and labels, uint8 (H, W) at the frame's own size, of every frame of every clip, in order; see `Player`."""
    player = Player(network, scale, keyframe_interval, device)
    for clip in data.clips:
        player.begin()
        for index in clip:
            yield index, player.labels(data.image(index))


def evaluate(
    network: Network,
    data: VideoDataset,
    scale: float,
    keyframe_interval: int,
    device: torch.device,
    keep: Container[int],
    progress: Callable[[int, int], None],
) -> tuple[dict[str, float], dict[int, Tensor]]:
    """``miou``, ``macc``, ``gacc``, ``fwiou`` over all annotated frames, ``tiou`` within the trimap of 3 pixels.

    With them ``iou CLASS`` of every class that occurs in truth or prediction; beside them the predictions of the frames
    to ``keep``.

    Args:
        network: the trained network.
        data: the dataset it is measured on; labels and predictions are compared at the frames' own size.
        scale: the resolution of the network's input in parts of the frames' own.
        keyframe_interval: see `predictions`.
        device: the device that the network is on.
        keep: the numbers of the frames whose predictions are given back.
        progress: called with the number of frames done and their total.
    """
    meter, kept = SegmentationMeter(len(data.classes)), dict[int, Tensor]()
    for done, (index, found) in enumerate(predictions(network, data, scale, keyframe_interval, device), start=1):
        if data.annotated[index]:
            meter.update(found, data.labels(index))
        if index in keep:
            kept[index] = found
        progress(done, len(data))
    everywhere, near_borders = meter.result()
    figures = {name: getattr(everywhere, name) for name in ("miou", "macc", "gacc", "fwiou")}
    by_class = zip(data.classes, everywhere.iou, strict=True)
    classes = {f"iou {name}": iou for name, iou in by_class if not math.isnan(iou)}
    return figures | {"tiou": near_borders.miou} | classes, kept


@torch.inference_mode()
def cost(network: Network, data: VideoDataset, scale: float, device: torch.device) -> dict[str, float]:
    """``params``, and ``macs_first``, ``ms_first``, ``macs_following``, ``ms_following`` for one frame.

    Milliseconds are medians on this device; of a `StaticSegmenter` every frame costs the same.
    """
    network.eval()
    x = network_input(data.image(0), scale).to(device)
    static = network if isinstance(network, StaticSegmenter) else network.static
    steps: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {"first": (static, (x,))}
    if isinstance(network, VideoSegmenter):
        steps["following"] = Following(network), (x, *network.first(x)[1])
    figures: dict[str, float] = {"params": sum(parameter.numel() for parameter in network.parameters())}
    for name, (module, inputs) in steps.items():
        figures[f"macs_{name}"] = count(module, *inputs).macs
        figures[f"ms_{name}"] = median_milliseconds(partial(module, *inputs), device)
    if isinstance(network, StaticSegmenter):
        figures |= {"macs_following": figures["macs_first"], "ms_following": figures["ms_first"]}
    return figures
