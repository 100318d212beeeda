"""The stages of a search, one after the other, each from the winner of the one before."""

import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import controllers
from nas.errors import Interrupted, SearchFailed
from nas.folders import full_disk_told
from nas.run.directory import read_record, write_record
from nas.run.front import front_with_trials
from nas.run.reading import Ranked, Run, rank
from nas.run.rows import Outcome
from nas.run.store import RunStore
from nas.searching import kept, reuse
from nas.searching.display import Display
from nas.searching.early_stopping import StoppingRule
from nas.searching.engines import Engine
from nas.searching.limits import Limits
from nas.searching.loop import SearchLoop, Settled
from nas.searching.plan import Stage, task_factory
from nas.searching.resuming import refuse_change
from nas.settings import SearchSettings
from nas.settings.targets import Targets
from proxy_tasks.task import Diverged
from search_spaces import Architecture, InputError

__all__ = ["controller_of", "go_on", "run_stages"]


def go_on(run: Path) -> str:
    """How to go on with a run, for the end of a sentence."""
    return f"go on with nas-search --resume {shlex.quote(str(run))}"


def controller_of(stage: Stage, settings: SearchSettings) -> Any:
    """A fresh controller; raises `InputError` where there is none of that name or with those options."""
    return controllers.make(settings.controller, stage.space, seed=settings.seed, **settings.controller_options)


def run_stages(
    run: Path, settings: SearchSettings, plan: Sequence[Stage], engine: Engine, display: Display, limits: Limits
) -> None:
    """Searches the stages of a run that this process has locked, from where its store ends.

    Args:
        run: its directory.
        settings: that it goes on with; they are written into it once nothing stands against them any more.
        plan: the stages of these settings.
        engine: runs the trials.
        display: shows them.
        limits: the search's deadline and the time that a trial may take.

    Raises:
        InputError: the data of a stage are bad or have changed.
        SearchFailed: no trial of a stage gave a reward, no worker could start, or the disk is full.
        Interrupted: by Ctrl-C.
    """
    with full_disk_told(run, go_on(run)), closing(RunStore(run / "trials.db")) as store:
        shared = _Search(run, settings, store, engine, display, limits, reuse.copied(store.path, settings))
        try:
            finished = shared.all(plan)
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted; {go_on(run)}") from error
    tables = {stage: ranked[:5] for stage, ranked in Run(run).ranked().items()}
    display.closing(run, tables, settings.workers, Targets(settings.target), _fronts(run, settings))
    if not finished:
        display.say(f"The {settings.hours:g} hours are over before the search is; {go_on(run)} --hours H")


def _fronts(run: Path, settings: SearchSettings) -> dict[str, list[Ranked]]:
    """The fronts that are asked for, by cost: the one of the setting, else those of the targets."""
    fronts = {}
    for cost in [settings.pareto] if settings.pareto else settings.target:
        with suppress(InputError):  # no trial that is done has it
            fronts[cost] = [trials[-1] for _, trials in front_with_trials(Run(run), cost)]
    return fronts


@dataclass
class _Search:
    """What all stages of one search share."""

    run: Path
    settings: SearchSettings
    store: RunStore
    engine: Engine
    display: Display
    limits: Limits
    sources: Sequence[reuse.Source]

    def all(self, plan: Sequence[Stage]) -> bool:
        """Whether every stage is finished; False where time is up."""
        previous: Architecture | None = None
        for position, stage in enumerate(plan):
            self.store.add_stage(stage.name, position, stage.trials)
            if not self.finished(stage, previous):
                return False
            previous = self.winner(stage)
        self._take_settings()
        return True

    def finished(self, stage: Stage, previous: Architecture | None) -> bool:
        """Whether the stage is finished, after it was searched where the store has it unfinished."""
        if any(row.finished and row.trials >= stage.trials for row in self.store.stages() if row.name == stage.name):
            return True
        if self.limits.over or not self._search(stage, previous):
            return False
        self.winner(stage)
        self.store.finish_stage(stage.name)
        return True

    def winner(self, stage: Stage) -> Architecture:
        """The architecture with the best reward, as it was told; raises `SearchFailed` where no trial has one."""
        rows = self.store.trials(stage.name)
        ranked = rank(rows)
        if not ranked:
            raise SearchFailed(
                f"none of the {len(rows)} trials of stage {stage.name} gave a reward; the last one's reason:"
                f" {rows[-1].reason}"
            )
        return stage.space.from_named(ranked[0].choices)

    def _search(self, stage: Stage, previous: Architecture | None) -> bool:
        settings = self.settings
        make_task = task_factory(stage, kept.with_kept(self.run, settings), previous, kept.folder(self.run))
        task = make_task()
        try:
            task.prepare(self.display.preparing)
        except Diverged as error:
            raise InputError(
                f"stage {stage.name} cannot be prepared: {error}; lower its learning rates by --set"
            ) from error
        known = self._known(stage.name, task.fingerprints(), previous)
        self._record_fingerprints(stage.name, task.fingerprints())
        self._take_settings()
        self.store.set_trials(stage.name, stage.trials)
        kept.keep(self.run, task)
        task.release()  # for the workers; this process takes back what it needs
        controller = controller_of(stage, settings)
        settled = [row for row in self.store.trials(stage.name) if row.status != "running"]
        best = next((row.told for row in rank(settled)), None)
        self.display.stage(stage.name, len(settled), stage.trials, best)

        from nas.searching.curves import Curves

        with closing(Curves(self.run, stage.name, best)) as curves:

            def show(event: Settled) -> None:
                self.display.settled(event)
                curves.settled(event)

            stopping = StoppingRule(settings.seed) if settings.early_stopping else None
            loop = SearchLoop(
                self.store,
                stage.name,
                stage.trials,
                controller,
                show,
                stopping,
                self.limits,
                isolated=settings.workers > 0,
                targets=Targets(settings.target),
                known=known,
            )
            try:
                self.engine(loop, task, make_task)
            except BaseException:
                with suppress(OSError, sqlite3.Error):  # a full disk, of which the error itself tells
                    loop.give_back()
                raise
        self.display.stage_done()
        return loop.finished

    def _known(
        self, stage: str, fingerprints: Mapping[str, str], previous: Architecture | None
    ) -> dict[str, tuple[str, Outcome]]:
        """The scores of other runs that are this stage's too.

        Raises:
            InputError: the first stage's are not; those of a later one depend on the winner before it.
        """
        known: dict[str, tuple[str, Outcome]] = {}
        for source in self.sources:
            if other := reuse.mismatch(source, stage, fingerprints):
                if previous is None:
                    raise InputError(f"the run {source.run} cannot be reused: {other}")
                self.display.say(f"Nothing is taken over from {source.run} for {stage}: {other}")
                continue
            found = source.known(stage, Targets(self.settings.target))
            self.display.say(f"{stage}: {len(found)} scores are taken over from {source.run}")
            known |= found
        return known

    def _take_settings(self) -> None:
        """Writes the settings into the run; only now, since a search that is refused must leave the run as it was."""
        record = read_record(self.run)
        if record.settings != self.settings:
            write_record(self.run, replace(record, settings=self.settings))

    def _record_fingerprints(self, stage: str, fingerprints: dict[str, str]) -> None:
        record = read_record(self.run)
        if stage in record.fingerprints:
            refuse_change(self.run, fingerprints, record.fingerprints[stage])
            return
        write_record(self.run, replace(record, fingerprints={**record.fingerprints, stage: fingerprints}))
