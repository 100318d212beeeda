"""How networks with mask heads are trained in full."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.detection.recipe import ImageRecipe
from proxy_tasks.masks import efficientdet
from proxy_tasks.masks.network import check_backbone, parse_width
from proxy_tasks.overrides import require

__all__ = ["MaskRecipe"]


@dataclass(frozen=True)
class MaskRecipe(ImageRecipe):
    """Full training of a network with a mask head; see `ImageRecipe` for what is not named here.

    Args:
        anchors: the anchors' published sides (32 to 512 pixels) are multiplied by it.
    """

    published: ClassVar = (efficientdet.NAME, "256")
    learned: ClassVar = (*ImageRecipe.learned, "masks")

    anchors: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ("anchors",))
        if self.backbone is not None:
            check_backbone(self.backbone)
        if self.width is not None:
            parse_width(self.width)
