"""How detectors are trained in full (NAS-FCOS, sec. 4.1; thesis 7.4.1)."""

import dataclasses
from dataclasses import dataclass

from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.fcos.detector import parse_width
from proxy_tasks.fcos.settings import REGRESSIONS
from proxy_tasks.overrides import require
from search_spaces import InputError
from search_spaces.fcos.head import TOWERS

__all__ = ["DetectorRecipe"]

BACKBONE, WIDTH = "resnet50", "128-256"
CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("steps", "one_cycle"),
    "regression": REGRESSIONS,
    "centerness_on": TOWERS,
}


@dataclass(frozen=True)
class DetectorRecipe:
    """Full training of a detector.

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
        interest: the published sizes of interest (64, 128, 256, 512 pixels) are multiplied by it.
        regression: what a location's box loss counts, ``uniform`` or ``centerness``.
        centerness_on: the tower that predicts it, ``classification`` or ``regression``.
        validate_every: steps between two measurements on a tenth of the training images, which is then held out; the
            weights with the highest AP there are the result. 0: nothing is held out, the last weights are the result.
        backbone: its name; None leaves it open, see `around`.
        width: the channels of FPN and head, ``"128-256"``; None leaves them open, see `around`.
    """

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
    interest: float = 1.0
    regression: str = "uniform"
    centerness_on: str = "classification"
    validate_every: int = 0
    backbone: str | None = None
    width: str | None = None

    def __post_init__(self) -> None:
        positive = (
            *("batch_size", "base_batch_size", "iterations", "learning_rate", "max_size", "interest"),
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
        if not 0 <= self.weight_average < 1:
            raise InputError(f"setting 'weight_average' must be in [0, 1), got {self.weight_average}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"setting {name!r} must be {' or '.join(known)}, got {getattr(self, name)!r}")
        if self.backbone is not None:
            channels_of_backbone(self.backbone)  # refuses an unknown name
        if self.width is not None:
            parse_width(self.width)

    @property
    def scale(self) -> float:
        """The batch in parts of that which the rate and the numbers of steps are for."""
        return self.batch_size / self.base_batch_size

    def around(self, backbone: str | None = None, width: str | None = None) -> "DetectorRecipe":
        """This recipe with backbone and width filled in where it leaves them open.

        Args:
            backbone: that of the search; None is the published one.
            width: that of the search; None is the published one.
        """
        return dataclasses.replace(
            self, backbone=self.backbone or backbone or BACKBONE, width=self.width or width or WIDTH
        )
