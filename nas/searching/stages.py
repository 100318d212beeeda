"""The stages of a search, one after the other, each from the winner of the one before."""

import shlex
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import controllers
from nas.errors import Interrupted, SearchFailed
from nas.folders import full_disk_told
from nas.run.ranking import rank
from nas.run.reading import Run
from nas.run.store import RunStore
from nas.searching import kept, reuse
from nas.searching.closing import closing as closing_of
from nas.searching.confirming import confirm
from nas.searching.display import Display
from nas.searching.early_stopping import StoppingRule
from nas.searching.engines import Engine
from nas.searching.in_turn import InTurn
from nas.searching.limits import Limits
from nas.searching.loop import SearchLoop
from nas.searching.plan import Stage, task_factory
from nas.searching.references import reference_loop
from nas.searching.shared import Shared
from nas.searching.trials import Settled
from nas.settings import SearchSettings
from nas.settings.targets import Targets
from search_spaces import Architecture

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
        shared = Shared(run, settings, store, engine, display, limits, reuse.copied(store.path, settings))
        try:
            finished = _all(shared, plan) and confirm(shared)
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted; {go_on(run)}") from error
    everywhere = not settings.space.startswith("__main__:")
    display.closing(run, *closing_of(Run(run), settings.pareto), settings.workers or 1, everywhere)
    if not finished:
        display.say(f"The {settings.hours:g} hours are over before the search is; {go_on(run)} --hours H")


def _all(shared: Shared, plan: Sequence[Stage]) -> bool:
    """Whether every stage is finished; False where time is up."""
    previous: Architecture | None = None
    for position, stage in enumerate(plan):
        shared.store.add_stage(stage.name, position, stage.trials)
        if not _finished(shared, stage, previous):
            return False
        previous = _winner(shared.store, stage)
    shared.take_settings()
    return True


def _finished(shared: Shared, stage: Stage, previous: Architecture | None) -> bool:
    """Whether the stage is finished, after it was searched where the store has it unfinished."""
    store = shared.store
    if any(row.finished and row.trials >= stage.trials for row in store.stages() if row.name == stage.name):
        return True
    if shared.limits.over or not _search(shared, stage, previous):
        return False
    _winner(store, stage)
    store.finish_stage(stage.name)
    return True


def _winner(store: RunStore, stage: Stage) -> Architecture:
    """The architecture with the best reward, as it was told; raises `SearchFailed` where no trial has one."""
    rows = store.trials(stage.name)
    ranked = rank(rows)
    if not ranked:
        raise SearchFailed(
            f"none of the {len(rows)} trials of stage {stage.name} gave a reward; the last one's reason:"
            f" {rows[-1].reason}"
        )
    return stage.space.from_named(ranked[0].choices)


def _search(shared: Shared, stage: Stage, previous: Architecture | None) -> bool:
    settings, store, display = shared.settings, shared.store, shared.display
    make_task = task_factory(stage, kept.with_kept(shared.run, settings), previous, kept.folder(shared.run))
    task = shared.prepared(stage.name, make_task)
    known = shared.known(stage.name, task.fingerprints(), first=previous is None)
    store.set_trials(stage.name, stage.trials)
    # not before the trials but with them: no worker waits for the last reference, none starts twice
    first = [reference_loop(shared, task)] if previous is None else []
    controller = controller_of(stage, settings)
    settled = [row for row in store.trials(stage.name) if row.status != "running"]
    best = next((row.told for row in rank(settled)), None)
    display.stage(stage.name, len(settled), stage.trials, best)

    from nas.searching.curves import Curves

    with closing(Curves(shared.run, stage.name, best)) as curves:

        def show(event: Settled) -> None:
            display.settled(event)
            curves.settled(event)

        loop = SearchLoop(
            store,
            stage.name,
            stage.trials,
            controller,
            show,
            StoppingRule(settings.seed) if settings.early_stopping else None,
            shared.limits,
            isolated=bool(settings.workers),
            start=stage.start,
            targets=Targets(settings.target),
            known=known,
        )
        return shared.drive(InTurn(*first, loop), task, make_task)
