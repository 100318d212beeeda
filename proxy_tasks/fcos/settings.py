"""The FCOS proxy task's settings under each preset."""

import dataclasses
from typing import Any

import torch

from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.fcos.detector import parse_width
from proxy_tasks.fcos.targets import Locations
from proxy_tasks.overrides import PRETRAINED_RATE, chosen, require, require_decay
from search_spaces import InputError

__all__ = ["FCOSSettings", "fcos_settings"]


@dataclasses.dataclass(frozen=True)
class FCOSSettings:
    """One proxy task.

    Args:
        crop: side of the square crops, pixels. Networks see crops padded to a multiple of 128.
        interest: the published sizes of interest (64, 128, 256, 512 pixels) are multiplied by it. They say which level
            of the pyramid answers for a box, and so belong to the levels' strides, whatever the crop.
        mirrored: whether the mirror image of every crop of meta-train is learned too.
        batch_size: images in a training step.
        iterations: training steps of a trial.
        learning_rate: Adam's.
        polyak_decay: the decay of the moving average of the weights, which is what is evaluated.
        width: the channels of FPN and head, ``"64-128"``.
        fpn_search_width: the same while FPNs alone are searched; a narrow head costs a trial less.
        regression: what a location's box loss counts: ``"uniform"``, the same everywhere (thesis eq. 7.2), or
            ``"centerness"``, as much as its centerness (FCOS's later recipe).
        backbone: its name.
        pretrain_iterations: steps of the backbone's fine-tuning as a standard FCOS.
        pretrain_batch_size: images in such a step.
        pretrain_learning_rate: AdamW's peak rate under the one-cycle schedule.
    """

    crop: int
    interest: float
    mirrored: bool
    batch_size: int
    iterations: int
    learning_rate: float
    polyak_decay: float
    width: str
    fpn_search_width: str
    regression: str
    backbone: str
    pretrain_iterations: int
    pretrain_batch_size: int
    pretrain_learning_rate: float

    def locations(self, device: torch.device) -> Locations:
        """Where the pyramid looks on such crops."""
        return Locations.of(self.crop, self.interest, device)


PRESETS = {
    # thesis 7.4.1: crops of 384 pixels, where the published sizes of interest are for a short side of 800, and never
    # mirrored; the fine-tuning's length is not published: about 50 passes over the 4000 images
    "paper": FCOSSettings(
        crop=384,
        interest=0.48,
        mirrored=False,
        batch_size=200,
        iterations=300,
        learning_rate=8e-4,
        polyak_decay=0.9,
        width="64-128",
        fpn_search_width="64",
        regression="uniform",
        backbone="resnet50",
        pretrain_iterations=12000,
        pretrain_batch_size=16,
        pretrain_learning_rate=2e-4,
    ),
    "demo": FCOSSettings(
        crop=128,
        interest=0.48,
        mirrored=True,
        batch_size=16,
        iterations=60,
        learning_rate=1e-3,
        polyak_decay=0.9,
        width="32",
        fpn_search_width="32",
        regression="uniform",
        backbone="tiny",
        pretrain_iterations=240,
        pretrain_batch_size=16,
        pretrain_learning_rate=4e-3,
    ),
}
DEMO = PRESETS["demo"]
# the rate of `demo` is for `tiny`, which starts from scratch; other backbones have weights already
PRETRAINED_DEMO = dataclasses.replace(DEMO, pretrain_learning_rate=PRETRAINED_RATE)
REGRESSIONS = ("uniform", "centerness")


def fcos_settings(preset: str, backbone: str | None, overrides: dict[str, Any]) -> FCOSSettings:
    """The preset's settings with the user's changes.

    Raises:
        InputError: no such preset, setting or backbone; a value of the wrong type or out of range.
    """
    presets = PRESETS if backbone in (None, DEMO.backbone) else {**PRESETS, "demo": PRETRAINED_DEMO}
    settings = chosen(presets, preset, backbone, overrides, "the FCOS proxy task")
    _check(settings)
    return settings


def _check(settings: FCOSSettings) -> None:
    channels_of_backbone(settings.backbone)  # refuses an unknown name
    for name in ("width", "fpn_search_width"):
        fpn, head = parse_width(getattr(settings, name))
        if head % fpn:
            raise InputError(f"setting {name!r}: the head's width {head} must be a multiple of the FPN's {fpn}")
    if settings.regression not in REGRESSIONS:
        raise InputError(f"setting 'regression' must be {' or '.join(REGRESSIONS)}, got {settings.regression!r}")
    positive = (
        "interest",
        "batch_size",
        "iterations",
        "learning_rate",
        "pretrain_batch_size",
        "pretrain_learning_rate",
    )
    require(settings, positive, not_negative=("pretrain_iterations",))
    if settings.crop < 32:
        raise InputError(f"setting 'crop' must be at least 32 pixels (the backbone's stride), got {settings.crop}")
    require_decay(settings, "polyak_decay")
