"""The feature cache: what a frozen network gives for every crop, and whatever else of a crop a task trains on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.cache import cache_key
from proxy_tasks.crops import CropRows
from proxy_tasks.images import detector_input
from proxy_tasks.rows import BUILD_BATCH, CachedRows, Numbers, Site, batched, on_device, stored

__all__ = ["CachedFeatures", "FeatureCache", "FrozenNetwork", "Joined"]


@dataclass(frozen=True)
class FrozenNetwork:
    """What gives the features.

    Args:
        make: gives the network, which maps normalised images (B, 3, S, S) to named maps (B, C, H, W); called only
            where features have to be computed.
        maps: the names of those to keep.
        key_parts: all that the network depends on.
    """

    make: Callable[[], nn.Module]
    maps: tuple[str, ...]
    key_parts: Mapping[str, str]


class Beside(Protocol):
    """Gives further arrays of crops."""

    @property
    def key_parts(self) -> Mapping[str, str]:
        """All that they depend on beside the crops."""

    def __call__(self, indices: np.ndarray) -> Mapping[str, Tensor]:
        """The arrays of some crops by name, (B, ...)."""


class CachedFeatures(Protocol):
    """Feature maps, and further arrays, of crops by number."""

    names: tuple[str, ...]
    """Those of the maps."""
    key: str
    """Stands for all that they depend on."""

    def __getitem__(self, name: str) -> np.ndarray:
        """The whole array ``name``, memory-mapped and read-only."""

    def rows(self, name: str, indices: Numbers) -> Tensor:
        """These rows of the array ``name`` on the device, of its dtype."""

    def features(self, indices: Numbers) -> dict[str, Tensor]:
        """The maps of these crops by name, (B, C, H, W), as `CachedRows.maps` gives them."""

    def release(self) -> None:
        """Frees what lies on the device; `rows` takes it back there."""


class FeatureCache(CachedRows):
    """The features of every crop, padded as `detector_input` has it, with further arrays beside them.

    Args:
        crops: the images.
        network: gives the features.
        beside: gives further arrays; None gives none.
        site: where they are kept, and where the network runs.
        what: this is called in the progress.
    """

    def __init__(
        self,
        crops: CropRows,
        network: FrozenNetwork,
        beside: Beside | None,
        site: Site,
        what: str = "computing features",
    ):
        def beside_of(indices: np.ndarray) -> dict[str, Tensor]:
            return dict(beside(indices)) if beside else {}

        def compute() -> Iterator[Mapping[str, Tensor]]:
            with on_device(network.make(), site.device) as module:

                @torch.inference_mode()
                def rows(indices: np.ndarray) -> dict[str, Tensor]:
                    features = module(detector_input(crops.images(indices).to(site.device)))
                    return {name: stored(name, features[name]) for name in network.maps} | beside_of(indices)

                yield from batched(len(crops), BUILD_BATCH, rows, site.counted(what))

        self.names = network.maps
        beside_parts = beside.key_parts if beside else {}
        key = cache_key(crops=crops.key, maps=network.maps, dtype="float16", **network.key_parts, **beside_parts)
        super().__init__(site, "features", key, compute)

    def features(self, indices: Numbers) -> dict[str, Tensor]:
        """The maps of these crops by name, (B, C, H, W), as `CachedRows.maps` gives them."""
        return self.maps(self.names, indices)


class Joined:
    """The maps of two caches of the same crops as one; further arrays are those of the first. See `CachedFeatures`."""

    def __init__(self, first: CachedFeatures, second: CachedFeatures):
        self._first, self._second = first, second
        self.names, self.key = first.names + second.names, f"{first.key}+{second.key}"

    def __getitem__(self, name: str) -> np.ndarray:
        return self._of(name)[name]

    def rows(self, name: str, indices: Numbers) -> Tensor:
        """See `CachedFeatures`."""
        return self._of(name).rows(name, indices)

    def _of(self, name: str) -> CachedFeatures:
        return self._second if name in self._second.names else self._first

    def features(self, indices: Numbers) -> dict[str, Tensor]:
        """See `CachedFeatures`."""
        return self._first.features(indices) | self._second.features(indices)

    def release(self) -> None:
        """See `CachedFeatures`."""
        self._first.release()
        self._second.release()
