"""The heart of a search, the same for every engine: ask the controller, spot known networks, record, tell.

Every row counts towards the stage's trials. A network that is known already, from this run or from one whose scores are
reused, costs nothing: its recorded reward is told to the controller and the row is marked ``duplicate``; one that is
still being evaluated is waited for. The reward of a trial that was stopped early is its interim score: that is what is
known of the network. With a target for what an architecture may cost (`nas.settings.targets`) what is told, and what
trials are compared by along the way, is the reward that the target leaves; the row keeps both.

An engine runs what `SearchLoop.next_trial` gives it and reports what became of it. What that means is decided here:

| report        | meaning                                                                                |
| ------------- | -------------------------------------------------------------------------------------- |
| `record`      | a score along the way, which may stop the trial, or the outcome, which settles it      |
| `lost`        | its process died: evaluated once more, and after `LIVES` deaths failed, for the moment |
| `timed_out`   | failed, for the moment                                                                 |
| `not_started` | not the trial's fault: evaluated later; `STARTS` of them in a row end the search       |

A failure *for the moment* (`Outcome.transient`) is not remembered of the network: the next proposal of it is evaluated.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from controllers.base import Controller, Proposal, changed_parts, restore
from nas.errors import SearchFailed
from nas.run.rows import Outcome, TrialRow
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from nas.searching.limits import NO_LIMITS, Limits, TrialTimes
from nas.searching.told import compared, under_targets
from nas.settings.targets import Targets
from proxy_tasks.task import Interim
from search_spaces import Architecture

__all__ = ["LIVES", "STARTS", "SearchLoop", "Settled", "Trial"]

LIVES = 2  # a trial whose process died so often is failed
STARTS = 3  # so many workers in a row that could not start end the search


@dataclass(frozen=True)
class Trial:
    """One architecture to evaluate.

    Args:
        id: its row in the store.
        proposal: the controller's.
        architecture: as proposed.
        attempt: counts its evaluations from 1, this one included.
    """

    id: int
    proposal: Proposal
    architecture: Architecture
    attempt: int = field(default=1, compare=False)

    @cached_property
    def key(self) -> str:
        """Of the network."""
        return self.architecture.key


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


class SearchLoop:
    """One stage of a search; goes on where the store ends.

    Args:
        store: holds the stage.
        stage: its name there.
        trials: how many rows the stage is to have.
        controller: fresh; its state is restored from the store.
        on_settled: called after each settled row is stored.
        stopping: when trials are stopped early; None is never.
        limits: how long the search and a trial may take.
        isolated: whether trials run in processes of their own, whose deaths the engine reports. In this process a trial
            that kills it leaves nothing but its ``running`` row; such a row is therefore taken for one death.
        targets: what an architecture may cost; None is whatever it does.
        known: by key, networks that another run has scored: by which trial, in words, and how.
    """

    def __init__(
        self,
        store: RunStore,
        stage: str,
        trials: int,
        controller: Controller,
        on_settled: Callable[[Settled], None] = lambda settled: None,
        stopping: StoppingRule | None = None,
        limits: Limits = NO_LIMITS,
        isolated: bool = False,
        targets: Targets | None = None,
        known: Mapping[str, tuple[str, Outcome]] | None = None,
    ):
        self._store, self._stage, self._trials = store, stage, trials
        self._controller, self._on_settled, self._stopping = controller, on_settled, stopping
        self._limits, self._times, self._isolated = limits, TrialTimes(limits), isolated
        self._targets = targets or Targets()
        self._reused = known or {}
        self._known = dict(self._reused)
        self._in_flight: dict[str, list[Trial]] = {}  # the trials that wait for each key under evaluation
        self._evaluated: dict[int, Trial] = {}  # what the engine has
        self._again: deque[Trial] = deque()  # in flight, but what ran them is gone
        self._pending: deque[Trial] = deque()  # recorded as running, and not in flight
        self._failed_starts = 0
        self._restore()

    def _restore(self) -> None:
        state = self._store.controller_state(self._stage)
        if state is not None:
            restore(self._controller, state)
        self._diagnostics = self._controller.diagnostics()
        rows = self._store.trials(self._stage)
        for row in rows:
            if row.status == "running":
                self._pending.append(self._restored(row))
            elif row.status == "done":
                self._times.add(row.seconds or 0.0)
            if row.status not in ("running", "duplicate") and not row.transient:
                outcome = Outcome(row.status, row.reward, row.reason, row.metrics)
                self._known[row.key] = f"trial {row.number}", outcome
        self._count, self._settled_count = len(rows), len(rows) - len(self._pending)

    def _restored(self, row: TrialRow) -> Trial:
        architecture = self._controller.space.from_named(row.choices)
        proposal = Proposal(row.proposal, architecture.tokens, row.log_prob)
        attempt = max(1, row.attempts) if self._isolated else row.attempts + 1
        return Trial(row.number, proposal, architecture, attempt)

    @property
    def finished(self) -> bool:
        """Whether the stage has all its rows, and all of them are settled."""
        return self._settled_count >= self._trials

    def next_trial(self) -> Trial | None:
        """The next trial to evaluate: first those that an earlier process left running, then new proposals.

        None where there is nothing to start: all rows are settled, only trials in flight are left, or time is up.
        """
        while not self._limits.over:
            if self._again:
                return self._begun(self._again.popleft(), anew=True)
            anew = bool(self._pending)
            trial = self._pending.popleft() if anew else self._propose()
            if trial is None:
                return None
            key = trial.key
            if key in self._known:
                self._settle_duplicate(trial)
            elif key in self._in_flight:
                self._in_flight[key].append(trial)
            elif trial.attempt > LIVES:
                self._settle(trial, _died())
            else:
                self._in_flight[key] = []
                return self._begun(trial, anew)
        return None

    def _begun(self, trial: Trial, anew: bool) -> Trial:
        if anew:
            self._store.record_attempts(trial.id, trial.attempt)
        self._evaluated[trial.id] = trial
        return trial

    def _propose(self) -> Trial | None:
        if self._count >= self._trials:
            return None
        proposal = self._controller.ask()
        architecture = self._controller.space.architecture(proposal.tokens)
        number = self._store.record_proposal(
            self._stage,
            architecture.named,
            architecture.key,
            proposal.id,
            proposal.log_prob,
            changed_parts(self._controller),
        )
        self._count += 1
        return Trial(number, proposal, architecture)

    def time_limit(self) -> float:
        """Seconds that the evaluation of a trial may take as of now."""
        return self._times.limit()

    def record(self, trial: Trial, item: Interim | Outcome) -> bool:
        """Stores what a trial in flight yields; returns whether its evaluation is to go on.

        An outcome settles the trial, and every duplicate that waits for it; so does an interim score that stops it.
        """
        self._failed_starts = 0
        if isinstance(item, Interim):
            reward = compared(item, self._targets)
            reason = self._reason_to_stop(trial, item, reward)
            known = item.reward if reward is None else reward
            self._store.record_interim(trial.id, self._stage, item.step, item.steps, known)
            if reason is None:
                return True
            item = Outcome("stopped", item.reward, reason, item.metrics, item.seconds)
        self._end(trial, under_targets(item, self._targets))
        return False

    def lost(self, trial: Trial) -> None:
        """The process that evaluated the trial has died."""
        if trial.attempt >= LIVES:
            self._end(trial, _died())
        else:
            del self._evaluated[trial.id]
            self._again.append(replace(trial, attempt=trial.attempt + 1))

    def timed_out(self, trial: Trial, seconds: float) -> None:
        """The evaluation was ended after so many seconds because it took longer than `time_limit`."""
        self._end(trial, Outcome("failed", reason=f"timed out after {seconds:g} s", seconds=seconds, transient=True))

    def not_started(self, trial: Trial, cause: str) -> None:
        """What was to evaluate the trial did not come so far, for the ``cause`` told.

        Raises:
            SearchFailed: the last `STARTS` did not.
        """
        self._store.record_attempts(trial.id, trial.attempt - 1)
        self._again.append(self._evaluated.pop(trial.id))
        self._failed_starts += 1
        if self._failed_starts == STARTS:
            raise SearchFailed(f"{STARTS} workers in a row could not start; the last one because of {cause}")

    def give_back(self) -> None:
        """The search ends in an orderly way while trials are in flight: this attempt of theirs does not count."""
        for trial in self._evaluated.values():
            self._store.record_attempts(trial.id, trial.attempt - 1)

    def _reason_to_stop(self, trial: Trial, item: Interim, reward: float | None) -> str | None:
        if self._stopping is None or reward is None:  # without its cost nobody can say that a trial is not worth it
            return None
        earlier, better = self._store.interim_standing(self._stage, item.step, reward)
        return self._stopping.reason_to_stop(trial.id, item, earlier, better)

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        """Settles a trial in flight, and what waits for it: as its duplicates, or by an evaluation of their own."""
        self._settle(trial, outcome)
        key = trial.key
        del self._evaluated[trial.id]
        waiting = self._in_flight.pop(key)
        if outcome.transient:
            self._pending.extend(waiting)
            return
        self._known[key] = f"trial {trial.id}", outcome
        for duplicate in waiting:
            self._settle_duplicate(duplicate)

    def _settle_duplicate(self, trial: Trial) -> None:
        original, outcome = self._known[trial.key]
        reason = f"same network as {original}" + (", stopped early" if outcome.status == "stopped" else "")
        duplicate = Outcome("duplicate", outcome.reward, reason, outcome.metrics)
        self._settle(trial, under_targets(duplicate, self._targets))

    def _settle(self, trial: Trial, outcome: Outcome) -> None:
        self._controller.tell(trial.proposal, outcome.told)
        diagnostics = self._updated_diagnostics()
        self._store.record_outcome(trial.id, self._stage, outcome, changed_parts(self._controller), diagnostics)
        self._settled_count += 1
        if outcome.status == "done":
            self._times.add(outcome.seconds)
        reused = trial.key in self._reused
        self._on_settled(Settled(trial, outcome.status, outcome.told, outcome.seconds, diagnostics, reused))

    def _updated_diagnostics(self) -> dict[str, float]:
        """The controller's diagnostics where they have changed, else empty."""
        before, self._diagnostics = self._diagnostics, self._controller.diagnostics()
        return {} if self._diagnostics == before else self._diagnostics


def _died() -> Outcome:
    return Outcome("failed", reason="its process died twice", transient=True)
