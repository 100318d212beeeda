"""torchvision's anchors, which know nothing of the precision that maps are computed in."""

from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from proxy_tasks.precision import at_least_float32

__all__ = ["Anchors"]


class Anchors(AnchorGenerator):
    """torchvision's `AnchorGenerator`, in float32 also for maps of bfloat16."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """As torchvision's, which takes nothing but size, place and type of the maps (N, C, ·, ·)."""
        anchors: list[Tensor] = super().forward(image_list, [at_least_float32(one[:1, :1]) for one in feature_maps])
        return anchors
