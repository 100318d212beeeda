"""How segmentation networks are trained in full: single frames, and cells end to end."""

from dataclasses import dataclass

from proxy_tasks.backbones import BACKBONES
from proxy_tasks.overrides import require
from search_spaces import InputError

__all__ = ["Recipe", "StaticRecipe", "VideoRecipe"]


@dataclass(frozen=True)
class _Images:
    """How training images are made (thesis 6.4.2, A.1): resized by ``scale`` and a random factor, cropped, padded.

    Args:
        scale: of the data's own resolution; the network works at it in evaluation too.
        scale_min: least random factor.
        scale_max: largest random factor.
        crop_height: pixels; what an image lacks is padded with the mean, its labels with void.
        crop_width: pixels.
        batch_size: images, or sequences, a step.
        backbone: the encoder's name.
        width: channels of decoder and cell.
    """

    scale: float = 1.0
    scale_min: float = 0.5
    scale_max: float = 2.0
    crop_height: int = 600
    crop_width: int = 600
    batch_size: int = 32
    backbone: str = "mobilenet_v2"
    width: int = 64

    def __post_init__(self) -> None:
        positive = ("scale", "scale_min", "scale_max", "batch_size", "width")
        require(self, positive)
        for name in ("crop_height", "crop_width"):
            if getattr(self, name) < 32:
                raise InputError(f"setting {name!r} must be at least 32 pixels, got {getattr(self, name)}")
        if self.scale_max < self.scale_min:
            raise InputError(f"setting 'scale_max' must not be below 'scale_min', got {self.scale_max}")
        if self.backbone not in BACKBONES:
            raise InputError(f"there is no backbone {self.backbone!r}; known: {', '.join(BACKBONES)}")


@dataclass(frozen=True)
class StaticRecipe(_Images):
    """Per-frame training with SGD under the poly schedule (thesis A.1).

    Args:
        epochs: passes over the annotated frames.
        encoder_learning_rate: at the start.
        decoder_learning_rate: at the start.
        momentum: SGD's.
        weight_decay: SGD's.
        poly_power: the rate falls as (1 - step / steps) ** poly_power.
        auxiliary_weight: of each auxiliary classifier's loss.
    """

    epochs: int = 2000
    encoder_learning_rate: float = 5e-2
    decoder_learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 1e-5
    poly_power: float = 0.9
    auxiliary_weight: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            ("epochs", "encoder_learning_rate", "decoder_learning_rate", "poly_power"),
            ("momentum", "weight_decay", "auxiliary_weight"),
        )


@dataclass(frozen=True)
class VideoRecipe(_Images):
    """End-to-end training of a cell and its static network: the cell first, then both (thesis 6.4.2).

    Args:
        cell_epochs: passes over the sequences for the cell alone, the static network frozen.
        epochs: passes over the sequences end to end.
        cell_learning_rate: Adam's, for the cell alone.
        finetune_cell_learning_rate: Adam's, for the cell end to end.
        static_learning_rate: SGD's, for the static network end to end.
        momentum: SGD's.
        keyframe_interval: in evaluation the static decoder runs on every such frame of a clip, the cell on those
            between; 0: on a clip's first frame alone.
    """

    cell_epochs: int = 10
    epochs: int = 100
    cell_learning_rate: float = 8e-3
    finetune_cell_learning_rate: float = 4e-3
    static_learning_rate: float = 5e-4
    momentum: float = 0.9
    keyframe_interval: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = ("cell_learning_rate", "finetune_cell_learning_rate", "static_learning_rate")
        require(self, rates, ("cell_epochs", "epochs", "momentum", "keyframe_interval"))


Recipe = StaticRecipe | VideoRecipe
