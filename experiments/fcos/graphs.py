"""Detectors as graphs: from images to detections, with the head's own outputs beside them.

Notation: N images of H x W pixels; L locations; C classes.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, clip_boxes_to_image

from experiments.graphs import Graph, Translations
from proxy_tasks.images import pad_to_stride

__all__ = ["AnchorGraph", "DetectorGraph", "best_detections", "graphs"]


def graphs(network: FCOS | RetinaNet) -> list[Graph]:
    """The one graph of a detector."""
    return [AnchorGraph(network) if isinstance(network, RetinaNet) else DetectorGraph(network)]


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
    compared: tuple[str, ...] = ("cls_logits", "bbox_regression", "bbox_ctrness")
    network: FCOS | RetinaNet

    def translations(self) -> Translations:
        """ONNX's own suppression in place of `best_detections`."""
        from onnxscript import opset20 as op

        def suppression(boxes: Any, scores: Any, overlap: float, least: float, most: int) -> tuple[Any, Any]:
            table = op.Transpose(scores, perm=[0, 2, 1])  # (N, C, L)
            limits = [op.Constant(value_ints=[most])]
            limits += [op.Constant(value_floats=[overlap]), op.Constant(value_floats=[least])]
            chosen = op.NonMaxSuppression(boxes, table, *limits)  # rows of image, class, location
            nothing = op.Mul(table, op.Constant(value_float=0.0))
            left = op.ScatterND(nothing, chosen, op.GatherND(table, chosen))
            flat = op.Flatten(op.Transpose(left, perm=[0, 2, 1]), axis=1)
            padded = op.Pad(flat, op.Constant(value_ints=[0, 0, 0, most]))  # that there always are so many
            best, places = op.TopK(padded, op.Constant(value_ints=[most]))
            found = op.Greater(best, op.Constant(value_float=0.0))
            return best, op.Where(found, places, op.Constant(value_ints=[0]))

        return super().translations() | {torch.ops.dense_nas.best_detections.default: suppression}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> the outputs, in order."""
        detector = self.network
        height, width = images.shape[-2:]
        whole = pad_to_stride(self.normalised(images))
        pyramid = list(detector.backbone(whole).values())
        raw = detector.head(pyramid)
        anchors = detector.anchor_generator(ImageList(whole, [(height, width)]), pyramid)[0]
        boxes, scores = self.scored(raw, anchors)
        boxes = clip_boxes_to_image(boxes, (height, width))
        best, places = best_detections(
            boxes, scores, detector.nms_thresh, detector.score_thresh, detector.detections_per_img
        )
        classes = scores.shape[-1]
        kept = boxes.gather(1, (places // classes).unsqueeze(-1).expand(-1, -1, 4))
        return kept, best, places % classes, *(raw[name] for name in self.compared)

    def scored(self, raw: dict[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, L, 4) in pixels and scores (N, L, C) from the head's outputs and the anchors (L, 4)."""
        boxes: Tensor = self.network.head.box_coder.decode(raw["bbox_regression"], anchors)
        return boxes, torch.sqrt(raw["cls_logits"].sigmoid() * raw["bbox_ctrness"].sigmoid())


class AnchorGraph(DetectorGraph):
    """RetinaNet from images to detections: as `DetectorGraph`, without centerness; L counts anchors."""

    outputs: ClassVar = {name: shape for name, shape in DetectorGraph.outputs.items() if name != "bbox_ctrness"}
    compared = ("cls_logits", "bbox_regression")

    def scored(self, raw: dict[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        """As for FCOS."""
        offsets = raw["bbox_regression"]
        every = anchors.expand(offsets.shape[0], -1, -1)  # len() would fix the batch in a graph
        boxes = self.network.box_coder.decode_single(offsets.flatten(0, 1), every.flatten(0, 1))
        return boxes.unflatten(0, offsets.shape[:2]), raw["cls_logits"].sigmoid()


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
