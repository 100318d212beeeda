"""The semantic branch of a Hybrid Task Cascade: a class for every position of P3, and features for the RoIs.

Notation: B images; K classes of things and background before them, or those of a label map of its own; C channels.

Source: R. Manzanedo, "Hybrid Task Cascade with Attention", 2022, sec. 3.3.3; Chen et al., "Hybrid Task Cascade for
Instance Segmentation", CVPR 2019, sec. 3.3.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxy_tasks.masks.truth import Truth
from search_spaces.parts.maps import resize

__all__ = ["VOID", "SemanticBranch", "given_labels", "semantic_labels", "semantic_loss"]

VOID = -1
"""The label of positions without one; in a target's own label map it is 255."""
GIVEN_VOID = 255
FUSED = "P3"  # whose size all maps are brought to
STRIDE = 8  # of that map
CONVS = 4


class SemanticBranch(nn.Module):
    """All maps resized to P3, a 1×1 convolution each, summed; four 3×3 convolutions; S and S' by 1×1 convolutions.

    Every convolution but that of S is followed by ReLU.

    Args:
        levels: the pyramid's maps.
        channels: C, of the maps and inside.
        num_classes: of S.
    """

    def __init__(self, levels: Sequence[str], channels: int, num_classes: int):
        super().__init__()
        self.lateral = nn.ModuleDict({level: nn.Conv2d(channels, channels, 1) for level in levels})
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(CONVS))
        self.embedding = nn.Conv2d(channels, channels, 1)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The pyramid's maps (B, C, ·, ·) -> S, logits (B, classes, H/8, W/8), and S', (B, C, H/8, W/8)."""
        height, width = features[FUSED].shape[-2:]
        maps = [F.relu(conv(resize(features[level], (height, width)))) for level, conv in self.lateral.items()]
        x = sum(maps[1:], maps[0])
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.logits(x), F.relu(self.embedding(x))


def semantic_labels(truth: Truth, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """A label map of an image's instances: 0 background, 1 and on the classes; smaller instances lie on larger ones.

    Args:
        truth: of the image.
        size: its height and width.
        padded: those of the batch; what is beyond the image is void, and so are crowds where no instance is.

    Returns:
        int64 (padded height, padded width).
    """
    labels = torch.full(padded, VOID, dtype=torch.int64, device=truth.labels.device)
    inside = labels[: size[0], : size[1]]
    inside.zero_()
    inside[(truth.crowd_masks > 0).any(dim=0)] = VOID
    for number in truth.masks.sum(dim=(1, 2), dtype=torch.int64).argsort(descending=True).tolist():
        inside[truth.masks[number] > 0] = truth.labels[number]
    return labels


def given_labels(semantic: Tensor, padded: tuple[int, int]) -> Tensor:
    """A target's own label map (H, W), 255 where there is no label, as `semantic_labels` gives one."""
    labels = torch.full(padded, VOID, dtype=torch.int64, device=semantic.device)
    labels[: semantic.shape[0], : semantic.shape[1]] = semantic.long().where(semantic != GIVEN_VOID, VOID)
    return labels


def semantic_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy at the middle of every position of S, a mean over those that are not void; 0 without any.

    Args:
        logits: (B, classes, H/8, W/8).
        labels: int64 (B, H, W), `VOID` where there is none.
    """
    labels = labels[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    total = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum")
    return total / (labels != VOID).sum().clamp(min=1)
