"""Full training in several processes by Ray Train: each has its rows of every batch (see `proxy_tasks.ranks`)."""

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Empty, Queue

from experiments.promotion import Progress, Result
from nas.errors import SearchFailed
from nas.ray_workers.cluster import connected, gpus_each, threads_each
from proxy_tasks import ranks
from proxy_tasks.task import out_of_memory
from search_spaces.registry import import_user_module

__all__ = ["connected", "train"]

RETRIES = 3
"""How often a training goes on from its last checkpoint after one of its processes has died."""

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}  # what the processes agree on beside gradients is on the CPU

Work = Callable[[Path, bool, Progress], Result]


def train(
    work: Work, folder: Path, resume: bool, say: Progress, *, workers: int, device: str, imports: Sequence[str] = ()
) -> None:
    """Does ``work`` in ``folder`` in so many processes of the cluster; needs `connected`.

    On a cluster of several machines the folder and the data lie where all of them see them, at one path.

    Args:
        work: a job's work, picklable, see `experiments.promotion.Job`; every process does it.
        folder: where everything ends up.
        resume: whether the folder may be there already.
        say: see `Progress`; called in this process.
        workers: the number of processes, each with its share of the cores and, where ``device`` is ``"cuda"``, a GPU.
        device: where they train.
        imports: the user's modules.

    Raises:
        InputError: the cluster lacks what the workers need.
        MemoryError: a process has run out of it.
        Exception: whatever ``work`` raises, but for a `RuntimeError`.
        SearchFailed: a process has died, and after `RETRIES` more starts again.
    """
    gpus_each(workers, 1.0 if device == "cuda" else 0.0, device)  # refuses what the cluster has not
    for left in range(RETRIES, -1, -1):
        ended = _once(work, folder, resume, say, workers, device, imports)
        if ended is None:
            return
        if not isinstance(ended, TrainingFailedError):
            raise ended
        if not left:
            raise SearchFailed(f"a worker died, and {RETRIES} more starts did not help: {_last_line(ended)}") from ended
        resume = True


def _once(
    work: Work, folder: Path, resume: bool, say: Progress, workers: int, device: str, imports: Sequence[str]
) -> BaseException | None:
    """One attempt; gives what ended it before its time."""
    messages = Queue(actor_options={"num_cpus": 0})
    told = {
        "work": cloudpickle.dumps((work, folder, resume)),  # what it refers to may be in the user's modules
        "imports": imports,
        "messages": messages,
        "threads": threads_each(workers),
        "device": device,
        "directory": str(Path.cwd()),
    }
    storage = folder.absolute() / ".ray"  # Ray asks for a folder that all machines see; nothing of ours is in it
    shutil.rmtree(storage, ignore_errors=True)
    trainer = TorchTrainer(
        _worker,
        train_loop_config=told,
        torch_config=TorchConfig(backend=BACKENDS[device]),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=device == "cuda"),
        run_config=RunConfig(name="training", storage_path=str(storage), failure_config=FailureConfig(max_failures=0)),
    )
    ended: list[BaseException] = []
    fitting = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
    fitting.start()  # not in this thread, which heeds Ctrl-C and shows the progress
    try:
        while fitting.is_alive() or not messages.empty():
            try:
                message = messages.get(timeout=0.5)
            except Empty:
                continue
            if isinstance(message, BaseException):
                ended.insert(0, message)
            else:
                say(*message)
    finally:
        messages.shutdown(force=True)
        shutil.rmtree(storage, ignore_errors=True)
    return ended[0] if ended else None


def _fit(trainer: TorchTrainer, ended: list[BaseException]) -> None:
    try:
        trainer.fit()
    except Exception as error:
        ended.append(error)


def _worker(told: dict[str, Any]) -> None:
    """One process: Ray Train has joined it with the others by then."""
    import torch

    torch.set_num_threads(told["threads"])
    if told["device"] == "cuda":
        torch.cuda.set_device(get_device())
    messages = told["messages"]

    def say(*what: Any) -> None:
        if ranks.is_first():
            messages.put(what)

    try:
        os.chdir(told["directory"])  # Ray's own is another: what the user named by a relative path is to be found
        for module in told["imports"]:
            import_user_module(module)
        work, folder, resume = cloudpickle.loads(told["work"])
        work(folder, resume, say)
    except Exception as error:
        if out_of_memory(error):
            messages.put(MemoryError(str(error)))
        elif not isinstance(error, RuntimeError):  # which is what a process sees whose neighbour has died
            messages.put(error)
        raise


def _last_line(error: BaseException) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
