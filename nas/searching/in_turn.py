"""Several loops of trials that an engine runs as one."""

from contextlib import AbstractContextManager, ExitStack

from nas.run.rows import Outcome
from nas.searching.trials import Trial, TrialLoop
from proxy_tasks.task import Interim

__all__ = ["InTurn", "Trials"]


class InTurn:
    """Gives out a trial of the next loop wherever those before it have none left to start, and reports to its loop.

    So workers start once for all loops, and none of them waits for the last trial of a loop. The methods are those of
    `TrialLoop`.
    """

    def __init__(self, *loops: TrialLoop):
        self._loops = loops
        self._in_flight: dict[int, tuple[Trial, TrialLoop]] = {}  # by `id`: the loops number their trials alike

    @property
    def finished(self) -> bool:
        """Whether all loops are."""
        return all(loop.finished for loop in self._loops)

    @property
    def over(self) -> bool:
        """See `TrialLoop`."""
        return all(loop.over for loop in self._loops)

    def next_trial(self) -> Trial | None:
        """See `TrialLoop`."""
        for loop in self._loops:
            trial = loop.next_trial()
            if trial is not None:
                self._in_flight[id(trial)] = trial, loop
                return trial
        return None

    def time_limit(self, trial: Trial) -> float:
        """See `TrialLoop`."""
        return self._in_flight[id(trial)][1].time_limit(trial)

    def record(self, trial: Trial, item: Interim | Outcome) -> bool:
        """See `TrialLoop`."""
        goes_on = self._in_flight[id(trial)][1].record(trial, item)
        if not goes_on:
            del self._in_flight[id(trial)]
        return goes_on

    def not_begun(self, trial: Trial) -> None:
        """See `TrialLoop`."""
        self._ended(trial).not_begun(trial)

    def lost(self, trial: Trial, why: str | None = None) -> None:
        """See `TrialLoop`."""
        self._ended(trial).lost(trial, why)

    def timed_out(self, trial: Trial, seconds: float) -> None:
        """See `TrialLoop`."""
        self._ended(trial).timed_out(trial, seconds)

    def given_back(self) -> AbstractContextManager[object]:
        """See `TrialLoop`."""
        with ExitStack() as stack:
            for loop in self._loops:
                stack.enter_context(loop.given_back())
            return stack.pop_all()

    def _ended(self, trial: Trial) -> TrialLoop:
        return self._in_flight.pop(id(trial))[1]


Trials = TrialLoop | InTurn
