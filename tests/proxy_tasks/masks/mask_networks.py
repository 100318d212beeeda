"""Mask networks small enough for tests, and what they learn from."""

import torch

import nas
from proxy_tasks.data import Shapes

NAMES = ("htc", "htca_if", "htca_c", "htca_d", "mask_rcnn", "centermask")
CASCADES = NAMES[:4]


def network(name, backbone="tiny", rois=16, **options):
    """A narrow network with few RoIs, drawn from seed 0, on images of 64 pixels (EfficientDet-D3: of 128)."""
    torch.manual_seed(0)
    sizes = {"num_classes": 4, "width": 8, "min_size": 64, "max_size": 96, "backbone_weights": "none"}
    made = nas.build(name, backbone=backbone, **(sizes | options))
    if hasattr(made, "rpn"):
        made.rpn._post_nms_top_n = {"training": rois, "testing": rois}
        made.roi_heads.sampler.batch_size_per_image = rois
    return made


def batch(*indices, size=64):
    """Images of the built-in shapes and their targets."""
    data = Shapes(8, size)
    images, targets = zip(*(data[index] for index in indices), strict=True)
    kept = ("boxes", "labels", "masks", "iscrowd")
    return [image.float() / 255 for image in images], [{key: one[key] for key in kept} for one in targets]


def nothing(size=64):
    """An image without objects and its target."""
    target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, size, size, dtype=torch.uint8),
        "iscrowd": torch.zeros(0, dtype=torch.int64),
    }
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(0)), target


def is_finite(made, losses):
    """Whether a loss and every gradient that it gives are finite."""
    total = sum(losses.values())
    made.zero_grad()
    if total.requires_grad:
        total.backward()
    gradients = [parameter.grad for parameter in made.parameters() if parameter.grad is not None]
    return bool(total.isfinite()) and all(bool(one.isfinite().all()) for one in gradients)
