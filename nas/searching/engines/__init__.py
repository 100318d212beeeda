"""What runs the trials: this process, or Ray workers.

An engine evaluates what the search loop gives it and reports what became of it; it decides nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nas.settings import SearchSettings

if TYPE_CHECKING:
    from nas.searching.in_turn import Trials
    from proxy_tasks.task import ProxyTask

__all__ = ["Engine", "engine_of"]

Engine = Callable[["Trials", "ProxyTask", "Callable[[], ProxyTask]"], None]
"""``engine(loop, task, make_task)`` evaluates a loop's trials; ``task`` is prepared, ``make_task`` is for workers."""


@contextmanager
def engine_of(settings: SearchSettings) -> Iterator[Engine]:
    """The engine that resolved settings ask for, with what it needs as long as the search lasts.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address, or it lacks what the workers need.
    """
    if not settings.workers:
        from nas.searching.engines import in_process

        yield lambda loop, task, make_task: in_process.run(loop, task)
        return
    from nas.searching.engines import ray_pool

    workers, gpus, device = settings.workers, settings.gpus_per_worker, settings.device
    with ray_pool.connected(workers, settings.ray_address), ray_pool.pool(workers, gpus, device) as pool:
        yield lambda loop, task, make_task: pool.run(loop, make_task, task.fingerprints())
