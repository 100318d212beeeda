"""Between tensors and cached arrays: rows gathered on the device, features stored as float16, channels last."""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from proxy_tasks.cache import ArrayWriter
from proxy_tasks.task import Diverged

__all__ = ["BUILD_BATCH", "Rows", "stored", "write_arrays"]

BUILD_BATCH = 16  # images at a time while building; bounds the memory, does not change what is stored
_LARGEST = torch.finfo(torch.float16).max


class Rows:
    """Rows of memory-mapped arrays as tensors on a device; on CUDA an array is moved there when it is first read.

    Args:
        arrays: by name; maps are (N, H, W, C).
        device: where rows go.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], device: torch.device):
        self._arrays, self._device = dict(arrays), device
        self._placed: dict[str, Tensor] = {}

    def __call__(self, name: str, indices: np.ndarray) -> Tensor:
        """These rows of the array ``name``, of its dtype."""
        if self._device.type == "cpu":
            return torch.from_numpy(self._arrays[name][indices])
        if name not in self._placed:
            self._placed[name] = _on_device(self._arrays[name], self._device)
        return self._placed[name][torch.from_numpy(indices).to(self._device)]

    def maps(self, names: Iterable[str], indices: np.ndarray) -> dict[str, Tensor]:
        """These rows of feature maps by name, (B, C, H, W) float32, channels last."""
        return {name: self(name, indices).permute(0, 3, 1, 2).float() for name in names}


def _on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The whole array on the device, copied in parts so that host memory never holds it twice."""
    placed = torch.empty(array.shape, dtype=torch.from_numpy(array[:0].copy()).dtype, device=device)
    for start in range(0, len(array), BUILD_BATCH):
        placed[start : start + BUILD_BATCH] = torch.from_numpy(array[start : start + BUILD_BATCH].copy()).to(device)
    return placed


def stored(name: str, value: Tensor) -> Tensor:
    """A feature map (B, C, H, W) as it is stored, (B, H, W, C) float16; raises `Diverged` where that loses values."""
    if not value.abs().amax() <= _LARGEST:
        raise Diverged(f"the feature map {name} has values beyond float16, or not a number")
    return value.permute(0, 2, 3, 1).half()


def write_arrays(place: Path, count: int, batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Writes batches of rows, ``count`` in all, into one array a name, each of its tensors' dtype."""
    with contextlib.ExitStack() as open_files:
        writers: dict[str, ArrayWriter] = {}
        for batch in batches:
            for name, value in batch.items():
                rows = value.cpu().numpy()
                if name not in writers:
                    writer = ArrayWriter(place, name, (count, *rows.shape[1:]), rows.dtype.str)
                    writers[name] = open_files.enter_context(writer)
                writers[name].append(rows)
