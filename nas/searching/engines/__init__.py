"""What runs the trials: this process, worker processes of this machine, or workers on Ray.

An engine evaluates what the search loop gives it and reports what became of it; it decides nothing.
"""

import sys
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
        InputError: Ray is asked for and not installed, or no cluster answers at the address, or it lacks what the
            workers need.
    """
    if not settings.workers:
        from nas.searching.engines import in_process

        yield lambda loop, task, make_task: in_process.run(loop, task)
    elif _on_ray(settings):
        with _ray_workers(settings.workers, settings) as engine:
            yield engine
    else:
        from nas.searching.engines.pool import pool
        from nas.searching.engines.processes import Processes

        with pool(Processes(settings.workers), settings.workers) as workers:
            yield lambda loop, task, make_task: workers.run(loop, make_task, task.fingerprints())


def _on_ray(settings: SearchSettings) -> bool:
    """Whether workers need what Ray gives: another machine, a share of a GPU, or the caller's own cluster."""
    if settings.ray_address is not None or settings.gpus_per_worker is not None or settings.device != "cpu":
        return True
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


@contextmanager
def _ray_workers(workers: int, settings: SearchSettings) -> Iterator[Engine]:
    from nas.searching.engines.pool import pool
    from nas.searching.engines.ray_actors import RayActors, connected
    from nas.searching.engines.residence import sharing

    with (
        connected(workers, settings.ray_address),
        pool(RayActors(workers, settings.gpus_per_worker, settings.device), workers) as hired,
    ):

        def run(loop: "Trials", task: "ProxyTask", make_task: "Callable[[], ProxyTask]") -> None:
            with sharing(make_task, settings.device) as making:
                hired.run(loop, making, task.fingerprints())

        yield run
