"""timm's networks as backbones, and the one of them whose ImageNet weights come as a package.

Notation: H x W pixels of an image; s a map's stride, 4, 8, 16 or 32.
"""

import difflib
import functools
from collections.abc import Mapping
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import Format, freeze_batch_norm_2d
from torch import Tensor, nn

from proxy_tasks.backbones.same_padding import with_fixed_padding
from proxy_tasks.backbones.weights import load_part
from proxy_tasks.images import IMAGE_MEAN, IMAGE_STD
from search_spaces import InputError

__all__ = ["TimmBackbone", "channels", "load", "network", "with_downloaded_weights"]

LEVELS = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}  # each with its stride
COARSEST = LEVELS["C5"]


class TimmBackbone(nn.Module):
    """Maps (B, 3, H, W) float32 images, ImageNet-normalised, to C2..C5 (B, C, ceil(H / s), ceil(W / s)).

    Images get the mean and deviation that the network was trained with, and zeros (the mean colour before that) on the
    right and at the bottom up to a multiple of 32 pixels, so that every network, whichever way it rounds, gives maps
    of these sizes.

    Args:
        network: timm's, with ``features_only``, giving the four maps in order.
        mean: of red, green and blue, from 0 to 1, in the network's training.
        std: the deviations, likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network = network
        self.channels_last = getattr(network, "output_fmt", None) == Format.NHWC
        self.as_imagenet = (mean, std) == (IMAGE_MEAN, IMAGE_STD)
        scale = [theirs / own for theirs, own in zip(IMAGE_STD, std, strict=True)]
        shift = [(theirs - own) / deviation for theirs, own, deviation in zip(IMAGE_MEAN, mean, std, strict=True)]
        for name, values in (("scale", scale), ("shift", shift)):  # known from the name, so no part of the weights
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The four maps by their names."""
        height, width = images.shape[-2:]
        # sides rounded up without negative numbers, which ONNX divides towards zero
        missing = [(side + COARSEST - 1) // COARSEST * COARSEST - side for side in (height, width)]
        padded = F.pad(images, (0, missing[1], 0, missing[0]))
        return {
            level: value[..., : (height + stride - 1) // stride, : (width + stride - 1) // stride]
            for (level, stride), value in zip(LEVELS.items(), self.maps(padded), strict=True)
        }

    def maps(self, images: Tensor) -> list[Tensor]:
        """The network's own maps (B, C, h, w) of images whose sides are multiples of 32."""
        maps: list[Tensor] = self.network(images if self.as_imagenet else images * self.scale + self.shift)
        return [value.permute(0, 3, 1, 2) for value in maps] if self.channels_last else maps


def network(name: str, frozen: bool = False) -> TimmBackbone:
    """The backbone with random weights; see `make_backbone` for ``frozen`` and the errors."""
    return _wrapped(name, _created(name, out_indices=_indices(name)), frozen)


def with_downloaded_weights(name: str, frozen: bool) -> TimmBackbone:
    """The backbone with the weights of timm's hub; raises `InputError` where they cannot be had."""
    indices = _indices(name)
    try:
        features = _created(name, out_indices=indices, pretrained=True)
    except Exception as error:  # the network is known to build, so the hub failed, whose clients raise nearly anything
        raise InputError(
            f"the weights of timm/{name} cannot be had from timm's hub ({type(error).__name__}: {error}); "
            "give --backbone-weights a file, or none to start from scratch"
        ) from error
    return _wrapped(name, features, frozen)


@functools.cache
def channels(name: str) -> Mapping[str, int]:
    """The channels of the four maps, found without weights and without computing anything.

    Raises:
        InputError: no such network, or none with maps at strides 4 to 32 of images of any size.
    """
    height, width = 3 * COARSEST, 5 * COARSEST  # not the size that a network of a fixed one is made for
    with torch.device("meta"):
        body = network(name).eval()
        try:
            maps = dict(zip(LEVELS, body.maps(torch.empty(1, 3, height, width)), strict=True))
        except Exception as error:  # each of timm's networks has its own way to refuse
            raise InputError(
                f"the backbone timm/{name} takes images of its own size only: "
                f"{height}x{width} pixels give {type(error).__name__}: {error}"
            ) from error
    for level, stride in LEVELS.items():
        size, needed = tuple(maps[level].shape[-2:]), (height // stride, width // stride)
        if size != needed:
            raise InputError(
                f"timm/{name} is no backbone for dense perception: its map at stride {stride} has {size[0]}x{size[1]}"
                f" places for {height}x{width} pixels, expected {needed[0]}x{needed[1]}"
            )
    return {level: value.shape[1] for level, value in maps.items()}


def load(backbone: TimmBackbone, state: Mapping[str, Tensor], place: str) -> None:
    """Loads a state dict: the backbone's own, that of timm's whole network, or of a network that has either as a part.

    Raises:
        InputError: tensors are missing or have other shapes; it names the ``place``.
    """
    network = backbone.network
    # timm takes stages out of their Sequential: "stages.0.norm" of the whole network is "stages_0.norm" here
    taken_out = {f"{part}.{index}.": f"{part}_{index}." for part, index in map(_split, network._modules) if index}
    load_part(network, {_renamed(name, taken_out): value for name, value in state.items()}, place)


def _split(child: str) -> tuple[str, str]:
    part, _, index = child.rpartition("_")
    return part, index if part else ""


def _renamed(name: str, beginnings: Mapping[str, str]) -> str:
    for old, new in beginnings.items():
        before, found, after = name.partition(old)
        if found and (not before or before.endswith(".")):
            return before + new + after
    return name


def _created(name: str, **options: Any) -> nn.Module:
    """timm's network with ``features_only``, one that takes images of any size where it has a choice."""
    try:
        return timm.create_model(name, features_only=True, strict_img_size=False, **options)
    except TypeError:  # no argument of this network
        return timm.create_model(name, features_only=True, **options)


@functools.cache
def _indices(name: str) -> tuple[int, ...]:
    """Which of the network's maps have the strides 4, 8, 16 and 32: the last of each."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(f'timm/{one}' for one in close)}?" if close else ""
        raise InputError(f"timm has no network {name!r}{hint}")
    try:
        with torch.device("meta"):
            reductions = _created(name).feature_info.reduction()  # type: ignore[union-attr, operator]
            places = {found: place for place, found in enumerate(reductions)}
            indices = tuple(places[stride] for stride in LEVELS.values() if stride in places)
            _created(name, out_indices=indices)
    except Exception as error:  # each of timm's networks without maps has its own way to say so
        raise InputError(
            f"timm/{name} is no backbone, for it gives no maps: {type(error).__name__}: {error}"
        ) from error
    if missing := [stride for stride in LEVELS.values() if stride not in places]:
        raise InputError(
            f"timm/{name} is no backbone for dense perception: it needs maps at strides 4, 8, 16 and 32, but has them"
            f" at {', '.join(map(str, reductions))}, none at {', '.join(map(str, missing))}"
        )
    return indices


def _wrapped(name: str, features: nn.Module, frozen: bool) -> TimmBackbone:
    if frozen:
        _freeze(features)
    config = timm.get_pretrained_cfg(name)
    return TimmBackbone(with_fixed_padding(features), tuple(config.mean), tuple(config.std))


def _freeze(features: nn.Module) -> None:
    """Freezes batch norm, the stem and the stage that gives C2, as detectors do since Fast R-CNN.

    The stem and that stage are what the network has up to C2's module. A network that names no such module (HRNet,
    whose branches run side by side) has its batch norm frozen alone.
    """
    freeze_batch_norm_2d(features)
    (first, *_) = features.feature_info.module_name()  # type: ignore[union-attr, operator]
    names = [one for one, _ in features.named_modules()]
    inside = [
        place
        for place, one in enumerate(names)
        if any(f"{one}.".startswith(f"{prefix}.") for prefix in (first, first.replace(".", "_", 1)))
    ]
    for _, module in list(features.named_modules())[: max(inside, default=-1) + 1]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
