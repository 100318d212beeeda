"""How networks that find objects in images are trained in full."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from proxy_tasks.overrides import require, require_decay
from search_spaces import InputError

__all__ = ["ImageRecipe"]

CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("steps", "one_cycle"),
}


@dataclass(frozen=True)
class ImageRecipe:
    """What all of them have; each family's adds its own.

    Args:
        min_size: the short side in pixels to which images are resized.
        max_size: the most that the long side may have; then the short side is shorter.
        min_size_least: in training the short side is drawn for every batch, from here to ``min_size``.
        flip: the share of training images that are mirrored, from 0 to 1.
        batch_size: images in a step.
        base_batch_size: the batch size that ``iterations``, ``warmup_iterations`` and ``learning_rate`` are for; with
            another one the rate grows and the steps shrink in proportion.
        iterations: steps.
        optimizer: ``sgd`` or ``adamw``.
        learning_rate: at its highest.
        momentum: of SGD.
        weight_decay: of all weights.
        schedule: ``steps``, under which the rate falls tenfold twice, or ``one_cycle``.
        first_drop: the share of the steps after which the rate first falls.
        second_drop: the share after which it falls again.
        warmup_iterations: steps over which the rate rises linearly, under ``steps``.
        warmup_factor: the part of the rate that it rises from.
        gradient_norm: gradients are clipped to it; 0 is not at all.
        weight_average: the decay of the moving average of the weights, which is what is measured; 0 is none.
        validate_every: steps between two measurements on a tenth of the training images, which is then held out; the
            weights with the highest AP there are the result. 0: nothing is held out, the last weights are the result.
        backbone: its name; None leaves it open, see `around`.
        width: channels, as the family's networks take them; None leaves them open, see `around`.

    Attributes:
        published: backbone and width where neither a recipe nor a search says any.
        learned: what of a target the network learns from.
    """

    published: ClassVar[tuple[str, str]] = ("resnet50", "256")
    learned: ClassVar[tuple[str, ...]] = ("boxes", "labels", "iscrowd")
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = CHOICES

    min_size: int = 800
    max_size: int = 1333
    min_size_least: int = 800
    flip: float = 0.5
    batch_size: int = 16
    base_batch_size: int = 16
    iterations: int = 90000
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "steps"
    first_drop: float = 2 / 3
    second_drop: float = 8 / 9
    warmup_iterations: int = 500
    warmup_factor: float = 1 / 3
    gradient_norm: float = 0.0
    weight_average: float = 0.0
    validate_every: int = 0
    backbone: str | None = None
    width: str | None = None

    def __post_init__(self) -> None:
        positive = (
            *("batch_size", "base_batch_size", "iterations", "learning_rate", "max_size"),
            *("warmup_factor", "first_drop", "second_drop"),
        )
        require(self, positive, ("momentum", "weight_decay", "warmup_iterations", "gradient_norm", "validate_every"))
        if not 32 <= self.min_size_least <= self.min_size <= self.max_size:
            raise InputError(
                "settings 'min_size_least', 'min_size' and 'max_size' must rise, from 32 pixels on, got"
                f" {self.min_size_least}, {self.min_size} and {self.max_size}"
            )
        if not self.first_drop <= self.second_drop <= 1:
            raise InputError(
                "settings 'first_drop' and 'second_drop' must be shares of the training, the first not above the"
                f" second, got {self.first_drop} and {self.second_drop}"
            )
        if not 0 <= self.flip <= 1:
            raise InputError(f"setting 'flip' must be a share from 0 to 1, got {self.flip}")
        require_decay(self, "weight_average")
        for name, known in self.choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"setting {name!r} must be {' or '.join(known)}, got {getattr(self, name)!r}")

    @property
    def scale(self) -> float:
        """The batch in parts of that which the rate and the numbers of steps are for."""
        return self.batch_size / self.base_batch_size

    def sizes(self) -> dict[str, Any]:
        """What a network is built to, as builders call it; of a recipe that leaves nothing open."""
        assert self.backbone is not None, "see around"
        assert self.width is not None, "see around"
        return {name: getattr(self, name) for name in ("backbone", "width", "min_size", "max_size")}

    def around(self, backbone: str | None = None, width: str | int | None = None, **others: Any) -> Self:
        """This recipe with backbone and width filled in where it leaves them open.

        Args:
            backbone: that of the search; None is the published one.
            width: that of the search; None is the published one.
            others: further sizes of the searched networks, of no matter here.
        """
        chosen = self.width or (None if width is None else str(width)) or self.published[1]
        return dataclasses.replace(self, backbone=self.backbone or backbone or self.published[0], width=chosen)
