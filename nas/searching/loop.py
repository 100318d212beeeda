"""The heart of a search, the same for every engine: ask the controller, spot known networks, record, tell.

Every row counts towards the stage's trials. A network that is known already costs nothing: its recorded reward is told
to the controller and the row is marked ``duplicate``; one that is still being evaluated is waited for. The reward of a
trial that was stopped early is its interim score: that is what is known of the network.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from controllers.base import Controller, Proposal
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from nas.searching.evaluation import Outcome
from proxy_tasks.task import Interim
from search_spaces import Architecture

__all__ = ["SearchLoop", "Settled", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One architecture to evaluate: ``id`` is its row in the store."""

    id: int
    proposal: Proposal
    architecture: Architecture


@dataclass(frozen=True)
class Settled:
    """A trial that has come to its end, for whoever shows it; ``status`` and ``reward`` as in its row.

    ``diagnostics`` are the controller's where the trial made it update, else empty.
    """

    trial: Trial
    status: str
    reward: float | None
    seconds: float
    diagnostics: dict[str, float] = field(default_factory=dict)


class SearchLoop:
    """One stage of a search; goes on where the store ends.

    Args:
        store: holds the stage.
        stage: its name there.
        trials: how many rows the stage is to have.
        controller: fresh; its state is restored from the store.
        on_settled: called after each settled row is stored.
        stopping: when trials are stopped early; None is never.
    """

    def __init__(
        self,
        store: RunStore,
        stage: str,
        trials: int,
        controller: Controller,
        on_settled: Callable[[Settled], None] = lambda settled: None,
        stopping: StoppingRule | None = None,
    ):
        self._store, self._stage, self._trials = store, stage, trials
        self._controller, self._on_settled, self._stopping = controller, on_settled, stopping
        self._known: dict[str, tuple[int, Outcome]] = {}
        self._in_flight: dict[str, list[Trial]] = {}  # the trials that wait for each key under evaluation
        self._restored: deque[Trial] = deque()
        self._restore()

    def _restore(self) -> None:
        state = self._store.controller_state(self._stage)
        if state is not None:
            self._controller.load_state_dict(state)
        self._diagnostics = self._controller.diagnostics()
        rows = self._store.trials(self._stage)
        self._count = len(rows)
        for row in rows:
            if row.status == "running":
                architecture = self._controller.space.from_named(row.choices)
                proposal = Proposal(row.proposal, architecture.tokens, row.log_prob)
                self._restored.append(Trial(row.trial, proposal, architecture))
            elif row.status != "duplicate":
                self._known[row.key] = row.trial, Outcome(row.status, row.reward, row.reason, row.metrics)
        for trial in self._restored:
            self._store.record_restart(trial.id)

    def next_trial(self) -> Trial | None:
        """The next trial to evaluate: first those that an earlier process left running, then new proposals.

        None where there is nothing to start: all rows are settled, or only trials in flight are left.
        """
        while (trial := self._restored.popleft() if self._restored else self._propose()) is not None:
            key = trial.architecture.key
            if key in self._known:
                self._settle_duplicate(trial)
            elif key in self._in_flight:
                self._in_flight[key].append(trial)
            else:
                self._in_flight[key] = []
                return trial
        return None

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
            self._controller.state_dict(),
        )
        self._count += 1
        return Trial(number, proposal, architecture)

    def restart(self, trial: Trial) -> None:
        """Notes that a trial is evaluated once more, because what ran it has died."""
        self._store.record_restart(trial.id)

    def record(self, trial: Trial, item: Interim | Outcome) -> bool:
        """Stores what a trial in flight yields; returns whether its evaluation is to go on.

        An outcome settles the trial, and every duplicate that waits for it; so does an interim score that stops it.
        """
        if isinstance(item, Interim):
            reason = self._reason_to_stop(trial, item)
            self._store.record_interim(trial.id, item.step, item.steps, item.reward)
            if reason is None:
                return True
            item = Outcome("stopped", item.reward, reason, item.metrics, item.seconds)
        self._settle(trial, item)
        key = trial.architecture.key
        self._known[key] = trial.id, item
        for duplicate in self._in_flight.pop(key):
            self._settle_duplicate(duplicate)
        return False

    def _reason_to_stop(self, trial: Trial, item: Interim) -> str | None:
        if self._stopping is None:
            return None
        earlier = self._store.interim_rewards(self._stage, item.step)
        return self._stopping.reason_to_stop(trial.id, item, earlier)

    def _settle_duplicate(self, trial: Trial) -> None:
        original, outcome = self._known[trial.architecture.key]
        reason = f"same network as trial {original}" + (", stopped early" if outcome.status == "stopped" else "")
        self._settle(trial, Outcome("duplicate", outcome.reward, reason, outcome.metrics), cached=True)

    def _settle(self, trial: Trial, outcome: Outcome, cached: bool = False) -> None:
        self._controller.tell(trial.proposal, outcome.reward)
        diagnostics = self._updated_diagnostics()
        self._store.record_outcome(
            trial.id,
            self._stage,
            self._controller.state_dict(),
            status=outcome.status,
            reward=outcome.reward,
            reason=outcome.reason,
            metrics=outcome.metrics,
            seconds=outcome.seconds,
            cached=cached,
            diagnostics=diagnostics,
        )
        self._on_settled(Settled(trial, outcome.status, outcome.reward, outcome.seconds, diagnostics))

    def _updated_diagnostics(self) -> dict[str, float]:
        """The controller's diagnostics where they have changed, else empty."""
        before, self._diagnostics = self._diagnostics, self._controller.diagnostics()
        return {} if self._diagnostics == before else self._diagnostics
