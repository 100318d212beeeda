"""Full-training configurations: a recipe is a YAML file of settings, its ``kind`` says what is trained.

The published ones lie here and go by their names; one of your own is a file with the same keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from proxy_tasks.backbones import BACKBONES
from proxy_tasks.overrides import overridden, require
from search_spaces import InputError

__all__ = ["Recipe", "StaticRecipe", "VideoRecipe", "load", "names"]

_FOLDER = Path(__file__).parent


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
_KINDS: dict[str, type[Recipe]] = {"static": StaticRecipe, "video": VideoRecipe}


def names() -> tuple[str, ...]:
    """The names of all published recipes."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load(what: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called ``what``, or in the YAML file ``what``, with single settings changed.

    Raises:
        InputError: no such recipe, not a recipe, or a setting that is unknown or out of range.
    """
    path = _FOLDER / f"{what}.yaml" if what in names() else Path(what)
    if not path.is_file():
        raise InputError(f"there is no recipe {what!r}; known: {', '.join(names())}, or a YAML file of your own")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the recipe {path} cannot be read: {reason}") from error
    content = {str(name): value for name, value in content.items()} if isinstance(content, dict) else {}
    kind = content.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InputError(f"{path}: a recipe is a YAML mapping whose key 'kind' is {' or '.join(_KINDS)}, got {kind!r}")
    try:
        recipe = overridden(_KINDS[kind](), content, f"a {kind} recipe")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return overridden(recipe, changes or {}, f"the recipe {what}")
