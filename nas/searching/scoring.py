"""Contenders scored beside the search: each from given seeds, by any engine, in rows of their own."""

from collections import deque
from collections.abc import Callable

from nas.run.rows import Contender, Outcome
from nas.run.store import RunStore
from nas.searching.limits import NO_LIMITS, Limits
from nas.searching.trials import LIVES, Settled, Trial, TrialLoop, died
from search_spaces import Architecture

__all__ = ["ScoringLoop"]


class ScoringLoop(TrialLoop):
    """Scores contenders once for every row that the store has of a purpose; goes on where the store ends.

    Unlike a search it repeats nothing: every outcome is final, and no trial is stopped early.

    Args:
        store: has the rows (`RunStore.record_plan`).
        purpose: of the rows.
        subject_of: what an engine evaluates of a contender.
        on_settled: called after each settled row is stored.
        limits: how long the search and a trial may take.
        isolated: as for `TrialLoop`.
    """

    def __init__(
        self,
        store: RunStore,
        purpose: str,
        subject_of: Callable[[Contender], Architecture | str],
        on_settled: Callable[[Settled], None] = lambda settled: None,
        limits: Limits = NO_LIMITS,
        isolated: bool = False,
    ):
        super().__init__(limits, isolated)
        self._store, self._on_settled = store, on_settled
        rows = store.scores(purpose)
        open_rows = [row for row in rows if not row.settled]
        self._pending = deque(
            Trial(row.number, subject_of(row.contender), row.seed, self._attempt_after(row.attempts))
            for row in open_rows
        )
        self._left = len(open_rows)

    @property
    def finished(self) -> bool:
        """Whether every row is settled."""
        return self._left == 0

    def next_trial(self) -> Trial | None:
        """The next row to evaluate; None where all others are in flight or settled, or time is up."""
        while not self._limits.over and (self._again or self._pending):
            trial: Trial = (self._again or self._pending).popleft()
            if trial.attempt > LIVES:
                self._settle(trial, died())
                continue
            self._record_attempts(trial, trial.attempt)
            self._evaluated[trial.id] = trial
            return trial
        return None

    def _record_attempts(self, trial: Trial, attempts: int) -> None:
        self._store.record_score_attempts(trial.id, attempts)

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        self._settle(trial, outcome)
        del self._evaluated[trial.id]

    def _settle(self, trial: Trial, outcome: Outcome) -> None:
        self._store.record_score(trial.id, outcome)
        self._left -= 1
        if outcome.status == "done":
            self._times.add(outcome.seconds)
        self._on_settled(Settled(trial, outcome.status, outcome.reward, outcome.seconds))
