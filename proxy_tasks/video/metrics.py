"""Metrics of semantic segmentation: mIoU and its relatives from one confusion matrix, and mIoU near boundaries (tIoU).

Notation: C classes, n_ij pixels of class i that were predicted as class j, t_i = sum_j n_ij. Pixels labelled `VOID`
count nowhere. The definitions are those of Long, Shelhamer & Darrell (CVPR 2015, sec. 5).
"""

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from proxy_tasks.data.video.base import VOID

__all__ = ["TRIMAP_WIDTH", "Segmentation", "SegmentationMeter", "confusion", "trimap"]

TRIMAP_WIDTH = 3  # pixels (thesis table 6.4)


def confusion(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The confusion matrix n, int64 (C, C), on the labels' device: rows the truth, columns the prediction.

    Args:
        predictions: (..., H, W) of any integer dtype, classes from 0.
        labels: the truth in the same shape, any integer dtype: classes from 0, or `VOID`, where any prediction will do.
        classes: C.
    """
    assert predictions.shape == labels.shape, f"predictions {(*predictions.shape,)}, labels {(*labels.shape,)}"
    assert not any(tensor.is_floating_point() for tensor in (predictions, labels)), "classes are integers"
    truth, predicted = labels.long().flatten(), predictions.long().flatten()  # uint8 would overflow below
    void = truth == VOID
    known = (truth >= 0) & (truth < classes) & (predicted >= 0) & (predicted < classes)
    assert bool((known | void).all()), f"classes count from 0 to {classes - 1}"
    cells = (truth * classes + predicted).masked_fill(void, classes * classes)  # void pixels go to a cell of their own
    return torch.bincount(cells, minlength=classes * classes + 1)[:-1].reshape(classes, classes)


@dataclass(frozen=True)
class Segmentation:
    """The metrics of one confusion matrix, each in [0, 1]; NaN where nothing was there to measure.

    Args:
        iou: n_ii / (t_i + sum_j n_ji - n_ii) for each class; NaN where a class occurs in neither truth nor prediction.
        miou: the mean of ``iou`` over the classes that occur.
        fwiou: frequency-weighted IoU, sum_i t_i iou_i / sum_i t_i.
        macc: n_ii / t_i, averaged over the classes of the truth.
        gacc: sum_i n_ii / sum_i t_i, the share of pixels that are right.
    """

    iou: tuple[float, ...]
    miou: float
    fwiou: float
    macc: float
    gacc: float

    @classmethod
    def of(cls, matrix: Tensor) -> "Segmentation":
        """The metrics of `confusion`'s ``matrix``, or of a sum of such matrices: int64 (C, C)."""
        counts = matrix.cpu().double()
        right, truth, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
        iou = right / (truth + predicted - right)  # 0 / 0 is NaN, which the means below leave out
        return cls(
            iou=tuple(iou.tolist()),
            miou=iou.nanmean().item(),
            fwiou=((truth * iou).nansum() / truth.sum()).item(),
            macc=(right / truth).nanmean().item(),
            gacc=(right.sum() / truth.sum()).item(),
        )

    @property
    def score(self) -> float:
        """The reward of the search: the geometric mean of ``miou``, ``fwiou`` and ``macc`` (thesis 6.3.3)."""
        return (self.miou * self.fwiou * self.macc) ** (1 / 3)


def trimap(labels: Tensor, width: int = TRIMAP_WIDTH) -> Tensor:
    """The band around the boundaries between classes: bool, of the labels' shape.

    A pixel is in the band if its Euclidean distance to a pixel of *another class*, centre to centre, is at most
    ``width``: every boundary has ``width`` pixels of band on each side. The literature (Kohli et al., IJCV 2009;
    Krähenbühl & Koltun, NIPS 2011; Gadde et al., ICCV 2017) takes a narrow band without giving the distance; with the
    Euclidean one it is as wide along a slanting boundary as along an upright one, which a dilation by a square would
    make up to 1.41 times as wide.

    `VOID` is no class: its pixels are never in the band, and its own borders make none, because an unlabelled region
    (the car's bonnet, the rim that rectification leaves) does not say where a class ends. Two classes that a strip of
    void parts still face each other across it where the strip is thinner than ``width`` pixels. The image's border is
    no boundary.

    Args:
        labels: (..., H, W) of any integer dtype, classes from 0 or `VOID`.
        width: pixels, at least 1.
    """
    assert width >= 1, f"a band of {width} pixels is empty"
    classes = labels.long()
    void = classes == VOID
    # Another class is within reach where the largest class in reach is larger, or the smallest smaller, than the own.
    signed = torch.stack([classes, -classes], dim=-3).float().masked_fill(void.unsqueeze(-3), -torch.inf)
    planes = signed.reshape(-1, 2, *labels.shape[-2:])
    # A disc of pixels is a union of centred rectangles: of each width 2x + 1 the highest. Max-pooling pads with -inf.
    reach = {isqrt(width * width - y * y): y for y in range(width + 1)}
    pools = [F.max_pool2d(planes, (2 * y + 1, 2 * x + 1), stride=1, padding=(y, x)) for x, y in reach.items()]
    largest = torch.stack(pools).amax(dim=0).reshape(signed.shape)
    return (largest > signed).any(dim=-3) & ~void


class SegmentationMeter:
    """Gathers the metrics of a whole set, batch by batch; the counts of all frames make one matrix.

    Args:
        classes: the number of classes, C.
        width: the width of the `trimap` in pixels.
    """

    def __init__(self, classes: int, width: int = TRIMAP_WIDTH):
        self.classes, self.width = classes, width
        self._everywhere = torch.zeros(classes, classes, dtype=torch.int64)
        self._band = torch.zeros_like(self._everywhere)

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Counts a batch: (..., H, W) of any integer dtype, on any one device, as for `confusion`."""
        outside = ~trimap(labels, self.width)
        self._everywhere += confusion(predictions, labels, self.classes).cpu()
        self._band += confusion(predictions, labels.masked_fill(outside, VOID), self.classes).cpu()

    def result(self) -> tuple[Segmentation, Segmentation]:
        """The metrics over all pixels, and over the band alone: the ``miou`` of the second is tIoU."""
        return Segmentation.of(self._everywhere), Segmentation.of(self._band)
