"""Heads of FCOS: the standard one, and the one that the choices of `search_spaces.fcos.choices` spell.

Notation: N images; pyramid maps P3 … P7 of strides 8 … 128; L the number of locations, that is of positions of P3 … P7
in this order, each row by row.

Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, sec. 3.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.retinanet import RetinaNetHead

from search_spaces.fcos.choices import LAYERS, LEVELS
from search_spaces.parts.operations import group_norm, make_operation
from search_spaces.space import Architecture

__all__ = ["TOWERS", "FCOSHead", "SearchedHead", "StandardHead", "Tower", "retina_head"]

TOWERS = ("classification", "regression")
"""On which centerness may be predicted."""

ANCHORS = 9  # of RetinaNet, at a location: three scales of three shapes
MOST = 11.0
"""The largest exponent of a box distance. e^11 = 59874 strides are beyond any image, and finite in float16 too.

Without a bound one infinite distance at a background location makes all gradients NaN: infinity times its weight, 0.
"""


class Tower(nn.Module):
    """Layers in sequence, each shared by all pyramid levels or, given as a `ModuleList`, one for every level."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(N, C, H, W) of pyramid level ``level`` (0 is P3) -> the same shape."""
        for layer in self.layers:
            x = layer[level](x) if isinstance(layer, nn.ModuleList) else layer(x)
        return x


class FCOSHead(fcos.FCOSHead):
    """An FCOS head around towers of any structure, to be used inside `torchvision.models.detection.FCOS`.

    Unlike torchvision's: box distances are exp(scale · prediction) with a learned scale per level, the exponent at most
    `MOST`; centerness is on the tower that ``centerness_on`` names, by default that of the classification, as FCOS was
    published (its later recipe, and torchvision, have it on the other). ``compute_loss`` is torchvision's.

    Args:
        tower: makes a tower; called for classification and for regression, whose weights are separate.
        width: channels of the pyramid maps and of the towers.
        num_classes: foreground classes; labels count from 0.
    """

    def __init__(self, tower: Callable[[], Tower], width: int, num_classes: int):
        nn.Module.__init__(self)  # the parent's own layers are not wanted
        self.centerness_on = "classification"
        self.box_coder = BoxLinearCoder(normalize_by_size=True)
        self.cls_tower = tower()
        self.box_tower = tower()
        self.cls_logits = _small_conv(width, num_classes, bias=-math.log((1 - 0.01) / 0.01))  # probability 0.01
        self.bbox_reg = _small_conv(width, 4)
        self.bbox_ctrness = _small_conv(width, 1)
        self.scales = nn.Parameter(torch.ones(len(LEVELS)))

    def forward(self, x: Sequence[Tensor]) -> dict[str, Tensor]:
        """Five maps (N, width, ·, ·), P3 … P7, -> predictions for every location.

        Returns:
            ``cls_logits`` (N, L, num_classes); ``bbox_regression`` (N, L, 4), the distances to the left, top, right and
            bottom side in units of the level's stride, positive; ``bbox_ctrness`` (N, L, 1), logits.
        """
        assert len(x) == len(LEVELS), "one map per pyramid level"
        logits, boxes, centerness = [], [], []
        for level, features in enumerate(x):
            cls_features, box_features = self.cls_tower(features, level), self.box_tower(features, level)
            logits.append(_by_location(self.cls_logits(cls_features)))
            central = cls_features if self.centerness_on == "classification" else box_features
            centerness.append(_by_location(self.bbox_ctrness(central)))
            distances = self.bbox_reg(box_features)
            boxes.append(_by_location(torch.exp((self.scales[level] * distances).clamp(max=MOST))))
        outputs = {"cls_logits": logits, "bbox_regression": boxes, "bbox_ctrness": centerness}
        return {name: torch.cat(parts, dim=1) for name, parts in outputs.items()}


def _small_conv(in_channels: int, out_channels: int, bias: float = 0.0) -> nn.Conv2d:
    """A 3×3 convolution that starts at weights of standard deviation 0.01 (FCOS, sec. 4)."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    assert conv.bias is not None
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)
    return conv


def _by_location(x: Tensor) -> Tensor:
    """(N, K, H, W) -> (N, H·W, K)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def retina_head(width: int, num_classes: int) -> RetinaNetHead:
    """The head of RetinaNet (Lin et al., ICCV 2017): four 3×3 convolutions a tower, nine anchors at a location."""
    return RetinaNetHead(width, ANCHORS, num_classes)


class StandardHead(FCOSHead):
    """The head of FCOS: towers of four 3×3 convolutions with bias, GroupNorm and ReLU, shared by all levels."""

    def __init__(self, width: int, num_classes: int):
        def tower() -> Tower:
            triples = ((_small_conv(width, width), group_norm(width), nn.ReLU(inplace=True)) for _ in range(4))
            return Tower([nn.Sequential(*triple) for triple in triples])

        super().__init__(tower, width, num_classes)


class SearchedHead(FCOSHead):
    """The head that head choices spell, with GroupNorm; both towers have the searched structure.

    Args:
        architecture: a point of the space `FCOS_HEAD`.
        width: channels of the pyramid maps and of the towers.
        num_classes: foreground classes.
    """

    def __init__(self, architecture: Architecture, width: int, num_classes: int):
        named = architecture.named
        share = int(named["head.share"])

        def layer(i: int) -> nn.Module:
            make = partial(make_operation, named[f"head.{i + 1}.op"], width, group_norm)
            return nn.ModuleList(make() for _ in LEVELS) if i < share else make()

        super().__init__(lambda: Tower([layer(i) for i in range(LAYERS)]), width, num_classes)
