"""The feature cache: what a frozen network gives for every crop, and whatever else of a crop a task trains on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.cache import cache_key
from proxy_tasks.crops import Crops
from proxy_tasks.images import detector_input
from proxy_tasks.rows import BUILD_BATCH, CachedRows, Site, batched, on_device, stored

__all__ = ["FeatureCache", "FrozenNetwork"]


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


class FeatureCache(CachedRows):
    """The features of every crop, padded as `detector_input` has it, with further arrays beside them.

    Args:
        crops: the images.
        network: gives the features.
        beside: gives further arrays of some crops by name, (B, ...); the key must tell whatever they depend on.
        site: where they are kept, and where the network runs.
        what: this is called in the progress.
    """

    def __init__(
        self,
        crops: Crops,
        network: FrozenNetwork,
        beside: Callable[[np.ndarray], Mapping[str, Tensor]],
        site: Site,
        what: str = "computing features",
    ):
        def compute() -> Iterator[Mapping[str, Tensor]]:
            with on_device(network.make(), site.device) as module:

                @torch.inference_mode()
                def rows(indices: np.ndarray) -> dict[str, Tensor]:
                    features = module(detector_input(crops.images(indices).to(site.device)))
                    return {name: stored(name, features[name]) for name in network.maps} | dict(beside(indices))

                yield from batched(len(crops), BUILD_BATCH, rows, site.counted(what))

        self.names = network.maps
        key = cache_key(crops=crops.key, maps=network.maps, dtype="float16", **network.key_parts)
        super().__init__(site, "features", key, compute)

    def features(self, indices: np.ndarray) -> dict[str, Tensor]:
        """The maps of these crops by name, (B, C, H, W) float32, channels last."""
        return self.maps(self.names, indices)
