"""The loss of mask branches on cached RoIs, as sums that may be added.

Source: the mask terms of eq. 5.2 of R. Manzanedo, "Hybrid Task Cascade with Attention", 2022.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from proxy_tasks.masks.cascade import STAGE_WEIGHTS

__all__ = ["MaskLossSums", "mask_loss_sum"]


@dataclass(frozen=True)
class MaskLossSums:
    """Binary cross-entropy summed over the positions of masks, by stage.

    Args:
        stages: one sum a stage.
        positions: how many positions each sum is over.
    """

    stages: tuple[Tensor, ...]
    positions: int

    def __add__(self, other: Self) -> "MaskLossSums":
        sums = tuple(one + two for one, two in zip(self.stages, other.stages, strict=True))
        return MaskLossSums(sums, self.positions + other.positions)

    def terms(self) -> dict[str, Tensor]:
        """The mean of every stage times its weight: ``mask_1`` …, or ``mask`` of a single stage."""
        names = ["mask"] if len(self.stages) == 1 else [f"mask_{t}" for t in range(1, len(self.stages) + 1)]
        weights = STAGE_WEIGHTS[: len(names)]
        return {n: w * one / self.positions for n, w, one in zip(names, weights, self.stages, strict=True)}

    def total(self) -> Tensor:
        """The sum of the terms."""
        return torch.stack(list(self.terms().values())).sum()


def mask_loss_sum(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The summed cross-entropy of each RoI's map of its object's class.

    Args:
        logits: (N, K, h, w).
        labels: int64 (N,), from 0.
        targets: (N, h, w) from 0 to 1.
    """
    own = logits[torch.arange(len(labels), device=labels.device), labels]
    return F.binary_cross_entropy_with_logits(own, targets, reduction="sum")
