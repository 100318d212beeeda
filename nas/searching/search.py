"""One search from settings to run: checks, the run's directory, the stages one after the other."""

import errno
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import controllers
from nas.errors import Interrupted, SearchFailed
from nas.run.directory import RunRecord, lock_run, read_record, write_record
from nas.run.reading import Run, rank
from nas.run.store import RunStore
from nas.searching.display import Display
from nas.searching.early_stopping import StoppingRule
from nas.searching.engines import in_process
from nas.searching.kept import keep
from nas.searching.loop import SearchLoop, Settled
from nas.searching.plan import Stage, make_plan, resolve, task_factory
from nas.settings import SearchSettings
from proxy_tasks.task import Diverged, ProxyTask
from search_spaces import Architecture, InputError

__all__ = ["resume", "search", "start"]

FULL = (errno.ENOSPC, errno.EDQUOT)
Engine = Callable[[SearchLoop, ProxyTask, Callable[[], ProxyTask]], None]


def search(
    space: str = "fcos_decoder",
    data: str | Path | None = None,
    trials: int | tuple[int, ...] | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Searches ``space`` and returns the finished run.

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
    settings = resolve(settings)
    run = Path(settings.out or _default_out(settings)).absolute()
    if run.exists():
        raise InputError(
            f"{run} exists already; choose another --out, or go on with nas-search --resume {_quoted(run)}"
        )
    plan = make_plan(settings)
    task = _checked(settings, plan)
    with Display() as display, _engine(settings) as engine:
        if settings.data is not None:
            display.say(task.open_data().describe())
        _make_run(run, RunRecord(settings))
        try:
            _run_all(run, plan, engine, display)
        except InputError as error:
            if Run(run).trials.empty:
                shutil.rmtree(run)
                raise
            raise InputError(f"{error}; then go on with nas-search --resume {_quoted(run)}") from error
    return Run(run)


def resume(path: str | Path, **settings: Any) -> Run:
    """Goes on with the run at ``path``, with its own settings, and returns it finished.

    Args:
        path: the run's directory.
        settings: need not be given; one that differs from the run's is refused.

    Raises:
        InputError: no run, a setting that differs, data that have changed, or another process has the run.
        SearchFailed: as for `search`.
        Interrupted: as for `search`.
    """
    run = Path(path).absolute()
    record = read_record(run)
    _refuse_other_settings(run, record.settings, settings)
    plan = make_plan(record.settings)
    with Display() as display, _engine(record.settings) as engine:
        if record.settings.data is not None:
            data = task_factory(plan[0], record.settings, None)().open_data()
            for fingerprints in record.fingerprints.values():
                _refuse_change(run, {"data": data.fingerprint}, fingerprints)
        _run_all(run, plan, engine, display)
    return Run(run)


def _refuse_other_settings(run: Path, mine: SearchSettings, given: dict[str, Any]) -> None:
    SearchSettings.of(given)
    other = resolve(mine.changed(**given))
    for name in (item.name for item in fields(mine)):
        if getattr(mine, name) != getattr(other, name):
            raise InputError(
                f"the run {run} has {name} = {getattr(mine, name)!r}, but {getattr(other, name)!r} is asked for;"
                " --resume goes on with a run's own settings and needs no others"
            )


def _refuse_change(run: Path, now: dict[str, str], recorded: dict[str, str]) -> None:
    for what in sorted(now.keys() & recorded.keys()):
        if now[what] != recorded[what]:
            raise InputError(
                f"the {what} of the run {run} changed since it began: its fingerprint is {now[what]}, was"
                f" {recorded[what]}; start a new run"
            )


def _default_out(settings: SearchSettings) -> str:
    return f"runs/{settings.space.replace(':', '.')}-{datetime.now():%Y%m%d-%H%M%S}"


def _quoted(run: Path) -> str:
    return shlex.quote(str(run))


def _checked(settings: SearchSettings, plan: tuple[Stage, ...]) -> ProxyTask:
    """The first stage's task; refuses what can be refused before anything is written.

    That is: task settings, controller, controller options.
    """
    task: ProxyTask = task_factory(plan[0], settings, None)()
    for stage in plan:
        _controller(stage, settings)
    return task


def _controller(stage: Stage, settings: SearchSettings) -> Any:
    return controllers.make(settings.controller, stage.space, seed=settings.seed, **settings.controller_options)


@contextmanager
def _engine(settings: SearchSettings) -> Iterator[Engine]:
    if settings.workers == 0:
        yield lambda loop, task, make_task: in_process.run(loop, task)
        return
    from nas.searching.engines import ray_tune

    workers, gpus, device = settings.workers, settings.gpus_per_worker, settings.device
    with ray_tune.connected(workers, settings.ray_address):
        yield lambda loop, task, make_task: ray_tune.run(loop, make_task, task.fingerprints(), workers, gpus, device)


def _make_run(run: Path, record: RunRecord) -> None:
    """The directory with ``run.yaml`` and an empty store; all of it or nothing, whatever dies in between."""
    partial = run.with_name(f".{run.name}.{os.getpid()}.partial")
    with _full_disk_told(run, "start again"):
        try:
            partial.mkdir(parents=True)
            write_record(partial, record)
            RunStore(partial / "trials.db", create=True).close()
            partial.rename(run)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if not isinstance(error, OSError) or error.errno in FULL:
                raise
            raise InputError(f"cannot make the run directory {run}: {error.strerror}") from error


@contextmanager
def _full_disk_told(run: Path, then: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise SearchFailed(f"the disk is full ({error.filename or run}); free some space, then {then}") from error


def _run_all(run: Path, plan: tuple[Stage, ...], engine: Engine, display: Display) -> None:
    again = f"go on with nas-search --resume {_quoted(run)}"
    with _full_disk_told(run, again), lock_run(run), closing(RunStore(run / "trials.db")) as store:
        shared = _Search(run, store, engine, display)
        winners: list[Architecture] = []
        try:
            for position, stage in enumerate(plan):
                store.add_stage(stage.name, position, stage.trials)
                winners.append(shared.stage(stage, winners[-1] if winners else None))
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted; {again}") from error
    tables = {stage: ranked[:5] for stage, ranked in Run(run).ranked().items()}
    display.closing(run, tables, read_record(run).settings.workers)


@dataclass
class _Search:
    """What all stages of one search share."""

    run: Path
    store: RunStore
    engine: Engine
    display: Display

    def stage(self, stage: Stage, previous: Architecture | None) -> Architecture:
        """The stage's winner, searched for unless the store has the finished stage."""
        if not any(row.finished for row in self.store.stages() if row.stage == stage.name):
            self._search(stage, previous)
        rows = self.store.trials(stage.name)
        ranked = rank(rows)
        if not ranked:
            raise SearchFailed(
                f"none of the {len(rows)} trials of stage {stage.name} gave a reward; the last one's reason:"
                f" {rows[-1].reason}"
            )
        self.store.finish_stage(stage.name)
        return stage.space.from_named(ranked[0].choices)

    def _search(self, stage: Stage, previous: Architecture | None) -> None:
        settings = read_record(self.run).settings
        make_task = task_factory(stage, settings, previous)
        task = make_task()
        try:
            task.prepare(self.display.preparing)
        except Diverged as error:
            raise InputError(
                f"stage {stage.name} cannot be prepared: {error}; lower its learning rates by --set"
            ) from error
        self._record_fingerprints(stage.name, task.fingerprints())
        keep(self.run, task)
        controller = _controller(stage, settings)
        settled = [row for row in self.store.trials(stage.name) if row.status != "running"]
        best = next((row.reward for row in rank(settled)), None)
        self.display.stage(stage.name, len(settled), stage.trials, best)

        from nas.searching.curves import Curves

        with closing(Curves(self.run, stage.name, best)) as curves:

            def show(event: Settled) -> None:
                self.display.settled(event)
                curves.settled(event)

            stopping = StoppingRule(settings.seed) if settings.early_stopping else None
            loop = SearchLoop(self.store, stage.name, stage.trials, controller, show, stopping)
            self.engine(loop, task, make_task)
        self.display.stage_done()

    def _record_fingerprints(self, stage: str, fingerprints: dict[str, str]) -> None:
        record = read_record(self.run)
        if stage in record.fingerprints:
            _refuse_change(self.run, fingerprints, record.fingerprints[stage])
            return
        write_record(self.run, replace(record, fingerprints={**record.fingerprints, stage: fingerprints}))
