"""A run as its readers see it, finished or still being written: settings, trials, the best architectures."""

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.families import family_of
from nas.run.confirmed import CONFIRMATION, Standing, confirmation_seeds, reference_rows, standings, subject_of
from nas.run.directory import RunRecord, read_record
from nas.run.frames import confirmed_frame, front_frame, references_frame, trials_frame
from nas.run.front import on_front
from nas.run.ranking import Ranked, rank
from nas.run.rows import DiagnosticRow, PromotionRow, ScoreRow, StageRow, TrialRow
from nas.run.store import RunStore
from nas.settings import SearchSettings
from nas.settings.targets import COSTS, Targets
from search_spaces import Architecture, InputError, SearchSpace

if TYPE_CHECKING:
    import pandas

__all__ = ["Contents", "Run", "load_run"]


@dataclass(frozen=True)
class Contents:
    """All that the store of a run holds for its readers, as of one moment.

    ``interim`` has, by trial, the scores along the way as ``(step, steps, reward)`` in the order reported.
    """

    stages: list[StageRow]
    trials: list[TrialRow]
    diagnostics: list[DiagnosticRow]
    promotions: list[PromotionRow]
    scores: list[ScoreRow]
    interim: dict[int, list[tuple[int, int, float]]]


class Run:
    """The run in a directory; every property reads what is there at that moment.

    Args:
        path: the run's directory.

    Raises:
        InputError: no run there, or one of a newer format.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._record = read_record(self.path)
        self.contents()

    @property
    def settings(self) -> SearchSettings:
        """As resolved when the run began, or was last resumed."""
        return self._record.settings

    @property
    def record(self) -> RunRecord:
        """Settings, versions and fingerprints as of now."""
        return read_record(self.path)

    def contents(self) -> Contents:
        """The rows of the store, all of one moment."""
        with closing(RunStore(self.path / "trials.db", read_only=True)) as store, store.one_moment():
            rows = store.stages(), store.trials(), store.diagnostics(), store.promotions(), store.scores()
            return Contents(*rows, store.interim_scores())

    @property
    def trials(self) -> "pandas.DataFrame":
        """One row a trial.

        Columns: trial, stage, status, reward, key, cached (bool), reason, params, macs (NaN where the task has none),
        seconds, one per choice (the option's name, missing for a choice of another stage), and ``metric.NAME`` for each
        further figure; with a target ``metric.told`` is the reward that was told.
        """
        return trials_frame(self.contents().trials)

    @property
    def references(self) -> "pandas.DataFrame":
        """What the winners are held against, one row a reference, as scored before the search like its first stage.

        Columns: name, key (empty for one that is no architecture), status, reward, params, macs, seconds, reason.
        """
        return references_frame(reference_rows(self.contents().scores))

    @property
    def confirmed(self) -> "pandas.DataFrame":
        """One row a contender of the confirmation, best first, references among them; empty before it is finished.

        Columns: rank (missing for a reference, and for what cannot be compared, whose reason says why), name (of a
        reference), key, space, trials (the numbers of those that it comes from), seeds (from which it is done), reward,
        loss and metric with the deviation of each over the seeds (NaN where there is none), told (what the order is of:
        the mean of what the targets leave of `confirmed_by`, higher is better), params, macs, latency_ms, reason.
        """
        return confirmed_frame(self.standings())

    def ranked(self, contents: Contents | None = None) -> dict[str, list[Ranked]]:
        """Per stage begun, its done trials, best first."""
        now = contents or self.contents()
        return {stage.name: rank(row for row in now.trials if row.stage == stage.name) for stage in now.stages}

    def best(self, k: int = 1) -> list[Architecture]:
        """The ``k`` best architectures, best first; fewer where the run has fewer.

        Those that are confirmed come first, by their means; they may be of any stage. All others follow by the rewards
        of their trials, those of the last finished stage (before any is finished, of the first as it stands); where
        that completes a progressive search, each is the whole decoder.

        Raises:
            InputError: no trial is done yet.
        """
        return [architecture for architecture, _ in self.best_with_trials(k)]

    def best_with_trials(
        self, k: int | None = 1, contents: Contents | None = None
    ) -> list[tuple[Architecture, list[Ranked]]]:
        """As `best`, each with the trials that it comes from: one, or one a stage of a progressive search.

        Args:
            k: how many at most; None is all there are.
            contents: what the store holds, where it is read already; None reads it.

        Raises:
            InputError: no trial is done yet.
        """
        now = contents or self.contents()
        confirmed = self._confirmed(now)
        keys = {architecture.key for architecture, _ in confirmed}
        more = None if k is None else k + len(confirmed)
        others = (found for found in self.by_rewards(more, now) if not keys or found[0].key not in keys)
        return [*confirmed, *others][:k]

    def _confirmed(self, now: Contents) -> list[tuple[Architecture, list[Ranked]]]:
        whole, rows = self.settings.search_space(), {row.number: row for row in now.trials}
        best = []
        for standing in self.standings(now):
            architecture = subject_of(standing.contender, whole)
            if standing.found and not standing.reason:
                assert isinstance(architecture, Architecture), "what was found is an architecture"
                best.append((architecture, [rank([rows[trial]])[0] for trial in standing.contender.trials]))
        return best

    def by_rewards(
        self, k: int | None = 1, contents: Contents | None = None
    ) -> list[tuple[Architecture, list[Ranked]]]:
        """As `best_with_trials`, by the rewards of trials alone: what is confirmed has no place before the others."""
        now = contents or self.contents()
        finished = [stage for stage in now.stages if stage.finished] or now.stages[:1]
        ranked = [rank(row for row in now.trials if row.stage == stage.name) for stage in finished]
        if not ranked or not ranked[-1]:
            raise InputError(f"the run {self.path} has no trial that is done yet")
        whole = self.settings.search_space()
        spaces = whole.stages[: len(finished)]
        complete = len(finished) == len(whole.stages)
        best = []
        for last in ranked[-1][:k]:
            trials = [*(trials[0] for trials in ranked[:-1]), last]
            winners = [space.from_named(trial.choices) for space, trial in zip(spaces, trials, strict=True)]
            best.append((whole.joined(winners), trials) if complete else (winners[-1], trials[-1:]))
        return best

    def standings(self, contents: Contents | None = None) -> list[Standing]:
        """All contenders of the run's confirmation, references among them, best first.

        Empty where nothing was confirmed, or not all of it yet.
        """
        now, settings = contents or self.contents(), self.settings
        rows = [row for row in now.scores if row.purpose == CONFIRMATION]
        if settings.confirmation is None or not all(row.settled for row in rows):
            return []
        planned = {row.seed for row in rows}  # fewer than wanted where there was no time for all
        seeds = [seed for seed in confirmation_seeds(settings.seed, settings.confirmation[1]) if seed in planned]
        measure = family_of(settings.search_space()).measure
        return standings(rows, seeds, measure, self.confirmed_by, Targets(settings.target))

    @property
    def confirmed_by(self) -> str:
        """What the confirmed are compared by: ``"reward"``, ``"loss"`` or ``"metric"``, the last two for no reward."""
        by = self.settings.confirm_by or ("metric" if family_of(self.settings.search_space()).measure else "reward")
        return "reward" if by == self.settings.reward else by

    def front(self, cost: str = "macs") -> "pandas.DataFrame":
        """The architectures of which no other is at least as good and as cheap, and better or cheaper.

        Of the trials of the last finished stage, as `by_rewards` has them, by the task's own reward: a target does not
        bend the front, and confirmed means, which are measured otherwise, are not on it.

        Args:
            cost: ``"params"``, ``"macs"`` or ``"latency_ms"``.

        Returns:
            rank (1 has the highest reward), trial, reward, the costs that are known, key, and architecture.

        Raises:
            InputError: there is no such cost, no trial is done yet, or none that is has that cost.
        """
        return front_frame(self.front_with_trials(cost))

    def front_with_trials(
        self, cost: str = "macs", contents: Contents | None = None
    ) -> list[tuple[Architecture, list[Ranked]]]:
        """As `front`, each architecture with the trials that it comes from; see `by_rewards`."""
        if cost not in COSTS:
            raise InputError(f"there is no cost {cost!r} to draw a front against; known: {', '.join(COSTS)}")
        found = self.by_rewards(None, contents)
        rewards = np.array([trials[-1].reward for _, trials in found])
        costs = np.array([trials[-1].metrics.get(cost, math.nan) for _, trials in found])
        chosen = [found[i] for i in np.flatnonzero(on_front(rewards, costs))]
        if not chosen:
            raise InputError(f"no trial that is done in the run {self.path} has {cost} among its metrics")
        return sorted(chosen, key=lambda item: (-item[1][-1].reward, item[1][-1].number))

    def space(self, stage: str) -> SearchSpace:
        """What a stage searches; raises `InputError` where a space of the user's own cannot be imported."""
        return next(space for space in self.settings.search_space().stages if space.name == stage)


def load_run(path: str | Path) -> Run:
    """The run at ``path``; it may be written to at the same time."""
    return Run(path)
