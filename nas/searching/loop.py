"""The heart of a search, the same for every engine: ask the controller, spot known networks, record, tell.

Every row counts towards the stage's trials. A network that is known already, from this run or from one whose scores are
reused, costs nothing: its recorded reward is told to the controller and the row is marked ``duplicate``; one that is
still being evaluated is waited for. The reward of a trial that was stopped early is its interim score: that is what is
known of the network. With a target for what an architecture may cost (`nas.settings.targets`) what is told, and what
trials are compared by along the way, is the reward that the target leaves; the row keeps both.

What engines report of trials, and what deaths, time limits and interruptions mean, stands in `nas.searching.trials`.
A failure *for the moment* (`Outcome.transient`) is not remembered of the network: the next proposal of it is evaluated.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from controllers.base import Controller, Proposal, StartableController, changed_parts, restore
from nas.run.rows import Outcome, TrialRow
from nas.run.store import RunStore
from nas.searching.early_stopping import InterimRanks, StoppingRule
from nas.searching.limits import NO_LIMITS, Limits
from nas.searching.told import compared, under_targets
from nas.searching.trials import LIVES, Settled, Trial, TrialLoop, died
from nas.settings.targets import Targets
from proxy_tasks.task import Interim
from search_spaces import Architecture

__all__ = ["Proposed", "SearchLoop"]


@dataclass(frozen=True, kw_only=True)
class Proposed(Trial):
    """A trial of a controller's proposal."""

    proposal: Proposal
    subject: Architecture

    @property
    def architecture(self) -> Architecture:
        """As proposed."""
        return self.subject

    @cached_property
    def key(self) -> str:
        """Of the network."""
        return self.subject.key


class SearchLoop(TrialLoop):
    """One stage of a search; goes on where the store ends.

    Args:
        store: holds the stage.
        stage: its name there.
        trials: how many rows the stage is to have.
        controller: fresh; its state is restored from the store.
        on_settled: called after each settled row is stored.
        stopping: when trials are stopped early; None is never.
        limits: how long the search and a trial may take.
        isolated: as for `TrialLoop`.
        start: the stage's first proposals; others than none only for a `StartableController`.
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
        start: Sequence[Architecture] = (),
        targets: Targets | None = None,
        known: Mapping[str, tuple[str, Outcome]] | None = None,
    ):
        super().__init__(limits, isolated)
        self._store, self._stage, self._trials = store, stage, trials
        self._controller, self._on_settled, self._stopping = controller, on_settled, stopping
        self._start, self._targets, self._reused = start, targets or Targets(), known or {}
        self._known: dict[str, int] = {}  # the trial that settled each network; its row has the outcome
        self._in_flight: dict[str, list[Proposed]] = {}  # the trials that wait for each key under evaluation
        self._pending: deque[Proposed] = deque()  # recorded as running, and not in flight
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
                self._known[row.key] = row.number
        self._interim = InterimRanks(self._store.interim_rewards(self._stage))
        self._count, self._settled_count = len(rows), len(rows) - len(self._pending)

    def _restored(self, row: TrialRow) -> Proposed:
        architecture = self._controller.space.from_named(row.choices)
        proposal = Proposal(row.proposal, architecture.tokens, row.log_prob)
        return Proposed(
            id=row.number, subject=architecture, proposal=proposal, attempt=self._attempt_after(row.attempts)
        )

    @property
    def finished(self) -> bool:
        """Whether the stage has all its rows, and all of them are settled."""
        return self._settled_count >= self._trials

    def next_trial(self) -> Proposed | None:
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
            if key in self._known or key in self._reused:
                self._settle_duplicate(trial)
            elif key in self._in_flight:
                self._in_flight[key].append(trial)
            elif trial.attempt > LIVES:
                self._settle(trial, died())
            else:
                self._in_flight[key] = []
                return self._begun(trial, anew)
        return None

    def _begun(self, trial: Proposed, anew: bool) -> Proposed:
        if anew:
            self._record_attempts(trial, trial.attempt)
        self._evaluated[trial.id] = trial
        return trial

    def _propose(self) -> Proposed | None:
        if self._count >= self._trials:
            return None
        proposal = self._next_proposal()
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
        return Proposed(id=number, subject=architecture, proposal=proposal)

    def _next_proposal(self) -> Proposal:
        if self._count >= len(self._start):
            return self._controller.ask()
        assert isinstance(self._controller, StartableController), "only such a controller is given a start"
        return self._controller.propose(self._start[self._count].tokens)

    def _record_attempts(self, trial: Proposed, attempts: int) -> None:
        self._store.record_attempts(trial.id, attempts)
        self._interim = InterimRanks(self._store.interim_rewards(self._stage))  # without those of the former attempt

    def _stopped_by(self, trial: Proposed, item: Interim) -> Outcome | None:
        reward = compared(item, self._targets)
        reason = self._reason_to_stop(trial, item, reward)
        known = item.reward if reward is None else reward
        self._store.record_interim(trial.id, self._stage, item.step, item.steps, known)
        self._interim.add(item.step, known)
        return None if reason is None else Outcome("stopped", item.reward, reason, item.metrics, item.seconds)

    def _reason_to_stop(self, trial: Proposed, item: Interim, reward: float | None) -> str | None:
        if self._stopping is None or reward is None:  # without its cost nobody can say that a trial is not worth it
            return None
        earlier, better = self._interim.standing(item.step, reward)
        return self._stopping.reason_to_stop(trial.id, item, earlier, better)

    def _end(self, trial: Proposed, outcome: Outcome) -> None:
        """Settles a trial in flight, and what waits for it: as its duplicates, or by an evaluation of their own."""
        outcome = under_targets(outcome, self._targets)
        self._settle(trial, outcome)
        key = trial.key
        del self._evaluated[trial.id]
        waiting = self._in_flight.pop(key)
        if outcome.transient:
            self._pending.extend(waiting)
            return
        self._known[key] = trial.id
        for duplicate in waiting:
            self._settle_duplicate(duplicate)

    def _settle_duplicate(self, trial: Proposed) -> None:
        original, outcome = self._known_outcome(trial.key)
        reason = f"same network as {original}" + (", stopped early" if outcome.status == "stopped" else "")
        duplicate = Outcome("duplicate", outcome.reward, reason, outcome.metrics)
        self._settle(trial, under_targets(duplicate, self._targets))

    def _known_outcome(self, key: str) -> tuple[str, Outcome]:
        """Which trial settled the network, in words, and how."""
        if key not in self._known:
            return self._reused[key]
        row = self._store.trial(self._known[key])
        return f"trial {row.number}", Outcome(row.status, row.reward, row.reason, row.metrics)

    def _settle(self, trial: Proposed, outcome: Outcome) -> None:
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
