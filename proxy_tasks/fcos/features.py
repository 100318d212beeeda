"""The feature cache: frozen features and dense targets of every crop, ready to be trained on.

Arrays are stored channels last, (N, H, W, C), so that a gathered batch is a channels-last tensor without a copy;
features as float16. Every process of a machine maps the same files and so shares their pages.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.cache import cache_key, open_cache
from proxy_tasks.fcos.crops import Crops
from proxy_tasks.fcos.targets import DenseTargets, Locations, assign, pad_boxes
from proxy_tasks.images import normalise
from proxy_tasks.rows import BUILD_BATCH, Rows, stored, write_arrays

__all__ = ["FeatureCache"]

_TARGETS = {"labels": torch.int16, "distances": torch.float32, "centerness": torch.float32}


class FeatureCache:
    """What a frozen network gives for every crop, with the dense targets.

    On CUDA an array is moved to the device when it is first read, and batches are gathered there.

    Args:
        crops: the images.
        locations: of the crops.
        maps: the names of those to keep.
        network: maps (B, 3, crop, crop) normalised images to named maps (B, C, H, W); used, in eval mode, only
            where the cache has to be built.
        key_parts: what the features depend on beside the crops.
        root: the cache directory.
        device: where batches go.
        progress: called with the number of images done and their total.
    """

    def __init__(
        self,
        crops: Crops,
        locations: Locations,
        maps: tuple[str, ...],
        network: Callable[[], nn.Module],
        key_parts: dict[str, str],
        root: Path,
        device: torch.device,
        progress: Callable[[int, int], None],
    ):
        self.names = maps
        self.key = cache_key(crops=crops.key, maps=maps, dtype="float16", **key_parts)
        cache = open_cache(
            root, "features", self.key, lambda place: _write(place, crops, locations, maps, network(), device, progress)
        )
        self._rows = Rows(cache, device)

    def features(self, indices: np.ndarray) -> dict[str, Tensor]:
        """The maps of these crops by name, (B, C, H, W) float32, channels last."""
        return self._rows.maps(self.names, indices)

    def targets(self, indices: np.ndarray) -> DenseTargets:
        """The dense targets of these crops."""
        labels, distances, centerness = (self._rows(name, indices) for name in _TARGETS)
        return DenseTargets(labels.long(), distances, centerness)

    def batches(self, indices: np.ndarray, size: int) -> Iterator[tuple[dict[str, Tensor], DenseTargets]]:
        """All of ``indices`` in order, ``size`` at a time."""
        for part in np.array_split(indices, -(-len(indices) // size)):
            yield self.features(part), self.targets(part)


@torch.inference_mode()
def _write(
    place: Path,
    crops: Crops,
    locations: Locations,
    maps: tuple[str, ...],
    network: nn.Module,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> None:
    network.eval()

    def batch(start: int) -> dict[str, Tensor]:
        indices = np.arange(start, min(start + BUILD_BATCH, len(crops)))
        features = network(normalise(crops.images(indices).to(device)))
        dense = assign(*pad_boxes([crops.target(int(i)) for i in indices], device), locations)
        arrays = {name: stored(name, features[name]) for name in maps}
        arrays |= {name: getattr(dense, name).to(dtype) for name, dtype in _TARGETS.items()}
        progress(len(indices) + start, len(crops))
        return arrays

    write_arrays(place, len(crops), map(batch, range(0, len(crops), BUILD_BATCH)))
