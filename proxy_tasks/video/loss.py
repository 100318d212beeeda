"""Cross-entropy over the pixels that have a class.

Notation: class scores (B, C, H, W); labels (B, H, W) of any integer dtype, `VOID` where there is no class.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from proxy_tasks import ranks
from proxy_tasks.data.video.base import VOID

__all__ = ["cross_entropy", "cross_entropy_sums"]


def cross_entropy_sums(logits: Tensor, labels: Tensor) -> Tensor:
    """The summed cross-entropy and the number of pixels that are not void: (2,)."""
    total = F.cross_entropy(logits, labels.long(), ignore_index=VOID, reduction="sum")
    return torch.stack([total, (labels != VOID).sum().to(total.dtype)])


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the pixels that are not void, 0 where all are; of several processes this one's part of it."""
    total, pixels = cross_entropy_sums(logits, labels)
    return total / ranks.summed(pixels).clamp(min=1)
