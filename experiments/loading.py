"""Training batches as functions of their step, so that a resumed training sees what an uninterrupted one would."""

import signal
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

__all__ = ["loaded", "places", "steps_in"]


def steps_in(epochs: int, items: int, batch_size: int) -> int:
    """The steps of ``epochs`` passes over ``items``; a batch may reach over the end of a pass."""
    return -(-epochs * items // batch_size)


def places(step: int, size: int, count: int, seed: int) -> list[int]:
    """Which of ``count`` items make the batch of ``size`` of a step: one shuffled pass over them after the other."""
    return [int(_order(seed, n // count, count)[n % count]) for n in range(step * size, (step + 1) * size)]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def loaded(items: Dataset[Any], steps: range, loaders: int) -> Iterator[Any]:
    """The batches of these steps, item n of ``items`` being that of step n.

    They are decoded by ``loaders`` processes beside the training; 0 is in this one.
    """
    return iter(
        DataLoader(items, batch_size=None, sampler=steps, num_workers=loaders, worker_init_fn=_leave_interrupts)
    )


def _leave_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process; the training's own ends its loaders, once it needs no more batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
