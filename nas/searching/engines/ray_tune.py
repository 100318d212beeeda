"""The engine of ``--workers N``: trials on Ray Tune, each worker an actor that is used again for the next trial.

Ray Tune schedules, the run store remembers: Tune's own result files and snapshots are switched off or thrown away.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from nas.ray_workers.cluster import connected, gpus_each, ray, threads_each  # tells where Ray is missing
from nas.searching.engines.ray_worker import Worker, as_config
from nas.searching.engines.residence import sharing
from nas.searching.evaluation import Outcome
from nas.searching.in_turn import Trials
from nas.searching.trials import Trial
from proxy_tasks.task import Interim, ProxyTask

__all__ = ["connected", "run"]


@dataclass
class _Running:
    """A trial that Tune has: since when its worker evaluates it, and the time limit for which that was killed."""

    trial: Trial
    since: float | None = None
    killed_after: float | None = None


class _Adapter(Searcher):
    """A loop of trials as Tune sees it.

    Tune goes on where its searcher, scheduler or callbacks raise, so nothing is raised: the first error is kept in
    `error`, ends Tune's experiment by `_Ended` and is raised after it by `run`.
    """

    def __init__(self, loop: Trials):
        super().__init__()
        self._loop = loop
        self._running: dict[str, _Running] = {}
        self.error: Exception | None = None

    @contextmanager
    def _errors_kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error

    def suggest(self, trial_id: str) -> Any:
        """The next trial as Tune's configuration; None to wait, `Searcher.FINISHED` where nothing is left."""
        following = None
        with self._errors_kept():
            following = None if self.error else self._loop.next_trial()
        if following is None:
            return None if self._running and not self.error else Searcher.FINISHED
        self._running[trial_id] = _Running(following)
        return as_config(following)

    def begun(self, trial_id: str) -> None:
        """A worker has started, is ready, and evaluates the trial from now on."""
        self._running[trial_id].since = time.monotonic()

    def goes_on(self, trial_id: str, item: Interim) -> bool:
        """Records a score along the way; where it stops the trial, the trial is settled by that."""
        with self._errors_kept():
            if not self.error and self._loop.record(self._running[trial_id].trial, item):
                return True
        self._running.pop(trial_id, None)
        return False

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Records an outcome; a failure of the worker comes by `failed`."""
        if error or trial_id not in self._running:  # stopped early, and settled
            return
        trial = self._running.pop(trial_id).trial
        item = None if result is None else result.get("item")
        with self._errors_kept():
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Outcome) and not self.error:
                self._loop.record(trial, item)

    def failed(self, trial_id: str, cause: str) -> None:
        """The trial's worker is no more, or never came to be."""
        ended = self._running.pop(trial_id, None)
        if ended is None or self.error:
            return
        with self._errors_kept():
            if ended.killed_after is not None:
                self._loop.timed_out(ended.trial, ended.killed_after)
            elif ended.since is None:
                self._loop.not_started(ended.trial, cause)
            else:
                self._loop.lost(ended.trial)

    def overdue(self) -> list[str]:
        """The trials that take longer than the search loop allows, each named once."""
        now, late = time.monotonic(), []
        for trial_id, running in self._running.items():
            limit = self._loop.time_limit(running.trial)
            if running.since is None or running.killed_after or now - running.since < limit:
                continue
            running.killed_after = limit
            late.append(trial_id)
        return late

    def save(self, checkpoint_path: str) -> None:
        """Tune's snapshot; nothing to keep, since the run store has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a search is resumed from its run store."""
        raise NotImplementedError


class _Scheduler(FIFOScheduler):
    """Tune asks it after every score along the way whether the trial goes on; the search loop decides."""

    def __init__(self, adapter: _Adapter):
        super().__init__()
        self._adapter = adapter

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = self._adapter.goes_on(trial.trial_id, result["item"])
        return str(self.CONTINUE if goes_on else self.STOP)


class _Watch(Callback):
    """Tells the adapter what becomes of the workers, and kills those that it is to wait for no longer."""

    def __init__(self, adapter: _Adapter):
        self._adapter = adapter

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._adapter.begun(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._adapter.failed(trial.trial_id, _last_line(trial.error_file))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        late = self._adapter.overdue()
        for trial in trials if late or self._adapter.error else ():
            worker = trial.temporary_state.ray_actor
            if worker is not None and (self._adapter.error or trial.trial_id in late):
                ray.kill(worker)


def _last_line(file: str | None) -> str:
    """What an error's traceback says at its end."""
    lines = Path(file).read_text(encoding="utf-8", errors="replace").split("\n") if file else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "an unknown error")


class _Ended(Stopper):
    """Ends Tune's experiment at an error, also where trials are running."""

    def __init__(self, adapter: _Adapter):
        self._adapter = adapter

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._adapter.error is not None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes a snapshot of it, which is never read


def run(
    loop: Trials,
    make_task: Callable[[], ProxyTask],
    fingerprints: dict[str, str],
    workers: int,
    gpus_per_worker: float | None,
    device: str,
) -> None:
    """Evaluates all trials that ``loop`` has, ``workers`` at a time; needs `connected`.

    Args:
        loop: has the trials.
        make_task: picklable; every worker makes and prepares a task of its own.
        fingerprints: what the scores of the driver's task depend on, as hashes by name; every worker's must equal them.
        workers: processes.
        gpus_per_worker: may be a fraction; None shares the cluster's GPUs evenly where ``device`` is ``"cuda"``.
        device: where candidates are trained.

    Raises:
        InputError: the cluster lacks what the workers need, or a worker cannot prepare its task.
        SearchFailed: several workers in a row could not start.
        Exception: whatever recording a trial raised.
    """
    gpus = gpus_each(workers, gpus_per_worker, device)
    adapter = _Adapter(loop)
    threads = threads_each(workers)
    with (
        sharing(make_task, device) as making,
        tempfile.TemporaryDirectory(prefix="nas-search-", ignore_cleanup_errors=True) as storage,
    ):
        trainable = tune.with_parameters(Worker, make_task=making, fingerprints=fingerprints, threads=threads)
        tune.run(
            tune.with_resources(trainable, {"cpu": threads, "gpu": gpus}),
            search_alg=adapter,
            scheduler=_Scheduler(adapter),
            callbacks=[_Watch(adapter)],
            stop=_Ended(adapter),
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
            raise_on_failed_trial=False,
            trial_dirname_creator=lambda trial: trial.trial_id,
            storage_path=storage,
            verbose=0,
        )
    if adapter.error is not None:
        raise adapter.error
