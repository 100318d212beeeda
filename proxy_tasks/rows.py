"""Cached rows: named arrays, computed once, memory-mapped, and gathered as tensors on a device.

Maps are stored channels last, (N, H, W, C), so that a gathered batch is a channels-last tensor without a copy, and as
float16. Every process of a machine maps the same files and so shares their pages.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.arrays import ArrayWriter
from proxy_tasks.cache import open_cache
from proxy_tasks.precision import dtype_on
from proxy_tasks.task import Counted, Diverged, Progress

__all__ = [
    "BUILD_BATCH",
    "CachedRows",
    "Numbers",
    "Place",
    "Site",
    "batched",
    "on_device",
    "place",
    "place_by",
    "stored",
]

BUILD_BATCH = 16  # images at a time while building; bounds the memory, does not change what is stored
LARGEST = torch.finfo(torch.float16).max
Batches = Iterable[Mapping[str, Tensor]]
Numbers = np.ndarray | Tensor
"""Row numbers, int64 (B,); those on the rows' device are had without waiting for it."""
Place = Callable[[Path, torch.device], Tensor]
"""Gives the whole array of a ``.npy`` file as a tensor on a device."""


def place(file: Path, device: torch.device) -> Tensor:
    """A `Place` for this process alone: on the CPU the file's own pages, elsewhere a copy."""
    # copy on write: torch wants arrays that may be written to, and nobody writes
    array = torch.from_numpy(np.load(file, mmap_mode="c"))
    if device.type == "cpu":
        return array
    placed = torch.empty(array.shape, dtype=array.dtype, device=device)
    for start in range(0, len(array), BUILD_BATCH):  # in parts, so that host memory never holds it twice
        placed[start : start + BUILD_BATCH] = array[start : start + BUILD_BATCH].to(device)
    return placed


_place: Place = place


def place_by(other: Place) -> None:
    """From here on this process gets whole arrays from ``other``, so that processes can share them on a device."""
    global _place
    _place = other


@dataclass(frozen=True)
class Site:
    """Where a task's caches are, and where and before whose eyes they are built.

    Args:
        root: the cache directory.
        device: where networks run and rows go.
        progress: see `Progress`.
    """

    root: Path
    device: torch.device
    progress: Progress

    def counted(self, what: str) -> Counted:
        """The progress of one thing: called with how much of ``what`` is done, and of how much."""
        return partial(self.progress, what)


class CachedRows:
    """Arrays of one cache entry by name, as memory maps and as rows on a device.

    An array is placed on the device whole, when rows of it are first asked for, and stays there until `release`.

    Args:
        site: where the entry is, and the device.
        kind: what is stored (``"features"``).
        key: from `cache_key`.
        compute: gives batches of rows by array name, in order; called only where the entry has to be built.
    """

    def __init__(self, site: Site, kind: str, key: str, compute: Callable[[], Batches]):
        self.key = key
        self.device = site.device
        self._cache = open_cache(site.root, kind, key, lambda directory: _write(directory, compute()))
        self._placed: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        """The whole array ``name``, memory-mapped and read-only."""
        return self._cache[name]

    def rows(self, name: str, indices: Numbers) -> Tensor:
        """These rows of the array ``name`` on the device, of its dtype."""
        if name not in self._placed:
            self._placed[name] = _place(self._cache.file(name), self.device)
        return self._placed[name].index_select(0, torch.as_tensor(indices).to(self.device))

    def maps(self, names: Iterable[str], indices: Numbers) -> dict[str, Tensor]:
        """These rows of feature maps by name, (B, C, H, W) float32, or as `dtype_on` has it, channels last."""
        dtype = dtype_on(self.device)
        return {name: self.rows(name, indices).permute(0, 3, 1, 2).to(dtype) for name in names}

    def release(self) -> None:
        """Frees what lies on the device; `rows` takes it back there."""
        self._placed.clear()
        free(self.device)


def free(device: torch.device) -> None:
    """Gives the device's memory that is no longer used back to other processes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def on_device(module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """``module`` in evaluation mode on the device, channels last, and on the CPU again afterwards."""
    try:
        yield module.to(device).to(memory_format=torch.channels_last).eval()
    finally:
        module.cpu()
        free(device)


def batched(
    count: int, size: int, compute: Callable[[np.ndarray], Mapping[str, Tensor]], progress: Counted
) -> Iterator[Mapping[str, Tensor]]:
    """``compute`` of the numbers 0 to ``count - 1``, ``size`` at a time; ``progress`` hears how many are done."""
    for start in range(0, count, size):
        indices = np.arange(start, min(start + size, count))
        yield compute(indices)
        progress(start + len(indices), count)


def stored(name: str, value: Tensor) -> Tensor:
    """A feature map (B, C, H, W) as it is stored, (B, H, W, C) float16; raises `Diverged` where that loses values."""
    if value.numel() and not value.abs().amax() <= LARGEST:
        raise Diverged(f"the feature map {name} has values beyond float16, or not a number")
    return value.permute(0, 2, 3, 1).half()


def _write(directory: Path, batches: Batches) -> None:
    """Writes batches of rows into one array a name, each of its tensors' dtype."""
    with contextlib.ExitStack() as open_files:
        writers: dict[str, ArrayWriter] = {}
        for batch in batches:
            for name, value in batch.items():
                rows = value.cpu().numpy()
                if name not in writers:
                    writer = ArrayWriter(directory, name, rows.shape[1:], rows.dtype.str)
                    writers[name] = open_files.enter_context(writer)
                writers[name].append(rows)
