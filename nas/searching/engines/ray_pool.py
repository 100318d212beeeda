"""The engine of ``--workers N``: a pool of Ray actors, each a process that evaluates trial after trial.

The workers start with the pool, while the driver still prepares, and stay for all that a search runs; one that dies,
hangs or is lost with its machine is replaced as soon as the cluster has room, by a machine that joins too. (Ray Tune,
which did this before, hands a waiting trial to whichever worker is free first and withdraws the request for another:
where trials end more often than a worker takes to start, a lost worker is never replaced.)
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError, RayTaskError

from nas.errors import SearchFailed
from nas.ray_workers.cluster import connected, gpus_each, ray, threads_each  # tells where Ray is missing
from nas.searching.engines.ray_worker import Worker, told_of
from nas.searching.engines.residence import sharing
from nas.searching.in_turn import Trials
from nas.searching.trials import Trial
from proxy_tasks.task import ProxyTask

__all__ = ["STARTS", "Pool", "connected", "pool"]

STARTS = 3  # a place in which so many workers in a row could not start is given up
LOOK = 1.0  # seconds at most between two looks for trials that take too long
LEAVE = 60.0  # seconds that a worker has to free its device


@dataclass
class _Seat:
    """A place in the pool and the worker in it.

    Args:
        worker: starting, or idle, or with a trial.
        idle: whether it waits for a trial.
        trial: what it evaluates.
        begun: whether it has told that it does.
        since: when it was asked to.
        failed_starts: workers in a row that could not start here.
    """

    worker: Any
    idle: bool = False
    trial: Trial | None = None
    begun: bool = False
    since: float = 0.0
    failed_starts: int = 0


class Pool:
    """The workers of one search; see `pool`.

    Args:
        workers: processes.
        gpus_per_worker: may be a fraction; None shares the cluster's GPUs evenly where ``device`` is ``"cuda"``.
        device: where candidates are trained.

    Raises:
        InputError: the cluster lacks what the workers need.
    """

    def __init__(self, workers: int, gpus_per_worker: float | None, device: str):
        gpus, threads = gpus_each(workers, gpus_per_worker, device), threads_each(workers)
        self._device, self._threads = device, threads
        self._actor = ray.remote(num_cpus=threads, num_gpus=gpus)(Worker)
        self.seats = [_Seat(self.hired()) for _ in range(workers)]

    def run(self, loop: Trials, make_task: Callable[[], ProxyTask], fingerprints: dict[str, str]) -> None:
        """Evaluates all trials that ``loop`` has.

        Args:
            loop: has the trials.
            make_task: picklable; every worker makes and prepares a task of its own.
            fingerprints: what the scores of the driver's task depend on, as hashes by name; every worker's must equal
                them.

        Raises:
            InputError: a worker cannot prepare its task.
            SearchFailed: no worker could start, each place tried `STARTS` times.
            Exception: whatever recording a trial raised.
        """
        with sharing(make_task, self._device) as making:
            _Shift(self, loop, (making, fingerprints)).work()
            self._leave()

    def close(self) -> None:
        """Ends the workers, whatever they do."""
        for seat in self.seats:
            ray.kill(seat.worker)

    def hired(self) -> Any:
        """A new worker, which starts as soon as the cluster has room."""
        return self._actor.remote(self._threads)

    def _leave(self) -> None:
        """The workers that are ready give back what their tasks hold; who does not is replaced."""
        leaving = {seat.worker.leave.remote(): seat for seat in self.seats if seat.idle}
        if leaving:
            ray.wait(list(leaving), num_returns=len(leaving), timeout=LEAVE)
        for answer, seat in leaving.items():
            seat.idle = False
            try:
                ray.get(answer, timeout=0)
            except RayError:
                ray.kill(seat.worker)
                seat.worker = self.hired()


class _Shift:
    """The pool's work on one loop: what each worker was asked, and what becomes of its answer."""

    def __init__(self, pool: Pool, loop: Trials, task: tuple[Callable[[], ProxyTask], dict[str, str]]):
        self._pool, self._loop, self._task = pool, loop, task
        self._asked: dict[Any, _Seat] = {}  # by the reference of the answer
        self._clock, self._looked = 0.0, time.monotonic()

    def work(self) -> None:
        """Ends when the loop has nothing to evaluate and nothing is in flight."""
        for seat in self._pool.seats:
            self._start(seat)
        while not self._nothing_left():
            answered, _ = ray.wait(list(self._asked), timeout=LOOK)
            for reference in answered:
                self._hear(self._asked.pop(reference), reference)
            self._tick()
            self._end_overdue()

    def _start(self, seat: _Seat) -> None:
        self._ask(seat, seat.worker.take.remote(*self._task))

    def _ask(self, seat: _Seat, reference: Any) -> None:
        self._asked[reference] = seat

    def _nothing_left(self) -> bool:
        """Gives trials to the idle; whether nothing came of that, and nobody else is at work."""
        for seat in self._pool.seats:
            if not seat.idle:
                continue
            trial = self._loop.next_trial()
            if trial is None:
                return self._none_at_work()
            seat.idle, seat.trial, seat.begun, seat.since = False, trial, False, self._clock
            self._ask(seat, seat.worker.begin.remote(told_of(trial)))
        return self._loop.over and self._none_at_work()  # who is still starting is not waited for

    def _none_at_work(self) -> bool:
        return all(seat.trial is None for seat in self._pool.seats)

    def _hear(self, seat: _Seat, reference: Any) -> None:
        try:
            answer = ray.get(reference)
        except RayError as error:
            self._replace(seat, error)
            return
        if seat.trial is None:
            self._started(seat, answer)
        elif not seat.begun:
            seat.begun = True
            self._ask(seat, seat.worker.go_on.remote())
        elif self._loop.record(seat.trial, answer):
            self._ask(seat, seat.worker.go_on.remote())
        else:
            seat.trial, seat.idle = None, True

    def _started(self, seat: _Seat, refusal: Exception | None) -> None:
        if refusal is not None:  # no trial can run there
            raise refusal
        seat.failed_starts, seat.idle = 0, True

    def _replace(self, seat: _Seat, error: RayError) -> None:
        """A worker is no more, or never came to be."""
        trial = seat.trial
        if trial is not None and (seat.begun or isinstance(error, RayTaskError)):  # it may be the trial's fault
            self._loop.lost(trial)
        else:
            seat.failed_starts += 1
            if trial is not None:
                self._loop.not_begun(trial)
        if seat.failed_starts < STARTS:
            self._hire(seat)
            return
        ray.kill(seat.worker)
        self._pool.seats.remove(seat)
        if not self._pool.seats:
            cause = _last_line(error)
            raise SearchFailed(f"{STARTS} workers in a row could not start; the last one because of {cause}")

    def _hire(self, seat: _Seat) -> None:
        ray.kill(seat.worker)
        seat.worker, seat.trial = self._pool.hired(), None
        self._start(seat)

    def _tick(self) -> None:
        """The clock of time limits, which stands still while this process does something else, or is paused."""
        now = time.monotonic()
        self._clock, self._looked = self._clock + min(now - self._looked, 2 * LOOK), now

    def _end_overdue(self) -> None:
        for reference, seat in list(self._asked.items()):
            if seat.trial is None or self._clock - seat.since < (limit := self._loop.time_limit(seat.trial)):
                continue
            trial = seat.trial
            del self._asked[reference]
            self._hire(seat)
            self._loop.timed_out(trial, limit)


def _last_line(error: RayError) -> str:
    """What an error's text, which has the worker's traceback, says at its end."""
    return next((line.strip() for line in reversed(str(error).split("\n")) if line.strip()), "an unknown error")


@contextmanager
def pool(workers: int, gpus_per_worker: float | None, device: str) -> Iterator[Pool]:
    """A `Pool` as long as a search lasts; needs `connected`."""
    made = Pool(workers, gpus_per_worker, device)
    try:
        yield made
    finally:
        made.close()
