"""What engines run: trials, and the loop that gives them out and is told what became of each.

An engine runs what `TrialLoop.next_trial` gives it and reports what became of it. What that means is decided here and
in the loops that derive from this one:

| report        | meaning                                                                                |
| ------------- | -------------------------------------------------------------------------------------- |
| `record`      | a score along the way, which may stop the trial, or the outcome, which settles it      |
| `not_begun`   | its process was gone before: evaluated later                                           |
| `lost`        | its process died: evaluated once more, and after `LIVES` deaths failed, for the moment |
| `timed_out`   | failed, for the moment                                                                 |
"""

import sqlite3
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from nas.run.rows import Outcome
from nas.searching.limits import Limits, TrialTimes
from proxy_tasks.task import Interim
from search_spaces import Architecture

__all__ = ["LIVES", "Settled", "Trial", "TrialLoop", "died"]

LIVES = 2  # a trial whose process died so often is failed


@dataclass(frozen=True)
class Trial:
    """One thing to evaluate.

    Args:
        id: its row in the store.
        subject: an architecture, or the name of a reference that is none.
        seed: of the initial weights and the batches; None is the search's.
        attempt: counts its evaluations from 1, this one included.
    """

    id: int
    subject: Architecture | str
    seed: int | None = None
    attempt: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Settled:
    """A trial that has come to its end, for whoever shows it; ``status`` as in its row, ``reward`` as it was told.

    ``diagnostics`` are the controller's where the trial made it update, else empty. ``reused`` says that the score is
    another run's.
    """

    trial: Trial
    status: str
    reward: float | None
    seconds: float
    diagnostics: dict[str, float] = field(default_factory=dict)
    reused: bool = False


def died(why: str | None = None) -> Outcome:
    """The outcome of a trial that has no life left; ``why`` is how the last process ended, where that is known."""
    return Outcome("failed", reason="its process ended twice" + (f": {why}" if why else ""), transient=True)


class TrialLoop(ABC):
    """Gives out trials, and decides what deaths, time limits and interruptions of their evaluations mean.

    Args:
        limits: how long the search and a trial may take.
        isolated: whether trials run in processes of their own, whose deaths the engine reports. In this process a trial
            that kills it leaves nothing but its ``running`` row; such a row is therefore taken for one death.
    """

    def __init__(self, limits: Limits, isolated: bool):
        self._limits, self._times, self._isolated = limits, TrialTimes(limits), isolated
        self._evaluated: dict[int, Any] = {}  # what the engine has, by the trial's id
        self._again: deque[Any] = deque()  # in flight, but what ran them is gone

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether all its rows are there, and settled."""

    @property
    def over(self) -> bool:
        """Whether no trial will begin any more: time is up, or the loop is finished."""
        return self._limits.over or self.finished

    @abstractmethod
    def next_trial(self) -> Trial | None:
        """The next trial to evaluate; None where there is nothing to start, for the moment or at all."""

    @abstractmethod
    def _end(self, trial: Any, outcome: Outcome) -> None:
        """Settles a trial in flight."""

    @abstractmethod
    def _record_attempts(self, trial: Any, attempts: int) -> None:
        """Stores how often a trial was begun."""

    def _stopped_by(self, trial: Any, item: Interim) -> Outcome | None:
        """The outcome of a trial that a score along the way stops; None where it goes on."""
        return None

    def _attempt_after(self, attempts: int) -> int:
        """The attempt that the next evaluation is of a trial that a former process has begun ``attempts`` times."""
        return max(1, attempts) if self._isolated else attempts + 1

    def time_limit(self, trial: Any) -> float:
        """Seconds that the evaluation of a trial may take as of now."""
        return self._times.limit()

    def record(self, trial: Any, item: Interim | Outcome) -> bool:
        """Stores what a trial in flight yields; returns whether its evaluation is to go on.

        An outcome settles the trial; so does an interim score that stops it.
        """
        outcome = self._stopped_by(trial, item) if isinstance(item, Interim) else item
        if outcome is None:
            return True
        self._end(trial, outcome)
        return False

    def not_begun(self, trial: Any) -> None:
        """What was to evaluate the trial was gone before it could."""
        self._again.append(self._evaluated.pop(trial.id))

    def lost(self, trial: Any, why: str | None = None) -> None:
        """The process that evaluated the trial has died, or was ended because its answers are of no use; says why."""
        if trial.attempt >= LIVES:
            self._end(trial, died(why))
        else:
            del self._evaluated[trial.id]
            self._again.append(replace(trial, attempt=trial.attempt + 1))

    def timed_out(self, trial: Any, seconds: float) -> None:
        """The evaluation was ended after so many seconds because it took longer than `time_limit`."""
        self._end(trial, Outcome("failed", reason=f"timed out after {seconds:g} s", seconds=seconds, transient=True))

    def give_back(self) -> None:
        """The search ends in an orderly way while trials are in flight: this attempt of theirs does not count."""
        for trial in self._evaluated.values():
            self._record_attempts(trial, trial.attempt - 1)

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Gives back what is in flight where an exception ends the search inside."""
        try:
            yield
        except BaseException:
            with suppress(OSError, sqlite3.Error):  # a full disk, of which the error itself tells
                self.give_back()
            raise
