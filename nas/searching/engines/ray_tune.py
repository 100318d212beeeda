"""The engine of ``--workers N``: trials on Ray Tune, each worker an actor that is used again for the next trial.

Ray Tune schedules, the run store remembers: Tune's own result files and snapshots are switched off or thrown away.
"""

import logging
import os
import socket
import tempfile
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from nas.searching.evaluation import Outcome, evaluate
from nas.searching.loop import SearchLoop, Trial
from proxy_tasks.task import Interim, ProxyTask
from search_spaces import InputError

try:
    import ray
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler
    from ray.tune.search import Searcher
except ImportError as error:
    raise InputError(f'--workers needs Ray Tune: pip install "ray[tune]", or use --workers 0 ({error})') from error

from nas.searching.engines.residence import sharing

__all__ = ["connected", "run"]

# Read by Ray as it starts: no telemetry, no copies of results, no notices, Ctrl-C left to us, no change of directory.
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "1000000000",
}
LIVES = 2  # a trial whose worker dies is evaluated once more


class _Worker(tune.Trainable):
    """One process that evaluates trial after trial; the task is made and prepared once."""

    def setup(
        self, config: dict[str, Any], make_task: Callable[[], ProxyTask], fingerprints: dict[str, str], threads: int
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self._broken: Exception | None = None
        self._items: Generator[Interim | Outcome, None, None] | None = None
        try:
            self._task = make_task()
            self._task.prepare(lambda what, done, total: None)
            _refuse_other_scores(self._task.fingerprints(), fingerprints)
        except InputError as error:  # no trial can run here: the driver ends the search with this error
            self._broken = error
        except Exception:
            self._broken = RuntimeError(f"a worker could not prepare its proxy task:\n{traceback.format_exc()}")
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if self._items is not None:  # of a trial that may have been stopped: frees its network
            self._items.close()
        self._items = None
        self._tokens: tuple[int, ...] = new_config["tokens"]
        return True

    def step(self) -> dict[str, Any]:
        if self._broken is not None:
            return {"item": self._broken, "done": True}
        if self._items is None:
            self._items = evaluate(self._task, self._task.space.architecture(self._tokens))
        item = next(self._items)
        return {"item": item, "done": isinstance(item, Outcome)}


def _refuse_other_scores(mine: dict[str, str], drivers: dict[str, str]) -> None:
    """Rewards of one search must come from one backbone: a worker that built another one may not score."""
    for what, value in drivers.items():
        if mine.get(what) != value:
            raise InputError(
                f"a worker on {socket.gethostname()} has another {what} than the driver (fingerprint {mine.get(what)},"
                f" the driver's is {value}); give all nodes one shared --cache-dir"
            )


class _Adapter(Searcher):
    """The search loop as Tune sees it, and the rule that a trial whose worker died is evaluated once more."""

    def __init__(self, loop: SearchLoop):
        super().__init__()
        self._loop = loop
        self._running: dict[str, Trial] = {}
        self._orphans: list[Trial] = []
        self._deaths: dict[int, int] = {}
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        if self.error is not None:
            return Searcher.FINISHED
        if self._orphans:
            trial = self._orphans.pop()
            self._loop.restart(trial)
        else:
            following = self._loop.next_trial()
            if following is None:
                return None if self._running else Searcher.FINISHED
            trial = following
        self._running[trial_id] = trial
        return {"tokens": trial.architecture.tokens}

    def goes_on(self, trial_id: str, item: Interim) -> bool:
        """Records a score along the way; where it stops the trial, the trial is settled by that."""
        if self._loop.record(self._running[trial_id], item):
            return True
        del self._running[trial_id]
        return False

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self._running:  # stopped early, and settled
            return
        trial = self._running.pop(trial_id)
        item = None if result is None else result.get("item")
        if isinstance(item, Exception):
            self.error = item
        elif isinstance(item, Outcome):
            self._loop.record(trial, item)
        elif error:
            self._deaths[trial.id] = self._deaths.get(trial.id, 0) + 1
            if self._deaths[trial.id] < LIVES:
                self._orphans.append(trial)
            else:
                self._loop.record(trial, Outcome("failed", reason="worker died twice"))

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


def run(
    loop: SearchLoop,
    make_task: Callable[[], ProxyTask],
    fingerprints: dict[str, str],
    workers: int,
    gpus_per_worker: float | None,
    device: str,
) -> None:
    """Evaluates all trials that ``loop`` has, ``workers`` at a time; needs `connected`.

    Args:
        loop: of the stage.
        make_task: picklable; every worker makes and prepares a task of its own.
        fingerprints: of the driver's task, which every worker's must equal.
        workers: processes.
        gpus_per_worker: may be a fraction; None shares the cluster's GPUs evenly where ``device`` is ``"cuda"``.
        device: where candidates are trained.

    Raises:
        InputError: the cluster lacks what the workers need, or a worker cannot prepare its task.
    """
    gpus = _gpus(workers, gpus_per_worker, device)
    adapter = _Adapter(loop)
    threads = _threads(workers)
    with (
        sharing(make_task, device) as making,
        tempfile.TemporaryDirectory(prefix="nas-search-", ignore_cleanup_errors=True) as storage,
    ):
        trainable = tune.with_parameters(_Worker, make_task=making, fingerprints=fingerprints, threads=threads)
        tune.run(
            tune.with_resources(trainable, {"cpu": threads, "gpu": gpus}),
            search_alg=adapter,
            scheduler=_Scheduler(adapter),
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


def _threads(workers: int) -> int:
    """Of torch in each worker, so that all workers together use every core once."""
    total = int(ray.cluster_resources().get("CPU", 1))
    largest = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    return max(1, min(total // workers, largest))


def _gpus(workers: int, gpus_per_worker: float | None, device: str) -> float:
    found = ray.cluster_resources()
    gpus = gpus_per_worker
    if gpus is None:
        gpus = int(min(1.0, found.get("GPU", 0) / workers) * 10_000) / 10_000 if device == "cuda" else 0.0
        if device == "cuda" and gpus == 0:
            raise InputError("device 'cuda' is asked for, but the Ray cluster has no GPU")
    for name, needed in (("CPU", workers), ("GPU", workers * gpus)):
        if needed > found.get(name, 0):
            has = found.get(name, 0)
            raise InputError(f"{workers} workers need {needed:g} {name}s, but the Ray cluster has {has:g}")
    return gpus


@contextmanager
def connected(workers: int, address: str | None) -> Iterator[None]:
    """Ray for the length of a search: a cluster at ``address``, or one of this machine's cores alone.

    A connection that the caller's program has already is used as it is and left open.

    Raises:
        InputError: no cluster answers at the address.
    """
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(workers, address)
        yield
    finally:
        if ours:
            ray.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _connect(workers: int, address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        # Ray hands out one "CPU" a worker; with more workers than cores they share.
        ray.init(address="local", num_cpus=max(workers, os.cpu_count() or 1), include_dashboard=False, **quiet)
        return
    _check_address(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray cluster answers at {address!r}: {error}") from error


def _check_address(address: str) -> None:
    """Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise InputError(f"a Ray cluster's address is auto or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at {address!r}: {error}") from error
