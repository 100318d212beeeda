"""EfficientDet-D3 as Google released it, by the package ``effdet``: its backbone, its BiFPN, its detector.

Notation: maps P2 … P7 of strides 4 … 128. Images are multiples of 128 pixels wide and high, so that TensorFlow's "same"
padding, which the weights need, and the steps between the levels do not depend on the size.

Source: Tan et al., "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020. Six BiFPN layers of 160 channels
on EfficientNet-B3.
"""

import importlib.util
import urllib.error
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from proxy_tasks.backbones import given_state_dict
from search_spaces import InputError

__all__ = ["CHANNELS", "NAME", "P2_CHANNELS", "STRIDE", "efficientdet", "maps_of"]

NAME, EFFDET_NAME = "efficientdet_d3", "tf_efficientdet_d3"
P2_CHANNELS, CHANNELS = 32, 160  # of the backbone's map of stride 4, and of the BiFPN's
STRIDE = 128  # of P7
COCO_IDS = 90  # classes of the weights: COCO's category ids, of which 80 are in use
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
PREDICTOR = "class_net.predict.conv_pw."  # the tensors whose first axis counts classes


def efficientdet(weights: str = "default", num_classes: int = 80) -> tuple[nn.Module, bool]:
    """EfficientDet-D3: effdet's parts under effdet's names, with a backbone that gives P2 too.

    Args:
        weights: ``"default"`` downloads those of COCO; ``"none"`` draws them; anything else is a file.
        num_classes: of the detector.

    Returns:
        a module with ``backbone``, ``fpn``, ``class_net``, ``box_net`` and ``config``, and whether its class predictor
        has weights for these classes: those of 90 ids serve 80 classes too.

    Raises:
        InputError: effdet is not installed, weights cannot be had, or do not fit.
    """
    if importlib.util.find_spec("effdet") is None:
        raise InputError(f"{NAME} needs the package effdet; install it with pip install 'dense-nas[masks]'")
    from effdet import get_efficientdet_config

    config = get_efficientdet_config(EFFDET_NAME)
    config.num_classes = num_classes
    network = _EfficientDet(config)
    if weights == "none":
        return network, False
    state, place = (
        (_downloaded(config.url), config.url) if weights == "default" else (given_state_dict(weights), weights)
    )
    return network, _load(network, state, place, num_classes)


class _EfficientDet(nn.Module):
    """What effdet's module of that name has, drawn as there, for images of any size."""

    def __init__(self, config: Any):
        super().__init__()
        import timm
        from effdet.efficientdet import BiFpn, HeadNet, Interpolate2d, _init_weight

        self.config = config
        self.backbone = timm.create_model(
            config.backbone_name, features_only=True, out_indices=(1, 2, 3, 4), **config.backbone_args
        )
        self.fpn = BiFpn(config, self.backbone.feature_info.get_dicts(keys=["num_chs", "reduction"])[1:])
        self.class_net = HeadNet(config, num_outputs=config.num_classes)
        self.box_net = HeadNet(config, num_outputs=4)
        for name, module in self.named_modules():
            if not name.startswith("backbone"):
                _init_weight(module, name)
            if isinstance(module, Interpolate2d):  # effdet's are to the maps' sizes at 896 pixels
                module.size, module.scale_factor = None, 2.0


def _downloaded(url: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=True, check_hash=True, weights_only=True
        )
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"the COCO weights of {NAME} cannot be downloaded from {url} ({error}); "
            "give --backbone-weights a file, or none to start from scratch"
        ) from error
    return state


def _load(network: nn.Module, state: Mapping[str, Tensor], place: str, num_classes: int) -> bool:
    """Loads weights of the whole detector; whether the class predictor got its own."""
    own = network.state_dict()
    state = dict(state)
    fitting = True
    for name in [name for name in own if name.startswith(PREDICTOR) and name in state]:
        value = state[name]
        if len(value) != len(own[name]):
            classes = len(value) * num_classes // len(own[name])
            if (classes, num_classes) == (COCO_IDS, COCO_IDS - len(UNUSED_IDS)):
                state[name] = _of_used_ids(value)
            else:
                state[name], fitting = own[name], False
    for name, value in own.items():
        if name not in state:
            raise InputError(f"{place}: the weights of {name!r} are missing; they are not of {NAME}")
        if state[name].shape != value.shape:
            found, needed = tuple(state[name].shape), tuple(value.shape)
            raise InputError(f"{place}: {name!r} has shape {found}, {NAME} needs {needed}")
    network.load_state_dict({name: state[name] for name in own})
    return fitting


def _of_used_ids(value: Tensor) -> Tensor:
    """A tensor of (anchors · 90 ids, …) -> (anchors · 80 classes, …)."""
    used = [number for number in range(COCO_IDS) if number + 1 not in UNUSED_IDS]
    return value.unflatten(0, (-1, COCO_IDS))[:, used].flatten(0, 1)


def maps_of(network: Any, images: Tensor) -> dict[str, Tensor]:
    """P2 of the backbone, (B, 32, H/4, W/4), and P3 … P7 of the BiFPN, (B, 160, ·, ·), of normalised images.

    Raises:
        InputError: batch norm would have a single value a channel to learn from.
    """
    if network.training and len(images) == 1 and max(images.shape[-2:]) <= STRIDE:
        raise InputError(f"a single image of {STRIDE} pixels is too little to train {NAME} on; give a larger batch")
    first, *others = network.backbone(images)
    pyramid = network.fpn(list(others))
    return {"P2": first} | {f"P{level}": value for level, value in enumerate(pyramid, start=3)}
