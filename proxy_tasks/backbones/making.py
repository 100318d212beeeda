"""Backbones by name: their channels, and how one is made with its weights."""

from collections.abc import Mapping

from torch import nn

from proxy_tasks.backbones import imagenet, of_torchvision, tiny
from proxy_tasks.backbones.weights import given_state_dict, load_part
from search_spaces import InputError

__all__ = ["BACKBONES", "channels_of_backbone", "has_weights", "make_backbone"]

BACKBONES: dict[str, Mapping[str, int]] = {
    "tiny": tiny.CHANNELS,
    imagenet.NAME: imagenet.CHANNELS,
    **of_torchvision.CHANNELS,
}
"""The channels of the maps of every backbone that has a name of its own; those of timm are ``timm/NAME``."""
TIMM = "timm/"


def channels_of_backbone(name: str) -> Mapping[str, int]:
    """The channels of a backbone's maps by their names; raises `InputError` where there is no such backbone."""
    if name.startswith(TIMM):
        from proxy_tasks.backbones import of_timm  # here, since timm takes a second to load

        return of_timm.channels(name.removeprefix(TIMM))
    if name not in BACKBONES:
        raise InputError(f"there is no backbone {name!r}; known: {', '.join(BACKBONES)}, and {TIMM}NAME for timm's")
    return BACKBONES[name]


def has_weights(name: str) -> bool:
    """Whether a backbone's default weights are installed on this machine: nothing need be downloaded for them."""
    return name == "tiny" or (name == imagenet.NAME and imagenet.installed_file() is not None)


def make_backbone(name: str, weights: str = "default", frozen: bool | None = None) -> nn.Module:
    """A backbone mapping (B, 3, H, W) float32 images, ImageNet-normalised, to ``{"C2": ..., ..., "C5": ...}``.

    Args:
        name: one of `BACKBONES`, or ``timm/NAME`` for any network of timm that has maps at strides 4, 8, 16 and 32.
        weights: ``"default"`` downloads ImageNet weights from torchvision or timm (`tiny` starts from scratch, ``_v1``
            has none, those of ``efficientnet_lite0`` are installed); ``"none"`` starts from scratch; anything else is a
            file (`given_state_dict`).
        frozen: frozen batch normalisation, stem and first stage, as detectors use pre-trained ResNets (and, but for
            `tiny` and ``mobilenet_v2``, every backbone here); by default so where there are weights.

    Raises:
        InputError: unknown name, weights that cannot be had or do not fit.
    """
    channels_of_backbone(name)
    scratch = weights == "none" or (weights == "default" and name == "tiny")
    frozen = not scratch if frozen is None else frozen
    if name == imagenet.NAME or name.startswith(TIMM):
        return _of_timm(name, weights, frozen)
    backbone = tiny.tiny() if name == "tiny" else of_torchvision.network(name, frozen)
    if weights == "default" and not scratch:
        load_part(backbone, of_torchvision.downloaded(name), f"torchvision's weights of {name}")
    elif not scratch:
        load_part(backbone, given_state_dict(weights), weights)
    return backbone


def _of_timm(name: str, weights: str, frozen: bool) -> nn.Module:
    from proxy_tasks.backbones import of_timm

    embedded = name == imagenet.NAME
    known_to_timm = imagenet.TIMM_NAME if embedded else name.removeprefix(TIMM)
    if weights == "default" and not embedded:
        return of_timm.with_downloaded_weights(known_to_timm, frozen)
    backbone = of_timm.network(known_to_timm, frozen)
    if weights == "default":
        of_timm.load(backbone, imagenet.installed_weights(), f"the installed weights of {name}")
    elif weights != "none":
        of_timm.load(backbone, given_state_dict(weights), weights)
    return backbone
