"""Latency as a figure of every score: a proxy task whose trials begin with timing their network."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.timing import device_name, median_milliseconds
from nas.settings.targets import LATENCY
from proxy_tasks.task import Interim, ProxyTask, Score
from search_spaces import Architecture, InputError

__all__ = ["timed"]

REPEATS, WARMUP = 20, 5


class _Timed(ProxyTask):
    """Beside the class of a proxy task: that task, timing what it scores on the device ``timed_on``."""

    timed_on: str

    def fingerprints(self) -> dict[str, str]:
        """The task's own, and the device: milliseconds of two devices cannot be compared."""
        device, _, _ = device_name(self.timed_on).partition(", ")  # without the threads, which workers share out
        return {**super().fingerprints(), "device": device}  # type: ignore[safe-super]

    def evaluate(self, architecture: Architecture, *more: Any, **options: Any) -> Iterator[Interim | Score]:
        """Every score of the task's own, with `LATENCY`: of the whole network, the median of 20 passes, batch 1."""
        run = self.forward_pass(architecture)
        figure = {LATENCY: median_milliseconds(run, self.timed_on, REPEATS, WARMUP)}
        del run  # and its network with it
        for item in super().evaluate(architecture, *more, **options):  # type: ignore[safe-super]
            yield replace(item, metrics={**item.metrics, **figure})


def timed(task: ProxyTask, device: str) -> ProxyTask:
    """``task``, with the latency on ``device`` among the metrics of all its scores.

    Raises:
        InputError: it does not give its networks' forward pass.
    """
    kind = type(task)
    if kind.forward_pass is ProxyTask.forward_pass:
        raise InputError(
            f"a target for {LATENCY} needs a proxy task that says how its networks run (forward_pass), which"
            f" {kind.__name__} does not; give a target for another cost"
        )
    # a subclass made here keeps all else that the task can do, which a wrapper around it would have to repeat
    task.__class__ = type(f"Timed{kind.__name__}", (_Timed, kind), {"timed_on": device})
    return task
