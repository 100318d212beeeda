"""Networks as graphs: fixed inputs and outputs, tensors only, any batch and any image size.

Notation: N images of H x W pixels, float32 RGB from 0 to 1; all images of a batch have one size. Nothing is resized:
an image comes at the size at which the network is to see it. L locations, C classes; h, w are H/8, W/8 rounded up.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, clip_boxes_to_image

from proxy_tasks.images import IMAGE_MEAN, IMAGE_STD, STRIDE
from proxy_tasks.video.network import StaticSegmenter, VideoSegmenter
from search_spaces import InputError

__all__ = ["DetectorGraph", "FirstFrame", "FollowingFrame", "Frame", "Graph", "best_detections", "graphs_of"]

Sizes = tuple[str | int | None, ...]
"""A tensor's shape: a name for what is free, a number for what is fixed, None for what the network has."""


class Graph(nn.Module):
    """A network from normalisation to what its user wants.

    Attributes:
        suffix: of the file's name, where a network has more than one graph.
        inputs: the inputs' shapes by name.
        outputs: the outputs' shapes by name.
        compared: the outputs that must agree between torch and another runtime, number for number.
    """

    suffix = ""
    inputs: ClassVar[dict[str, Sizes]] = {"images": ("batch", 3, "height", "width")}
    outputs: ClassVar[dict[str, Sizes]]
    compared: tuple[str, ...]
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(-1, 1, 1))
        self.eval()

    def normalised(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) from 0 to 1 -> as backbones take them."""
        return (images - self.mean) / self.std

    def arguments(self, clip: Tensor) -> tuple[Tensor, ...]:
        """This graph's inputs from two consecutive frames (2, N, 3, H, W)."""
        return (clip[0],)


class DetectorGraph(Graph):
    """FCOS from images to detections.

    Outputs ``boxes`` (N, 100, 4) in pixels, ``scores`` (N, 100) falling, 0 where there is no further detection,
    ``labels`` int64 (N, 100) from 0; and the head's own ``cls_logits`` (N, L, C), ``bbox_regression`` (N, L, 4),
    ``bbox_ctrness`` (N, L, 1).
    """

    outputs: ClassVar = {
        "boxes": ("batch", 100, 4),
        "scores": ("batch", 100),
        "labels": ("batch", 100),
        "cls_logits": ("batch", "locations", None),
        "bbox_regression": ("batch", "locations", 4),
        "bbox_ctrness": ("batch", "locations", 1),
    }
    compared = ("cls_logits", "bbox_regression", "bbox_ctrness")
    network: FCOS

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> the outputs, in order."""
        detector = self.network
        height, width = images.shape[-2:]
        padded = F.pad(self.normalised(images), (0, -width % STRIDE, 0, -height % STRIDE))
        pyramid = list(detector.backbone(padded).values())
        raw = detector.head(pyramid)
        anchors = detector.anchor_generator(ImageList(padded, [(height, width)]), pyramid)[0]
        boxes = detector.head.box_coder.decode(raw["bbox_regression"], anchors)
        boxes = clip_boxes_to_image(boxes, (height, width))
        scores = torch.sqrt(raw["cls_logits"].sigmoid() * raw["bbox_ctrness"].sigmoid())
        best, places = best_detections(
            boxes, scores, detector.nms_thresh, detector.score_thresh, detector.detections_per_img
        )
        classes = scores.shape[-1]
        kept = boxes.gather(1, (places // classes).unsqueeze(-1).expand(-1, -1, 4))
        return kept, best, places % classes, *(raw[name] for name in self.compared)


@torch.library.custom_op("dense_nas::best_detections", mutates_args=())
def best_detections(boxes: Tensor, scores: Tensor, overlap: float, least: float, most: int) -> tuple[Tensor, Tensor]:
    """The best detections that non-maximum suppression within each class leaves.

    One operator, so that an exporter may put a runtime's own suppression in its place.

    Args:
        boxes: (N, L, 4).
        scores: (N, L, C).
        overlap: the IoU above which the lower score yields.
        least: scores up to it do not count.
        most: how many for an image.

    Returns:
        their scores (N, most), falling, 0 after the last; and their places int64 (N, most), counted through (L, C).
    """
    best = scores.new_zeros(len(scores), most)
    places = torch.zeros(len(scores), most, dtype=torch.int64, device=scores.device)
    for image, (image_boxes, image_scores) in enumerate(zip(boxes, scores, strict=True)):
        location, label = (image_scores > least).nonzero(as_tuple=True)
        found = image_scores[location, label]
        kept = batched_nms(image_boxes[location], found, label, overlap)[:most]
        best[image, : len(kept)] = found[kept]
        places[image, : len(kept)] = location[kept] * scores.shape[2] + label[kept]
    return best, places


@best_detections.register_fake
def _(boxes: Tensor, scores: Tensor, overlap: float, least: float, most: int) -> tuple[Tensor, Tensor]:
    size = (scores.shape[0], most)
    return scores.new_empty(size), scores.new_empty(size, dtype=torch.int64)


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


def graphs_of(network: nn.Module) -> list[Graph]:
    """All graphs of a network, one or two; raises `InputError` where none is known for it."""
    match network:
        case FCOS():
            return [DetectorGraph(network)]
        case StaticSegmenter():
            return [Frame(network)]
        case VideoSegmenter():
            return [FirstFrame(network), FollowingFrame(network)]
    raise InputError(f"no ONNX graph is known for networks of the type {type(network).__name__}")
