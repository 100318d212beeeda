"""The feature cache: frozen features and dense targets of every crop, ready to be trained on.

Arrays are stored channels last, (N, H, W, C), so that a gathered batch is a channels-last tensor without a copy;
features as float16. Every process of a machine maps the same files and so shares their pages.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.cache import ArrayWriter, cache_key, open_cache
from proxy_tasks.crops import Crops
from proxy_tasks.detector import IMAGE_MEAN, IMAGE_STD
from proxy_tasks.targets import DenseTargets, Locations, assign, pad_boxes
from proxy_tasks.task import Diverged

__all__ = ["FeatureCache", "normalise"]

_BATCH = 16  # images at a time while building; bounds the memory, does not change what is stored
_LARGEST = torch.finfo(torch.float16).max
_TARGETS = {"labels": "int16", "distances": "float32", "centerness": "float32"}


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to float32, ImageNet-normalised as torchvision's detectors do, channels last."""
    mean, std = (torch.tensor(value, device=images.device).view(1, 3, 1, 1) for value in (IMAGE_MEAN, IMAGE_STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


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
        self._device = device
        cache = open_cache(
            root, "features", self.key, lambda place: _write(place, crops, locations, maps, network(), device, progress)
        )
        self._arrays = dict(cache)
        self._placed: dict[str, Tensor] = {}

    def _rows(self, name: str, indices: np.ndarray) -> Tensor:
        if self._device.type == "cpu":
            return torch.from_numpy(self._arrays[name][indices])
        if name not in self._placed:
            self._placed[name] = _on_device(self._arrays[name], self._device)
        return self._placed[name][torch.from_numpy(indices).to(self._device)]

    def features(self, indices: np.ndarray) -> dict[str, Tensor]:
        """The maps of these crops by name, (B, C, H, W) float32, channels last."""
        return {name: self._rows(name, indices).permute(0, 3, 1, 2).float() for name in self.names}

    def targets(self, indices: np.ndarray) -> DenseTargets:
        """The dense targets of these crops."""
        labels, distances, centerness = (self._rows(name, indices) for name in _TARGETS)
        return DenseTargets(labels.long(), distances, centerness)

    def batches(self, indices: np.ndarray, size: int) -> Iterator[tuple[dict[str, Tensor], DenseTargets]]:
        """All of ``indices`` in order, ``size`` at a time."""
        for part in np.array_split(indices, -(-len(indices) // size)):
            yield self.features(part), self.targets(part)


def _on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The whole array on the device, copied in parts so that host memory never holds it twice."""
    placed = torch.empty(array.shape, dtype=torch.from_numpy(array[:0].copy()).dtype, device=device)
    for start in range(0, len(array), _BATCH):
        placed[start : start + _BATCH] = torch.from_numpy(array[start : start + _BATCH].copy()).to(device)
    return placed


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
    with contextlib.ExitStack() as open_files:
        writers: dict[str, ArrayWriter] = {}
        for start in range(0, len(crops), _BATCH):
            indices = np.arange(start, min(start + _BATCH, len(crops)))
            features = network(normalise(crops.images(indices).to(device)))
            dense = assign(*pad_boxes([crops.target(int(i)) for i in indices], device), locations)
            arrays = {name: features[name].permute(0, 2, 3, 1) for name in maps}
            arrays |= {name: getattr(dense, name) for name in _TARGETS}
            for name, value in arrays.items():
                if name not in writers:
                    dtype, shape = _TARGETS.get(name, "float16"), (len(crops), *value.shape[1:])
                    writers[name] = open_files.enter_context(ArrayWriter(place, name, shape, dtype))
                if name not in _TARGETS and not value.abs().amax() <= _LARGEST:
                    raise Diverged(f"the feature map {name} has values beyond float16, or not a number")
                writers[name].append(value.cpu().numpy())
            progress(len(indices) + start, len(crops))
