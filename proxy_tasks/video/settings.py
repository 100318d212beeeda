"""The video proxy task's settings under each preset."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.overrides import chosen, require, require_at_least
from search_spaces import InputError

__all__ = ["VideoSettings", "video_settings"]


@dataclasses.dataclass(frozen=True)
class VideoSettings:
    """How the video proxy task trains and scores.

    Args:
        long_side: the long side in pixels to which larger frames are reduced; smaller ones stay as they are.
        crop_height: the height in pixels of the crops of meta-train, all of a clip at one place; frames that are lower
            are not padded. Frames of meta-val are not cropped.
        crop_width: the width in pixels of these crops.
        batch_size: the number of sequences in a training step.
        epochs: the number of passes over meta-train's sequences in a trial.
        learning_rate: Adam's learning rate.
        width: the channels of the static decoder and of the cell.
        backbone: the name of the static network's encoder.
        pretrain_iterations: the number of steps of the static network's training, where no trained one is given.
        pretrain_batch_size: the number of frames in such a step.
        pretrain_learning_rate: the peak learning rate of AdamW in them, under the one-cycle schedule.
        sequence_length: the number of frames in a sequence, at least 2: the cell carries the first through all others,
            in training and in scoring. None is the published number of the data: 3, of Cityscapes 2.
    """

    long_side: int
    crop_height: int
    crop_width: int
    batch_size: int
    epochs: int
    learning_rate: float
    width: int
    backbone: str
    pretrain_iterations: int
    pretrain_batch_size: int
    pretrain_learning_rate: float
    sequence_length: int | None = None


# thesis 6.4.1, for CamVid (whose frames are smaller than the published crop of 600) and for Cityscapes
_CAMVID = VideoSettings(480, 600, 600, 48, 20, 8e-3, 64, "mobilenet_v2", 12000, 16, 4e-3)
_CITYSCAPES = VideoSettings(1024, 512, 512, 48, 10, 8e-3, 64, "mobilenet_v2", 12000, 16, 4e-3)
_DEMO = VideoSettings(128, 128, 128, 24, 10, 8e-3, 32, "tiny", 240, 16, 4e-3)


def video_settings(preset: str, space: str, backbone: str | None, overrides: Mapping[str, Any]) -> VideoSettings:
    """The preset's settings with the user's changes.

    Args:
        preset: ``demo`` or ``paper``.
        space: the space's name: ``video_cell_4`` has the published settings of Cityscapes, any other those of CamVid.
        backbone: the encoder's name; None is the preset's.
        overrides: the settings to change, by name.

    Raises:
        InputError: no such preset, setting or backbone; a value of the wrong type or out of range.
    """
    presets = {"paper": _CITYSCAPES if space == "video_cell_4" else _CAMVID, "demo": _DEMO}
    settings = chosen(presets, preset, backbone, overrides, "the video proxy task")
    channels_of_backbone(settings.backbone)  # refuses an unknown name
    positive = ("batch_size", "epochs", "learning_rate", "width", "pretrain_batch_size", "pretrain_learning_rate")
    require(settings, positive, not_negative=("pretrain_iterations",))
    for name in ("long_side", "crop_height", "crop_width"):
        value = getattr(settings, name)
        if value < 32:
            raise InputError(f"setting {name!r} must be at least 32 pixels (the backbone's stride), got {value}")
    require_at_least(settings, "sequence_length", 2, "frames")
    return settings
