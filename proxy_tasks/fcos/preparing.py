"""What FCOS trials read: crops, their split, the frozen backbone, cached features with dense targets."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.crops import CropRows, Crops
from proxy_tasks.fcos.targets import DenseTargets, Locations, assign, pad_boxes
from proxy_tasks.features import CachedFeatures, FeatureCache, FrozenNetwork
from proxy_tasks.rows import Numbers, Site
from proxy_tasks.weights import state_hash

__all__ = ["Prepared", "Targets", "backbone_features", "targets_of"]

DTYPES = {"labels": torch.int16, "distances": torch.float32, "centerness": torch.float32}


@dataclass(frozen=True)
class Prepared:
    """All that trials read; none of it lies on the device until rows of the cache are asked for.

    Args:
        data: the dataset's fingerprint.
        crops: the images of meta-train and meta-val.
        rows: those crops and, behind them, the mirror images that are learned too; what `cache` has a row for.
        meta_train: int64, numbers of rows.
        meta_val: int64, numbers of crops.
        body: the frozen backbone, on the CPU.
        backbone: hex digits of its weights.
        cache: the cached maps that decoders take (C2..C5, or P3..P7 where heads alone are searched) with dense targets.
    """

    data: str
    crops: Crops
    rows: CropRows
    meta_train: np.ndarray
    meta_val: np.ndarray
    body: nn.Module
    backbone: str
    cache: CachedFeatures


@dataclass(frozen=True)
class Targets:
    """Computes the dense targets that a feature cache keeps beside the features.

    Args:
        crops: the crops, which hold the boxes.
        locations: where the pyramid looks on a crop, on the device where targets are computed.
        interest: the scale of the sizes of interest that ``locations`` have.
    """

    crops: CropRows
    locations: Locations
    interest: float

    @property
    def key_parts(self) -> dict[str, str]:
        """All that they depend on beside the crops."""
        return {"interest": str(self.interest)}

    def __call__(self, indices: np.ndarray) -> dict[str, Tensor]:
        """The arrays of some crops as they are stored."""
        targets = [self.crops.target(int(index)) for index in indices]
        dense = assign(*pad_boxes(targets, self.locations.sizes.device), self.locations)
        return {name: getattr(dense, name).to(dtype) for name, dtype in DTYPES.items()}


def targets_of(cache: CachedFeatures, indices: Numbers) -> DenseTargets:
    """The dense targets of some crops, as `Targets` left them in the cache."""
    labels, distances, centerness = (cache.rows(name, indices) for name in DTYPES)
    return DenseTargets(labels.long(), distances, centerness)


def backbone_features(
    names: tuple[str, ...], rows: CropRows, body: nn.Module, site: Site, targets: Targets | None = None
) -> FeatureCache:
    """Maps of the frozen backbone for every row, beside them the targets where any are given."""
    network = FrozenNetwork(lambda: body, names, {"backbone": state_hash(body)})
    return FeatureCache(rows, network, targets, site)
