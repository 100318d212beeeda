"""How segmentation networks are trained in full: single frames, and cells end to end."""

import dataclasses
from dataclasses import dataclass

from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.overrides import require, require_at_least, require_decay
from search_spaces import InputError

__all__ = ["Recipe", "StaticRecipe", "VideoRecipe"]

BACKBONE, WIDTH = "mobilenet_v2", 64  # as published


@dataclass(frozen=True)
class _Images:
    """How training images are made: resized by ``scale`` and a random factor, cropped, padded, mirrored.

    Args:
        scale: the resolution of the network's input in parts of the data's own; evaluation works at it too.
        scale_min: the least random factor.
        scale_max: the largest random factor.
        flip: the share of the images, or sequences, that are mirrored, from 0 to 1.
        crop_height: the height of a training image in pixels; what an image lacks is padded with the mean colour, its
            labels with void.
        crop_width: the width of a training image in pixels.
        batch_size: the number of images, or sequences, in a step.
        weight_average: the decay of the moving average of the weights, which is what is measured; 0 is none.
        validate_every: steps between two measurements on a tenth of the training frames, which is then held out as
            meta-val is in a search; the weights with the highest mIoU there are the result. 0: nothing is held out,
            the last weights are the result.
    """

    scale: float = 1.0
    scale_min: float = 1.0
    scale_max: float = 1.0
    flip: float = 0.0
    crop_height: int = 600
    crop_width: int = 600
    batch_size: int = 32
    weight_average: float = 0.0
    validate_every: int = 0

    def __post_init__(self) -> None:
        require(self, ("scale", "scale_min", "scale_max", "batch_size"), ("validate_every",))
        for name in ("crop_height", "crop_width"):
            require_at_least(self, name, 32, "pixels")
        if self.scale_max < self.scale_min:
            raise InputError(f"setting 'scale_max' must not be below 'scale_min', got {self.scale_max}")
        if not 0 <= self.flip <= 1:
            raise InputError(f"setting 'flip' must be a share from 0 to 1, got {self.flip}")
        require_decay(self, "weight_average")


@dataclass(frozen=True)
class StaticRecipe(_Images):
    """Per-frame training with SGD under the poly schedule (thesis A.1).

    Args:
        epochs: the number of passes over the annotated frames.
        encoder_learning_rate: the encoder's learning rate at the start.
        decoder_learning_rate: the decoder's learning rate at the start.
        momentum: the momentum of SGD.
        weight_decay: the weight decay of SGD.
        poly_power: the exponent of the schedule, under which a rate falls as (1 - step / steps) ** poly_power.
        auxiliary_weight: the weight of each auxiliary classifier's loss.
        backbone: the name of the encoder.
        width: the channels of the decoder.
    """

    scale_min: float = 0.5
    scale_max: float = 2.0
    flip: float = 0.5
    epochs: int = 2000
    encoder_learning_rate: float = 5e-2
    decoder_learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 1e-5
    poly_power: float = 0.9
    auxiliary_weight: float = 0.3
    backbone: str = BACKBONE
    width: int = WIDTH

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            ("epochs", "encoder_learning_rate", "decoder_learning_rate", "poly_power", "width"),
            ("momentum", "weight_decay", "auxiliary_weight"),
        )
        channels_of_backbone(self.backbone)  # refuses an unknown name


@dataclass(frozen=True)
class VideoRecipe(_Images):
    """End-to-end training of a cell and its static network: the cell first, then both (thesis 6.4.2).

    Scales and mirroring are off, since the thesis states them for the static training alone.

    Args:
        cell_epochs: the number of passes over the sequences for the cell alone, the static network frozen.
        epochs: the number of passes over the sequences end to end.
        cell_learning_rate: Adam's learning rate for the cell alone.
        finetune_cell_learning_rate: Adam's learning rate for the cell end to end.
        static_learning_rate: SGD's learning rate for the static network end to end.
        momentum: the momentum of SGD.
        keyframe_interval: in evaluation the static decoder runs on every such frame of a clip, the cell on those
            between; 0: on a clip's first frame alone.
        sequence_length: the number of frames in a sequence, at least 2: the cell carries the first through all others.
            None is the published number of the data: 3, of Cityscapes 2.
        backbone: the name of the static network's encoder; None leaves it open, see `around`.
        width: the channels of decoder and cell; None leaves them open, see `around`.
    """

    cell_epochs: int = 10
    epochs: int = 100
    cell_learning_rate: float = 8e-3
    finetune_cell_learning_rate: float = 4e-3
    static_learning_rate: float = 5e-4
    momentum: float = 0.9
    keyframe_interval: int = 3
    sequence_length: int | None = None
    backbone: str | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = ("cell_learning_rate", "finetune_cell_learning_rate", "static_learning_rate")
        require(self, rates, ("cell_epochs", "epochs", "momentum", "keyframe_interval"))
        require_at_least(self, "sequence_length", 2, "frames")
        if self.width is not None:
            require(self, ("width",))
        if self.backbone is not None:
            channels_of_backbone(self.backbone)  # refuses an unknown name

    def around(self, backbone: str | None = None, width: int | None = None) -> "VideoRecipe":
        """This recipe with the backbone and width of the static network that is trained on, so that none is left open.

        Args:
            backbone: the name of that network's encoder; None where it is not known: then it is the recipe's, and where
                that leaves it open the published one.
            width: the channels of that network's decoder; None as for the backbone.

        Raises:
            InputError: the recipe says otherwise than the network.
        """
        for name, found in (("backbone", backbone), ("width", width)):
            given = getattr(self, name)
            if given is not None and found is not None and given != found:
                raise InputError(
                    f"the recipe's {name} is {given}, but the static network that it starts from has the {name}"
                    f" {found}; leave it out of the recipe"
                )
        sizes = {"backbone": self.backbone or backbone or BACKBONE, "width": self.width or width or WIDTH}
        return dataclasses.replace(self, **sizes)  # type: ignore[arg-type]


Recipe = StaticRecipe | VideoRecipe
