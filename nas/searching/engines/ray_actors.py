"""Workers as actors on Ray: on the machines of a cluster, or on this one's GPUs."""

from collections.abc import Collection
from typing import Any

from ray.exceptions import RayError, RayTaskError

from nas.ray_workers.cluster import connected, gpus_each, ray, threads_each  # tells where Ray is missing
from nas.searching.engines.pool import WorkerLost
from nas.searching.engines.worker import Worker

__all__ = ["RayActors", "connected"]


class _Actor:
    """A `nas.searching.engines.pool.Hired`."""

    def __init__(self, actor: Any):
        self.actor = actor
        self.answer_to: Any = None  # a reference

    def ask(self, method: str, *arguments: Any) -> None:
        self.answer_to = getattr(self.actor, method).remote(*arguments)

    def answer(self) -> Any:
        try:
            return ray.get(self.answer_to)
        except RayError as error:
            raise WorkerLost(_last_line(error), raised=isinstance(error, RayTaskError)) from error

    def end(self) -> None:
        ray.kill(self.actor)


class RayActors:
    """A `nas.searching.engines.pool.Backend`; needs `connected`.

    Args:
        workers: how many there will be.
        gpus_per_worker: may be a fraction; None shares the cluster's GPUs evenly where ``device`` is ``"cuda"``.
        device: where candidates are trained.

    Raises:
        InputError: the cluster lacks what the workers need.
    """

    def __init__(self, workers: int, gpus_per_worker: float | None, device: str):
        gpus, self._threads = gpus_each(workers, gpus_per_worker, device), threads_each(workers)
        self._kind = ray.remote(num_cpus=self._threads, num_gpus=gpus)(Worker)

    def hired(self) -> _Actor:
        """See `nas.searching.engines.pool.Backend`."""
        return _Actor(self._kind.remote(self._threads))

    def answered(self, asked: Collection[_Actor], timeout: float) -> list[_Actor]:
        """See `nas.searching.engines.pool.Backend`."""
        workers = {worker.answer_to: worker for worker in asked}
        answers, _ = ray.wait(list(workers), timeout=timeout)
        return [workers[answer] for answer in answers]


def _last_line(error: RayError) -> str:
    """What an error's text, which has the worker's traceback, says at its end."""
    return next((line.strip() for line in reversed(str(error).split("\n")) if line.strip()), "an unknown error")
