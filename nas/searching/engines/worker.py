"""One worker process of a search."""

import socket
from collections.abc import Callable, Generator
from typing import Any

import torch

from nas.searching.evaluation import Outcome, evaluate
from nas.searching.trials import Trial
from proxy_tasks.task import Interim, ProxyTask
from search_spaces import SPACES, Architecture, InputError, SearchSpace

__all__ = ["Worker", "told_of"]


def told_of(trial: Trial) -> dict[str, Any]:
    """A trial in plain values, of which a worker makes what it is to evaluate."""
    if isinstance(trial.subject, str):
        return {"reference": trial.subject, "seed": trial.seed}
    return {"space": trial.subject.space.name, "tokens": trial.subject.tokens, "seed": trial.seed}


class Worker:
    """Evaluates trial after trial, on one task after the other, each made and prepared once.

    Args:
        threads: of torch.
    """

    def __init__(self, threads: int):
        torch.set_num_threads(threads)
        self._task: ProxyTask | None = None
        self._items: Generator[Interim | Outcome, None, None] | None = None

    def take(self, make_task: Callable[[], ProxyTask], fingerprints: dict[str, str]) -> InputError | None:
        """Makes and prepares the task that `begin` evaluates on; returns why no trial can run here, None where one can.

        What else it raises is told to the driver as a worker that could not start.
        """
        self.leave()
        try:
            task = make_task()
            task.prepare(lambda what, done, total: None)
            _refuse_other_scores(task.fingerprints(), fingerprints)
        except InputError as error:
            return InputError(str(error))  # one of the user's classes may not be picklable
        self._task = task
        return None

    def begin(self, told: dict[str, Any]) -> None:
        """Leaves the trial before, which may have been stopped, and is ready for the new one.

        The answer tells the driver that the worker is alive: if it dies from then on, the trial may be why.
        """
        self._close()
        assert self._task is not None, "take comes first"
        self._items = evaluate(self._task, _subject(self._task, told), told["seed"])

    def go_on(self) -> Interim | Outcome:
        """What the trial yields next."""
        assert self._items is not None, "begin comes first"
        return next(self._items)

    def leave(self) -> None:
        """Frees what the task and its last trial hold."""
        self._close()
        if self._task is not None:
            self._task.release()
        self._task = None

    def _close(self) -> None:
        if self._items is not None:
            self._items.close()
        self._items = None


def _subject(task: ProxyTask, told: dict[str, Any]) -> Architecture | str:
    """Of which `told_of` told; the task's own spaces need not be registered."""
    if "reference" in told:
        return str(told["reference"])
    name, own = told["space"], task.space
    space: SearchSpace = {space.name: space for space in (*own.stages, own)}.get(name) or SPACES.get(name)
    return space.architecture(told["tokens"])


def _refuse_other_scores(mine: dict[str, str], drivers: dict[str, str]) -> None:
    """Rewards of one search must come from one backbone: a worker that built another one may not score."""
    for what, value in drivers.items():
        if mine.get(what) != value:
            raise InputError(
                f"a worker on {socket.gethostname()} has another {what} than the driver (fingerprint {mine.get(what)},"
                f" the driver's is {value}); give all nodes one shared --cache-dir"
            )
