"""How detectors and mask networks resize their images."""

from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

__all__ = ["Resizing"]


class Resizing(GeneralizedRCNNTransform):
    """torchvision's transform, by which no image vanishes: of 3 × 3000 pixels it would make one of 0 × 1333."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """As torchvision's, with sides of one pixel at least."""
        height, width = image.shape[-2:]
        share = self.max_size / max(height, width)
        vanishes = int(share * min(height, width)) < 1
        self.fixed_size = (max(1, int(share * width)), max(1, int(share * height))) if vanishes else None
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized
