"""The contract of using what was trained: from images to what is found in them, drawn and as JSON."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["Predictor", "Trained"]


@dataclass(frozen=True)
class Trained:
    """What a full training's folder says of the network in it.

    Args:
        recipe: the settings that it was trained by, nothing left open.
        classes: the names of its classes.
        palette: red, green and blue of each, 0 to 255, where its data say so.
    """

    recipe: Mapping[str, Any]
    classes: list[str]
    palette: Sequence[tuple[int, int, int]] = ()


class Predictor(ABC):
    """A trained network with its classes and all that lies between an image file and a picture.

    Images are uint8 (3, H, W), RGB, of any size; they are resized and normalised as in the network's training.

    Attributes:
        network: in evaluation mode, on its device.
        classes: their names.
    """

    network: nn.Module
    classes: Sequence[str]

    def begin(self) -> None:  # noqa: B027 (optional)
        """The next image is the first of a clip; to what looks at images one by one it is nothing."""

    @abstractmethod
    def predict(self, image: Tensor) -> Any:
        """What the network finds in an image, or in the next frame of a clip."""

    @abstractmethod
    def drawn(self, image: Tensor, found: Any) -> Tensor:
        """The image (3, H, W) uint8 with what was found in it."""

    @abstractmethod
    def rows(self, image_id: int, found: Any) -> list[dict[str, Any]]:
        """What was found, as entries of a COCO results file; categories count from 1."""
