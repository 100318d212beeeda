"""One copy of each cached array on a GPU, however many workers train there.

A worker does not copy the features to its GPU. It asks the landlord, an actor of the driver's, for the resident of its
GPU: an actor that loads each array there once and lends it out by a handle (CUDA's memory handles between processes;
shared memory on a CPU). The driver owns the landlord and the landlord owns the residents, so all of them end with the
search, however it ends.
"""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import ray
import torch
import torch.multiprocessing
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from proxy_tasks.rows import place, place_by
from proxy_tasks.task import ProxyTask

__all__ = ["shared", "sharing"]

VISIBLE = "CUDA_VISIBLE_DEVICES"


class _Resident:
    """Holds arrays on one device.

    Args:
        visible: the GPUs that the workers of this device see, so that their ``cuda:0`` is this actor's; None is all.
    """

    def __init__(self, visible: str | None):
        if visible is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = visible
        # a name in the file system is a handle that any process may open; the default is for a process's own children
        torch.multiprocessing.set_sharing_strategy("file_system")
        self._arrays: dict[Path, Tensor] = {}

    def lend(self, file: Path, device: torch.device) -> bytes:
        """A handle of the whole array, to be opened once."""
        if file not in self._arrays:
            self._arrays[file] = place(file, device)
        return bytes(ForkingPickler.dumps(self._arrays[file]))


class _Landlord:
    """Knows the resident of every device, and makes it where there is none yet."""

    def __init__(self) -> None:
        self._residents: dict[tuple[str, str | None, str], Any] = {}

    def resident(self, node: str, visible: str | None, device: str) -> Any:
        """The actor that holds the arrays of a device; ``node`` is Ray's id of the machine."""
        key = node, visible, device
        if key not in self._residents:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            self._residents[key] = _actor(_Resident, visible, scheduling_strategy=there)
        return self._residents[key]


def _actor(kind: type, *args: Any, **options: Any) -> Any:
    """A new actor that takes no processor from the workers."""
    return ray.remote(num_cpus=0, **options)(kind).remote(*args)


@dataclass(frozen=True)
class _Lent:
    """A `proxy_tasks.rows.Place` that borrows from the device's resident."""

    landlord: Any

    def __call__(self, file: Path, device: torch.device) -> Tensor:
        node, visible = ray.get_runtime_context().get_node_id(), os.environ.get(VISIBLE)
        resident = ray.get(self.landlord.resident.remote(node, visible, str(device)))
        array: Tensor = pickle.loads(ray.get(resident.lend.remote(file, device)))
        return array


@contextmanager
def sharing(make_task: Callable[[], ProxyTask], device: str) -> Iterator[Callable[[], ProxyTask]]:
    """``make_task`` for the workers of one search, which share what their tasks keep on a GPU while the context lasts.

    On a CPU nothing has to be done: the kernel shares the pages of memory-mapped files.
    """
    if torch.device(device).type == "cpu":
        yield make_task
    else:
        with shared(make_task) as making:
            yield making


@contextmanager
def shared(make_task: Callable[[], ProxyTask]) -> Iterator[Callable[[], ProxyTask]]:
    """As `sharing`, on any device."""
    landlord = _actor(_Landlord)
    try:
        yield partial(_make_sharing, make_task, landlord)
    finally:
        ray.kill(landlord)  # and its residents with it: the next stage needs their memory


def _make_sharing(make_task: Callable[[], ProxyTask], landlord: Any) -> ProxyTask:
    place_by(_Lent(landlord))
    return make_task()
