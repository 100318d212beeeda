"""Backbones: an image goes in, the maps C2..C5 (strides 4, 8, 16, 32) come out.

``tiny`` is this project's own, small enough to be trained from scratch on a laptop within a minute; the others are
torchvision's classification networks up to their last map. The ResNets exist twice: torchvision's (v1.5, stride in the
3x3 convolutions) and the original (``_v1``, stride in the 1x1 convolutions; He et al. 2016), which published detectors
use.
"""

import hashlib
import pickle
import urllib.error
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck
from torchvision.ops import Conv2dNormActivation, FrozenBatchNorm2d

from search_spaces import InputError

__all__ = ["BACKBONES", "channels_of_backbone", "make_backbone", "read_state_dict", "state_hash"]

_RESNET_LAYERS = {"layer1": "C2", "layer2": "C3", "layer3": "C4", "layer4": "C5"}
_RESNET_CHANNELS = {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}
BACKBONES: dict[str, dict[str, int]] = {
    "tiny": {"C2": 24, "C3": 48, "C4": 64, "C5": 96},
    "mobilenet_v2": {"C2": 24, "C3": 32, "C4": 96, "C5": 320},
    "resnet50": _RESNET_CHANNELS,
    "resnet101": _RESNET_CHANNELS,
    "resnet50_v1": _RESNET_CHANNELS,
    "resnet101_v1": _RESNET_CHANNELS,
    "resnext101_64x4d": _RESNET_CHANNELS,
}
"""The channels of every backbone's maps."""


def channels_of_backbone(name: str) -> dict[str, int]:
    """The channels of a backbone's maps by their names; raises `InputError` where there is no such backbone."""
    if name not in BACKBONES:
        raise InputError(f"there is no backbone {name!r}; known: {', '.join(BACKBONES)}")
    return BACKBONES[name]


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.Sequential(
            Conv2dNormActivation(channels, channels, 3),
            Conv2dNormActivation(channels, channels, 3, activation_layer=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.convs(x))


def _tiny() -> nn.Module:
    """A stem and four stages of one stride-2 3x3 convolution and one residual block; 0.4 M parameters."""
    stem, stages, width = Conv2dNormActivation(3, 16, 3, stride=2), [], 16
    for channels in BACKBONES["tiny"].values():
        stages.append(nn.Sequential(Conv2dNormActivation(width, channels, 3, stride=2), _Residual(channels)))
        width = channels
    return IntermediateLayerGetter(nn.Sequential(stem, *stages), {"1": "C2", "2": "C3", "3": "C4", "4": "C5"})


def _torchvision(name: str, frozen: bool) -> nn.Module:
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


def make_backbone(name: str, weights: str = "default", frozen: bool | None = None) -> nn.Module:
    """A backbone mapping (B, 3, H, W) float32 images, ImageNet-normalised, to ``{"C2": ..., ..., "C5": ...}``.

    Args:
        name: one of `BACKBONES`.
        weights: ``"default"`` downloads torchvision's ImageNet weights (`tiny` starts from scratch, ``_v1`` has none),
            ``"none"`` starts from scratch, anything else is a file (`read_state_dict`).
        frozen: frozen batch normalisation, stem and first stage in the ResNets, as detectors use pre-trained ones; by
            default so where there are weights.

    Raises:
        InputError: unknown name, weights that cannot be had or do not fit.
    """
    channels_of_backbone(name)
    scratch = weights == "none" or (weights == "default" and name == "tiny")
    frozen = not scratch if frozen is None else frozen
    backbone = _tiny() if name == "tiny" else _torchvision(name, frozen)
    if weights == "default" and not scratch:
        _load(backbone, _download(name), f"torchvision's weights of {name}")
    elif not scratch:
        _load(backbone, read_state_dict(weights), weights)
    return backbone


def _download(name: str) -> dict[str, Tensor]:
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


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads a state dict from ``.safetensors``, or from a torch file with ``weights_only=True``: nothing in it is run.

    Raises:
        InputError: no such file, not a state dict, or a file that would have to be unpickled to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no weights file {path}; give default, none or a .safetensors, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch's advice to file an issue
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"the weights file {path} holds more than tensors and is not loaded, since unpickling it could run code; "
            "save its state_dict() instead"
        ) from error
    except Exception as error:  # torch's reader raises nearly anything on a damaged file
        raise InputError(f"the weights file {path} cannot be read: {type(error).__name__}: {error}") from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"the weights file {path} holds no state dict (names mapped to tensors)")
    return state


def _load(backbone: nn.Module, state: Mapping[str, Tensor], place: str) -> None:
    """Loads a backbone's own state dict, or that of the whole classification network it was taken from."""
    own = backbone.state_dict()
    prefix = "features." if any(key.startswith("features.") for key in state) else ""
    state = {key.removeprefix(prefix): value for key, value in state.items()}
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise InputError(
            f"{place}: {len(missing)} of the backbone's {len(own)} tensors are missing, e.g. {missing[0]!r}"
        )
    for key, value in own.items():
        if key in state and state[key].shape != value.shape:
            raise InputError(f"{place}: {key!r} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}")
    backbone.load_state_dict({key: state.get(key, value) for key, value in own.items()})


def state_hash(module: nn.Module) -> str:
    """16 hex digits of a module's weights and buffers, names included."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
