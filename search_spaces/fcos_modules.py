"""The parts of an FCOS decoder that no space searches: standard FPN and head, top levels, the decoder itself.

Notation: N images; feature maps C2 … C5 of strides 4 … 32; pyramid maps P3 … P7 of strides 8 … 128; L the number of
locations, that is of positions of P3 … P7 in this order, each row by row.

Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, sec. 3.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from search_spaces.errors import InputError
from search_spaces.operations import group_norm

__all__ = [
    "LEVELS",
    "FCOSDecoder",
    "FCOSHead",
    "Features",
    "StandardFPN",
    "StandardHead",
    "TopLevels",
    "Tower",
    "channels_of",
]

LEVELS = ("P3", "P4", "P5", "P6", "P7")
Features = Mapping[str, Tensor]


def channels_of(in_channels: Mapping[str, int], levels: Sequence[str]) -> list[int]:
    """The channels of the feature maps called ``levels``; raises `InputError` where one is not given."""
    for level in levels:
        if level not in in_channels:
            raise InputError(f"in_channels must give the channels of {level}, got {', '.join(in_channels) or 'none'}")
    return [in_channels[level] for level in levels]


class TopLevels(nn.Module):
    """Widens P3 … P5 by repeating their channels and adds P6, P7 by 3×3 stride-2 convolutions, ReLU before P7.

    Repetition costs nothing, as the published counts of the widths 128-256 say.

    Args:
        width: channels of the maps that come in.
        out_width: channels of all that go out.

    Raises:
        InputError: ``out_width`` is no multiple of ``width``.
    """

    def __init__(self, width: int, out_width: int):
        super().__init__()
        if out_width % width:
            raise InputError(f"the head's width must be a multiple of the FPN's width {width}, got {out_width}")
        self.repeats = out_width // width
        self.p6_p7 = LastLevelP6P7(out_width, out_width)

    def forward(self, maps: Sequence[Tensor]) -> "OrderedDict[str, Tensor]":
        """P3, P4, P5 of (N, width, ·, ·) -> {"P3": (N, out_width, ·, ·), ..., "P7": ...}."""
        wide = [torch.cat([x] * self.repeats, dim=1) if self.repeats > 1 else x for x in maps]
        wide, _ = self.p6_p7(wide, wide, list(LEVELS[:3]))
        return OrderedDict(zip(LEVELS, wide, strict=True))


class StandardFPN(nn.Module):
    """The feature pyramid network of FCOS on C3 … C5, P6 and P7 from P5.

    Args:
        in_channels: channels of C3, C4 and C5 by name.
        width: channels inside.
        out_width: channels of the pyramid maps.
    """

    def __init__(self, in_channels: Mapping[str, int], width: int, out_width: int):
        super().__init__()
        self.inputs = ("C3", "C4", "C5")
        self.fpn = FeaturePyramidNetwork(channels_of(in_channels, self.inputs), width)
        self.top = TopLevels(width, out_width)

    def forward(self, features: Features) -> "OrderedDict[str, Tensor]":
        """{"C3": (N, C, H, W), ...} -> {"P3": (N, out_width, H, W), ..., "P7": ...}."""
        pyramid = self.fpn(OrderedDict((name, features[name]) for name in self.inputs))
        out: OrderedDict[str, Tensor] = self.top(list(pyramid.values()))
        return out


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

    Unlike torchvision's: box distances are exp(scale · prediction) with a learned scale per level, centerness is on the
    classification tower. ``compute_loss`` is torchvision's.

    Args:
        tower: makes a tower; called for classification and for regression, whose weights are separate.
        width: channels of the pyramid maps and of the towers.
        num_classes: foreground classes; labels count from 0.
    """

    def __init__(self, tower: Callable[[], Tower], width: int, num_classes: int):
        nn.Module.__init__(self)  # the parent's own layers are not wanted
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
            cls_features = self.cls_tower(features, level)
            logits.append(_by_location(self.cls_logits(cls_features)))
            centerness.append(_by_location(self.bbox_ctrness(cls_features)))
            distances = self.bbox_reg(self.box_tower(features, level))
            boxes.append(_by_location(torch.exp(self.scales[level] * distances)))
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


class StandardHead(FCOSHead):
    """The head of FCOS: towers of four 3×3 convolutions with bias, GroupNorm and ReLU, shared by all levels."""

    def __init__(self, width: int, num_classes: int):
        def tower() -> Tower:
            triples = ((_small_conv(width, width), group_norm(width), nn.ReLU(inplace=True)) for _ in range(4))
            return Tower([nn.Sequential(*triple) for triple in triples])

        super().__init__(tower, width, num_classes)


class FCOSDecoder(nn.Module):
    """What turns a backbone's feature maps into FCOS predictions.

    Args:
        fpn: feature maps -> {"P3": ..., "P7": ...}.
        head: list of pyramid maps -> predictions.
    """

    def __init__(self, fpn: nn.Module, head: FCOSHead):
        super().__init__()
        self.fpn = fpn
        self.head = head

    def forward(self, features: Features) -> dict[str, Tensor]:
        """{"C3": (N, C, H, W), ...} -> the head's predictions."""
        predictions: dict[str, Tensor] = self.head(list(self.fpn(features).values()))
        return predictions
