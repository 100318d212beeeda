"""The FCOS proxy task's settings under each preset."""

import dataclasses
from typing import Any

import torch

from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.fcos.detector import parse_width
from proxy_tasks.fcos.targets import Locations
from proxy_tasks.overrides import overridden, require
from search_spaces import InputError

__all__ = ["FCOSSettings", "fcos_settings"]


@dataclasses.dataclass(frozen=True)
class FCOSSettings:
    """One proxy task.

    Args:
        crop: side of the square crops, pixels; sizes of interest scale with it. Networks see crops padded to a multiple
            of 128.
        batch_size: images in a training step.
        iterations: training steps of a trial.
        learning_rate: Adam's.
        polyak_decay: the decay of the moving average of the weights, which is what is evaluated.
        width: the channels of FPN and head, ``"64-128"``.
        backbone: its name.
        pretrain_iterations: steps of the backbone's fine-tuning as a standard FCOS.
        pretrain_batch_size: images in such a step.
        pretrain_learning_rate: AdamW's peak rate under the one-cycle schedule.
    """

    crop: int
    batch_size: int
    iterations: int
    learning_rate: float
    polyak_decay: float
    width: str
    backbone: str
    pretrain_iterations: int
    pretrain_batch_size: int
    pretrain_learning_rate: float

    def locations(self, device: torch.device) -> Locations:
        """Where the pyramid looks on such crops, its sizes of interest scaled to them."""
        return Locations.of(self.crop, self.crop / FULL_SHORT_SIDE, device)


FULL_SHORT_SIDE = 800  # the short side that the published sizes of interest are for
PRESETS = {
    # thesis 7.4.1; the fine-tuning's length is not published: about 50 passes over the 4000 images
    "paper": FCOSSettings(384, 200, 300, 8e-4, 0.9, "64-128", "resnet50", 12000, 16, 2e-4),
    "demo": FCOSSettings(128, 16, 60, 1e-3, 0.9, "32-64", "tiny", 240, 16, 4e-3),
}


def fcos_settings(preset: str, backbone: str | None, overrides: dict[str, Any]) -> FCOSSettings:
    """The preset's settings with the user's changes.

    Raises:
        InputError: no such preset, setting or backbone; a value of the wrong type or out of range.
    """
    if preset not in PRESETS:
        raise InputError(f"there is no preset {preset!r}; known: {', '.join(PRESETS)}")
    settings = PRESETS[preset]
    if backbone is not None:
        overrides = {"backbone": backbone, **overrides}
    settings = overridden(settings, overrides, "the FCOS proxy task")
    _check(settings)
    return settings


def _check(settings: FCOSSettings) -> None:
    channels_of_backbone(settings.backbone)  # refuses an unknown name
    fpn, head = parse_width(settings.width)
    if head % fpn:
        raise InputError(f"setting 'width': the head's width {head} must be a multiple of the FPN's {fpn}")
    positive = ("batch_size", "iterations", "learning_rate", "pretrain_batch_size", "pretrain_learning_rate")
    require(settings, positive, not_negative=("pretrain_iterations",))
    if settings.crop < 32:
        raise InputError(f"setting 'crop' must be at least 32 pixels (the backbone's stride), got {settings.crop}")
    if not 0 <= settings.polyak_decay < 1:
        raise InputError(f"setting 'polyak_decay' must be in [0, 1), got {settings.polyak_decay}")
