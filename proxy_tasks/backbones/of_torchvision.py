"""torchvision's classification networks as backbones.

The ResNets exist twice: torchvision's (v1.5, stride in the 3x3 convolutions) and the original (``_v1``, stride in the
1x1 convolutions; He et al. 2016), which published detectors use.
"""

import urllib.error

import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from search_spaces import InputError

__all__ = ["CHANNELS", "downloaded", "network"]

_RESNET_LAYERS = {"layer1": "C2", "layer2": "C3", "layer3": "C4", "layer4": "C5"}
_RESNET_CHANNELS = {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}
CHANNELS = {
    "mobilenet_v2": {"C2": 24, "C3": 32, "C4": 96, "C5": 320},
    "resnet50": _RESNET_CHANNELS,
    "resnet101": _RESNET_CHANNELS,
    "resnet50_v1": _RESNET_CHANNELS,
    "resnet101_v1": _RESNET_CHANNELS,
    "resnext101_64x4d": _RESNET_CHANNELS,
}


def network(name: str, frozen: bool) -> nn.Module:
    """The backbone without weights; ``frozen`` as in `make_backbone`, which MobileNetV2 does not know."""
    if name == "mobilenet_v2":
        features = torchvision.models.mobilenet_v2().features
        return IntermediateLayerGetter(features, {"3": "C2", "6": "C3", "13": "C4", "17": "C5"})
    norm = FrozenBatchNorm2d if frozen else nn.BatchNorm2d
    network = torchvision.models.get_model(name.removesuffix("_v1"), norm_layer=norm)
    if name.endswith("_v1"):
        for block in network.modules():
            if isinstance(block, Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    body = IntermediateLayerGetter(network, _RESNET_LAYERS)
    if frozen:  # the stem and the first stage keep their pre-trained weights, as in all detectors since Fast R-CNN
        for part in ("conv1", "layer1"):
            body[part].requires_grad_(False)
    return body


def downloaded(name: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights; raises `InputError` where there are none or they cannot be had."""
    if name.endswith("_v1"):
        raise InputError(
            f"there are no weights of {name} to download; give --backbone-weights a file, or none to start from scratch"
        )
    default = torchvision.models.get_model_weights(name).DEFAULT
    try:
        return dict(default.get_state_dict(progress=True, check_hash=True))
    except (urllib.error.URLError, OSError) as error:
        raise InputError(
            f"the weights of {name} cannot be downloaded from {default.url} ({error}); "
            "give --backbone-weights a file, or none to start from scratch"
        ) from error
