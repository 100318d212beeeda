"""The engine of ``--workers N``: a pool of processes, each of which evaluates trial after trial.

The workers start with the pool, while the driver still prepares, and stay for all that a search runs; one that dies,
hangs or is lost with its machine is replaced as soon as there is room, by a machine that joins a cluster too. What
starts a worker and carries messages is a `Backend`: `nas.searching.engines.processes` on this machine,
`nas.searching.engines.ray_actors` on a Ray cluster.

(Ray Tune, which did this before, hands a waiting trial to whichever worker is free first and withdraws the request for
another: where trials end more often than a worker takes to start, a lost worker is never replaced.)
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from nas.errors import SearchFailed
from nas.searching.engines.worker import told_of
from nas.searching.in_turn import Trials
from nas.searching.trials import Trial
from proxy_tasks.task import ProxyTask

__all__ = ["STARTS", "Backend", "Hired", "Pool", "WorkerLost", "pool"]

STARTS = 3  # a place in which so many workers in a row could not start is given up
LOOK = 1.0  # seconds at most between two looks for trials that take too long
LEAVE = 60.0  # seconds that a worker has to free its device


class WorkerLost(Exception):
    """A worker gives no answer any more; says why.

    Args:
        why: a line.
        raised: whether its process lives: what it was asked raised an exception.
    """

    def __init__(self, why: str, raised: bool = False):
        super().__init__(why)
        self.raised = raised


class Hired(Protocol):
    """A `nas.searching.engines.worker.Worker` in a process of its own, which may still be starting."""

    def ask(self, method: str, *arguments: Any) -> None:
        """Calls a method there; at most one is under way. Never waits for the worker."""

    def answer(self) -> Any:
        """What the method returned; waits for it.

        Raises:
            WorkerLost: there will be no answer.
        """

    def end(self) -> None:
        """Ends the process, whatever it does."""


class Backend(Protocol):
    """Starts workers."""

    def hired(self) -> Hired:
        """A new worker, which starts as soon as there is room."""

    def answered(self, asked: Collection[Any], timeout: float) -> list[Any]:
        """Those whose answers are there, or will never be; waits for one of them, so many seconds at most."""


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

    worker: Hired
    idle: bool = False
    trial: Trial | None = None
    begun: bool = False
    since: float = 0.0
    failed_starts: int = 0


class Pool:
    """The workers of one search; see `pool`.

    Args:
        backend: starts them.
        workers: how many.
    """

    def __init__(self, backend: Backend, workers: int):
        self.backend = backend
        self.seats = [_Seat(backend.hired()) for _ in range(workers)]

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
        _Shift(self, loop, (make_task, fingerprints)).work()
        self._leave()

    def close(self) -> None:
        """Ends the workers, whatever they do."""
        for seat in self.seats:
            seat.worker.end()

    def _leave(self) -> None:
        """The workers that are ready give back what their tasks hold; who does not is replaced."""
        leaving = {seat.worker: seat for seat in self.seats if seat.idle}
        for worker in leaving:
            worker.ask("leave")
        until = time.monotonic() + LEAVE
        while leaving and (left := until - time.monotonic()) > 0:
            for worker in self.backend.answered(leaving, left):
                seat = leaving.pop(worker)
                seat.idle = False
                try:
                    worker.answer()
                except WorkerLost:
                    self._replace(seat)
        for seat in leaving.values():
            seat.idle = False
            self._replace(seat)

    def _replace(self, seat: _Seat) -> None:
        seat.worker.end()
        seat.worker = self.backend.hired()


class _Shift:
    """The pool's work on one loop: what each worker was asked, and what becomes of its answer."""

    def __init__(self, pool: Pool, loop: Trials, task: tuple[Callable[[], ProxyTask], dict[str, str]]):
        self._pool, self._loop, self._task = pool, loop, task
        self._asked: dict[Hired, _Seat] = {}  # by who is to answer
        self._clock, self._looked = 0.0, time.monotonic()

    def work(self) -> None:
        """Ends when the loop has nothing to evaluate and nothing is in flight."""
        for seat in self._pool.seats:
            self._start(seat)
        while not self._nothing_left():
            for worker in self._pool.backend.answered(self._asked, LOOK):
                self._hear(self._asked.pop(worker))
            self._tick()
            self._end_overdue()

    def _start(self, seat: _Seat) -> None:
        self._ask(seat, "take", *self._task)

    def _ask(self, seat: _Seat, method: str, *arguments: Any) -> None:
        seat.worker.ask(method, *arguments)
        self._asked[seat.worker] = seat

    def _nothing_left(self) -> bool:
        """Gives trials to the idle; whether nothing came of that, and nobody else is at work."""
        for seat in self._pool.seats:
            if not seat.idle:
                continue
            trial = self._loop.next_trial()
            if trial is None:
                return self._none_at_work()
            seat.idle, seat.trial, seat.begun, seat.since = False, trial, False, self._clock
            self._ask(seat, "begin", told_of(trial))
        return self._loop.over and self._none_at_work()  # who is still starting is not waited for

    def _none_at_work(self) -> bool:
        return all(seat.trial is None for seat in self._pool.seats)

    def _hear(self, seat: _Seat) -> None:
        try:
            answer = seat.worker.answer()
        except WorkerLost as lost:
            self._replace(seat, lost)
            return
        if seat.trial is None:
            self._started(seat, answer)
        elif not seat.begun:
            seat.begun = True
            self._ask(seat, "go_on")
        elif self._loop.record(seat.trial, answer):
            self._ask(seat, "go_on")
        else:
            seat.trial, seat.idle = None, True

    def _started(self, seat: _Seat, refusal: Exception | None) -> None:
        if refusal is not None:  # no trial can run there
            raise refusal
        seat.failed_starts, seat.idle = 0, True

    def _replace(self, seat: _Seat, lost: WorkerLost) -> None:
        """A worker is no more, or never came to be."""
        trial = seat.trial
        if trial is not None and (seat.begun or lost.raised):  # it may be the trial's fault
            self._loop.lost(trial, str(lost))
        else:
            seat.failed_starts += 1
            if trial is not None:
                self._loop.not_begun(trial)
        if seat.failed_starts < STARTS:
            self._hire(seat)
            return
        seat.worker.end()
        self._pool.seats.remove(seat)
        if not self._pool.seats:
            raise SearchFailed(f"{STARTS} workers in a row could not start; the last one because of {lost}")

    def _hire(self, seat: _Seat) -> None:
        seat.worker.end()
        seat.worker, seat.trial = self._pool.backend.hired(), None
        self._start(seat)

    def _tick(self) -> None:
        """The clock of time limits, which stands still while this process does something else, or is paused."""
        now = time.monotonic()
        self._clock, self._looked = self._clock + min(now - self._looked, 2 * LOOK), now

    def _end_overdue(self) -> None:
        for worker, seat in list(self._asked.items()):
            if seat.trial is None or self._clock - seat.since < (limit := self._loop.time_limit(seat.trial)):
                continue
            trial = seat.trial
            del self._asked[worker]
            self._hire(seat)
            self._loop.timed_out(trial, limit)


@contextmanager
def pool(backend: Backend, workers: int) -> Iterator[Pool]:
    """A `Pool` as long as a search lasts."""
    made = Pool(backend, workers)
    try:
        yield made
    finally:
        made.close()
