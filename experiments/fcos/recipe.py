"""How detectors are trained in full (NAS-FCOS, sec. 4.1; thesis 7.4.1)."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.detection.recipe import ImageRecipe
from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.fcos.detector import parse_width
from proxy_tasks.fcos.settings import REGRESSIONS
from proxy_tasks.overrides import require
from search_spaces.fcos.head import TOWERS

__all__ = ["DetectorRecipe"]


@dataclass(frozen=True)
class DetectorRecipe(ImageRecipe):
    """Full training of a detector; see `ImageRecipe` for what is not named here.

    Args:
        interest: the published sizes of interest (64, 128, 256, 512 pixels) are multiplied by it.
        regression: what a location's box loss counts, ``uniform`` or ``centerness``.
        centerness_on: the tower that predicts it, ``classification`` or ``regression``.
    """

    published: ClassVar = ("resnet50", "128-256")
    choices: ClassVar = {**ImageRecipe.choices, "regression": REGRESSIONS, "centerness_on": TOWERS}

    interest: float = 1.0
    regression: str = "uniform"
    centerness_on: str = "classification"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ("interest",))
        if self.backbone is not None:
            channels_of_backbone(self.backbone)  # refuses an unknown name
        if self.width is not None:
            parse_width(self.width)
