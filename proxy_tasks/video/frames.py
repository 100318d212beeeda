"""What a search of cells needs of its data, computed once: frames, labels, and all that the static network gives.

Every frame is stored once, however many sequences it is part of; a sequence is three numbers of frames.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from proxy_tasks.cache import cache_key
from proxy_tasks.data.video.base import VOID, VideoDataset
from proxy_tasks.images import PADDING, normalise
from proxy_tasks.rows import BUILD_BATCH, CachedRows, Numbers, Site, batched, stored
from proxy_tasks.video.network import StaticSegmenter

__all__ = ["Frames", "StaticOutputs", "shrunk"]

MAPS = ("C3", "C4", "C5", "dec")


def shrunk(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (B, H, W) by nearest neighbour at ``size``, e.g. the classifier's own."""
    return F.resize(labels, list(size), interpolation=InterpolationMode.NEAREST_EXACT)


class Frames(CachedRows):
    """Every frame once reduced and cropped, with its labels.

    Args:
        data: the frames.
        long_side: pixels; larger frames are reduced to it.
        crop: height and width, placed once a clip by the seed; less where all frames are smaller.
        seed: draws the places.
        site: where they are kept.
    """

    def __init__(self, data: VideoDataset, long_side: int, crop: tuple[int, int], seed: int, site: Site):
        sizes = np.array([_reduced(data.size(index), long_side) for index in range(len(data))])
        self.size = tuple(int(side) for side in np.minimum(sizes.max(axis=0), crop))
        clips = np.repeat(np.arange(len(data.clips)), [len(clip) for clip in data.clips])
        assert [index for clip in data.clips for index in clip] == list(range(len(data))), (
            "frames in their clips' order"
        )

        def row(indices: np.ndarray) -> dict[str, Tensor]:
            (index,) = indices
            corner = np.random.default_rng([seed, clips[index]]).random(2)  # as shares of the room there is
            return self._row(data, int(index), tuple(sizes[index]), corner)

        key = cache_key(data=data.fingerprint, long_side=long_side, crop=crop, seed=seed)
        counted = site.counted("reducing the frames")
        super().__init__(site, "frames", key, lambda: batched(len(data), 1, row, counted))

    def __len__(self) -> int:
        return len(self["images"])

    def images(self, indices: np.ndarray) -> Tensor:
        """(B, 3, H, W) uint8 on the CPU, channels last in memory."""
        return torch.from_numpy(self["images"][indices]).permute(0, 3, 1, 2)

    def labels(self, indices: np.ndarray) -> Tensor:
        """(B, H, W) uint8 on the CPU."""
        return torch.from_numpy(self["labels"][indices])

    def _row(self, data: VideoDataset, index: int, size: tuple[int, int], corner: np.ndarray) -> dict[str, Tensor]:
        image = F.resize(data.image(index), list(size), antialias=True)
        labels = torch.full(data.size(index), VOID, dtype=torch.uint8)
        if data.annotated[index]:
            labels = data.labels(index)
        labels = shrunk(labels[None], size)
        room = [max(0, have - want) for have, want in zip(size, self.size, strict=True)]
        top, left = (int(share * (space + 1)) for share, space in zip(corner, room, strict=True))
        window = (..., slice(top, top + self.size[0]), slice(left, left + self.size[1]))
        image, labels = image[window], labels[window]
        lacks = [0, 0, self.size[1] - image.shape[-1], self.size[0] - image.shape[-2]]  # left, top, right, bottom
        image, labels = F.pad(image, lacks, fill=PADDING), F.pad(labels, lacks, fill=VOID)
        return {"images": image.permute(1, 2, 0)[None].contiguous(), "labels": labels.contiguous()}


def _reduced(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    factor = min(1.0, long_side / max(size))
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


class StaticOutputs(CachedRows):
    """C3, C4, C5 and ``dec`` of every frame, and its labels at their stride, as the trained static network gives them.

    Args:
        frames: the images.
        network: trained, on the site's device; used, in eval mode, only where the cache has to be built.
        network_hash: hex digits of the network's weights; a part of the cache's key.
        site: where they are kept.
    """

    def __init__(self, frames: Frames, network: StaticSegmenter, network_hash: str, site: Site):
        def compute() -> Iterator[Mapping[str, Tensor]]:
            network.eval()

            @torch.inference_mode()
            def rows(indices: np.ndarray) -> dict[str, Tensor]:
                features = network.body(normalise(frames.images(indices).to(site.device)))
                maps = {**features, "dec": network.decoder(features)["dec"]}
                height, width = maps["dec"].shape[-2:]
                small = shrunk(frames.labels(indices), (height, width))
                return {name: stored(name, maps[name]) for name in MAPS} | {"small_labels": small}

            counted = site.counted("computing the static network's outputs")
            return batched(len(frames), BUILD_BATCH, rows, counted)

        key = cache_key(frames=frames.key, network=network_hash, maps=MAPS, dtype="float16")
        super().__init__(site, "video", key, compute)

    def labels(self, indices: Numbers) -> Tensor:
        """The labels of these frames at the size of ``dec``, (B, h, w) int64."""
        return self.rows("small_labels", indices).long()
