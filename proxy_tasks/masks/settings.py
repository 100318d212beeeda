"""The mask proxy task's settings under each preset."""

import dataclasses
from typing import Any

from proxy_tasks.masks import efficientdet
from proxy_tasks.masks.network import check_backbone
from proxy_tasks.overrides import PRETRAINED_RATE, chosen, require, require_decay
from search_spaces import InputError

__all__ = ["MaskSettings", "mask_settings"]


@dataclasses.dataclass(frozen=True)
class MaskSettings:
    """One proxy task.

    Args:
        crop: side of the square crops, pixels.
        anchors: the anchors' published sides (32 to 512 pixels) are multiplied by it.
        mirrored: whether the mirror image of every crop of meta-train is learned too.
        rois: RoIs of a crop that every stage learns from and is scored on, at most.
        batch_size: RoIs of every stage in a training step.
        iterations: training steps of a trial.
        learning_rate: Adam's.
        polyak_decay: the decay of the moving average of the weights, which is what is evaluated.
        width: channels of the pyramid, the semantic branch and the mask stages.
        backbone: its name.
        pretrain_iterations: steps in which the whole network around the plain head is trained, before it is frozen.
        pretrain_batch_size: crops in such a step.
        pretrain_learning_rate: AdamW's peak rate under the one-cycle schedule.
    """

    crop: int
    anchors: float
    mirrored: bool
    rois: int
    batch_size: int
    iterations: int
    learning_rate: float
    polyak_decay: float
    width: int
    backbone: str
    pretrain_iterations: int
    pretrain_batch_size: int
    pretrain_learning_rate: float


PRESETS = {
    # nothing is published of a search of mask heads: crops, length and average are those of the FCOS proxy task's
    # (thesis 7.4.1), the network is the thesis' HTC on EfficientDet-D3
    "paper": MaskSettings(
        crop=384,
        anchors=0.48,
        mirrored=False,
        rois=16,
        batch_size=512,
        iterations=300,
        learning_rate=8e-4,
        polyak_decay=0.9,
        width=256,
        backbone=efficientdet.NAME,
        pretrain_iterations=12000,
        pretrain_batch_size=16,
        pretrain_learning_rate=2e-4,
    ),
    "demo": MaskSettings(
        crop=128,
        anchors=0.25,
        mirrored=True,
        rois=8,
        batch_size=32,
        iterations=60,
        learning_rate=4e-3,
        polyak_decay=0.9,
        width=32,
        backbone="tiny",
        pretrain_iterations=160,
        pretrain_batch_size=8,
        pretrain_learning_rate=5e-3,
    ),
}
DEMO = PRESETS["demo"]
# the rate of `demo` is for `tiny`, which starts from scratch; other backbones have weights already
PRETRAINED_DEMO = dataclasses.replace(DEMO, pretrain_learning_rate=PRETRAINED_RATE)


def mask_settings(preset: str, backbone: str | None, overrides: dict[str, Any]) -> MaskSettings:
    """The preset's settings with the user's changes.

    Raises:
        InputError: no such preset, setting or backbone; a value of the wrong type or out of range.
    """
    presets = PRESETS if backbone in (None, DEMO.backbone) else {**PRESETS, "demo": PRETRAINED_DEMO}
    settings = chosen(presets, preset, backbone, overrides, "the mask proxy task")
    _check(settings)
    return settings


def _check(settings: MaskSettings) -> None:
    check_backbone(settings.backbone)
    positive = (
        *("anchors", "rois", "batch_size", "iterations", "learning_rate", "width"),
        *("pretrain_batch_size", "pretrain_learning_rate"),
    )
    require(settings, positive, not_negative=("pretrain_iterations",))
    stride = efficientdet.STRIDE if settings.backbone == efficientdet.NAME else 32
    if settings.crop < stride or settings.crop % stride:
        raise InputError(
            f"setting 'crop' must be a multiple of {stride} pixels with this backbone, got {settings.crop}"
        )
    if settings.width % 2:
        raise InputError(f"setting 'width' must be even, as deformable convolutions need it, got {settings.width}")
    require_decay(settings, "polyak_decay")
