"""A search begins, or goes on: settings and data are checked, the run's directory is made and locked."""

import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from controllers.base import StartableController
from nas.folders import full_disk_told
from nas.run.directory import RunRecord, lock_run, read_record
from nas.run.making import made_run
from nas.run.reading import Run
from nas.searching import reuse
from nas.searching.confirming import confirming_task
from nas.searching.display import Display
from nas.searching.engines import engine_of
from nas.searching.limits import Limits
from nas.searching.plan import Stage, make_plan, resolve, task_factory, with_backbone
from nas.searching.resuming import check_trials, refuse_change, resumed
from nas.searching.stages import controller_of, go_on, run_stages
from nas.settings import SearchSettings
from proxy_tasks.task import ProxyTask
from search_spaces import InputError

__all__ = ["resume", "search", "start"]


def search(
    space: str = "fcos_decoder",
    data: str | Path | None = None,
    trials: int | tuple[int, ...] | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Searches ``space`` and returns the run: finished, unless the setting ``hours`` ended it before.

    Args:
        space: by name, or as ``MODULE:ATTRIBUTE``.
        data: a data set whose layout is recognised; None is the built-in shapes.
        trials: per stage, or one figure a stage; None is the preset's.
        out: the run's new directory; None is ``runs/SPACE-DATE-TIME``.
        settings: any other of `nas.settings.SearchSettings`.

    Raises:
        InputError: a bad setting or bad data; nothing is left behind.
        SearchFailed: no trial of a stage gave a reward, or the disk is full.
        Interrupted: by Ctrl-C; `resume` goes on.
    """
    return start(SearchSettings.of({"space": space, "data": data, "trials": trials, "out": out, **settings}))


def start(settings: SearchSettings) -> Run:
    """As `search`, from settings as they were given."""
    limits = _limits(settings)
    settings, advice = with_backbone(resolve(settings))
    places = _places(settings)
    taken = f"{places[0]} exists already; choose another --out, or {go_on(places[0])}"
    if settings.out is not None and places[0].exists():
        raise InputError(taken)
    plan = make_plan(settings)
    task = _checked(settings, plan)
    with Display() as display, engine_of(settings) as engine:
        if settings.workers:
            who = "worker processes run" if settings.workers > 1 else "worker process runs"
            display.say(f"{settings.workers} {who} the trials (--workers 0: this one alone)")
        if settings.data is not None:
            display.say(task.open_data().describe())
        if advice is not None:
            display.say(advice)
        with full_disk_told(places[0], "start again"), made_run(RunRecord(settings), places) as run:
            if run is None:
                raise InputError(taken)
            try:
                run_stages(run, settings, plan, engine, display, limits)
            except InputError as error:
                if Run(run).trials.empty:
                    shutil.rmtree(run)
                    raise
                raise InputError(f"{error}; then {go_on(run)}") from error
    return Run(run)


def resume(path: str | Path, **settings: Any) -> Run:
    """Goes on with the run at ``path`` and returns it: finished, unless the setting ``hours`` ended it before.

    Args:
        path: the run's directory.
        settings: those of `nas.settings.Execution` may differ from the run's, which takes them over; so may ``data``,
            where the same data lie elsewhere now.

    Raises:
        InputError: no run, another setting that differs, trials that the run cannot end with, data that have changed,
            or another process has the run.
        SearchFailed: as for `search`.
        Interrupted: as for `search`.
    """
    run = Path(path).absolute()
    record = read_record(run)
    now = resumed(run, record.settings, settings)
    limits, plan = _limits(now), make_plan(now)
    check_trials(run, plan)
    with Display() as display, engine_of(now) as engine:
        if now.data is not None:
            data = task_factory(plan[0], now, None)().open_data()
            for fingerprints in record.fingerprints.values():
                refuse_change(run, {"data": data.fingerprint}, fingerprints)
        with full_disk_told(run, go_on(run)), lock_run(run):
            run_stages(run, now, plan, engine, display, limits)
    return Run(run)


def _limits(settings: SearchSettings) -> Limits:
    """Counted from this moment."""
    if settings.hours is None:
        return Limits(trial_timeout=settings.trial_timeout)
    return Limits(time.monotonic() + 3600 * settings.hours, settings.trial_timeout)


def _places(settings: SearchSettings) -> list[Path]:
    """Where the run may be made; the default name, the moment's, others may take in the same second."""
    if settings.out is not None:
        return [Path(settings.out)]
    first = Path(f"runs/{settings.space.replace(':', '.')}-{datetime.now():%Y%m%d-%H%M%S}").absolute()
    return [first, *(first.with_name(f"{first.name}-{number}") for number in range(2, 100))]


def _checked(settings: SearchSettings, plan: tuple[Stage, ...]) -> ProxyTask:
    """The first stage's task; refuses what can be refused before anything is written.

    That is: task settings, of the whole space too where winners are confirmed, runs that are reused, controller,
    controller options.
    """
    task: ProxyTask = task_factory(plan[0], settings, None)()
    reuse.check(settings, task.open_data().fingerprint if settings.reuse and settings.data is not None else None)
    for stage in plan:
        controller = controller_of(stage, settings)
        if stage.start and not isinstance(controller, StartableController):
            raise InputError(
                f"the controller {settings.controller!r} cannot start from given architectures: it has no 'propose'"
            )
    if settings.confirmation is not None:
        confirming_task(settings)()
    return task
