"""The engine of ``--workers 0``: one trial after the other in this process."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from nas.searching.evaluation import evaluate
from nas.searching.in_turn import Trials
from nas.searching.trials import Trial
from proxy_tasks.task import ProxyTask

__all__ = ["run"]


class _TimeIsUp(BaseException):
    """The time limit of a trial, raised wherever it is; no Exception, which a proxy task might catch."""


def run(loop: Trials, task: ProxyTask) -> None:
    """Evaluates all trials that ``loop`` has; ``task`` is prepared.

    A trial's time limit is kept by the signal SIGALRM, which interrupts Python alone: code that never returns to it is
    not ended, and outside the main thread, where there are no signals, no trial is.
    """
    with _alarm_clock():
        while (trial := loop.next_trial()) is not None:
            limit = loop.time_limit(trial)
            try:
                _evaluate(loop, task, trial, limit)
            except _TimeIsUp:
                loop.timed_out(trial, limit)


def _evaluate(loop: Trials, task: ProxyTask, trial: Trial, limit: float) -> None:
    end = time.monotonic() + limit
    goes_on = True
    with closing(evaluate(task, trial.subject, trial.seed)) as items:
        while goes_on:
            with _ended_at(end):  # the task alone: what is being recorded is not interrupted
                item = next(items)
            goes_on = loop.record(trial, item)


@contextmanager
def _alarm_clock() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _ended_at(end: float) -> Iterator[None]:
    """Raises `_TimeIsUp` inside as soon as `time.monotonic` reaches ``end``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, max(end - time.monotonic(), 1e-6))  # 0 would switch it off
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
