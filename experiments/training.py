"""The loop of a full training: checkpoints that survive a kill at any moment, a log, and no silent NaN."""

import csv
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from proxy_tasks.task import Diverged
from search_spaces import InputError
from search_spaces.files import write_whole

__all__ = ["Training", "read_checkpoint", "run"]

CHECKPOINT_FORMAT = 1
SAVE_EVERY = 60.0  # seconds between checkpoints: what a kill costs, and one step
LOG_EVERY = 10  # steps between two looks at the loss, each of which waits for the device


class Training(Protocol):
    """What is trained: ``steps`` steps, each a function of its number, the batch and the state."""

    steps: int

    def batches(self, start: int) -> Iterator[Any]:
        """The batches from step ``start`` on."""

    def step(self, number: int, batch: Any) -> Tensor:
        """One step of the optimisers; gives the loss, detached."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimisers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""


def run(training: Training, folder: Path, progress: Callable[[int, int, float], None]) -> None:
    """Trains to the end, from the last checkpoint in ``folder`` where there is one.

    Writes ``checkpoint.pt`` and ``log.csv`` (step, loss), after a Ctrl-C too: it takes effect when the step is done, a
    second one at once.

    Args:
        training: fresh.
        folder: exists.
        progress: called with steps done, their total and the last loss.

    Raises:
        Diverged: the loss is not finite.
        InputError: the checkpoint is damaged, of another training or of a newer format.
        KeyboardInterrupt: by Ctrl-C.
    """
    start, log = _resumed(training, folder / "checkpoint.pt")
    saved = time.monotonic()
    with _interrupt_noted() as interrupted:
        for done, batch in enumerate(training.batches(start), start=start + 1):
            loss = training.step(done - 1, batch)
            last = done == training.steps
            if last or done % LOG_EVERY == 0:
                _refuse_not_finite(loss, done, training.steps)
                log.append((done, float(loss)))
                progress(done, training.steps, float(loss))
            due = last or interrupted.is_set() or time.monotonic() - saved > SAVE_EVERY
            if due:
                _refuse_not_finite(loss, done, training.steps)
                _save(folder, done, training, log)
                saved = time.monotonic()
            if due and interrupted.is_set():  # one that came after the save waits for the next step's
                raise KeyboardInterrupt


def _refuse_not_finite(loss: Tensor, step: int, steps: int) -> None:
    if not torch.isfinite(loss):
        raise Diverged(f"the training loss is {float(loss)} at step {step} of {steps}")


def _resumed(training: Training, path: Path) -> tuple[int, list[tuple[int, float]]]:
    """The steps done and their log, once ``training`` is where the checkpoint left it."""
    if not path.exists():
        return 0, []
    state = read_checkpoint(path)
    try:
        training.load_state_dict(state["training"])
        return int(state["step"]), [(int(step), float(loss)) for step, loss in state["log"]]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the checkpoint {path} is of another training: {str(error).splitlines()[0]}") from error


@contextmanager
def _interrupt_noted() -> Iterator[threading.Event]:
    """The first Ctrl-C only sets the event."""
    noted = threading.Event()
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in a script's background job
    if ignored or threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield noted
        return

    def note(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        noted.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _save(folder: Path, step: int, training: Training, log: list[tuple[int, float]]) -> None:
    buffer = io.BytesIO()
    content = {"format": CHECKPOINT_FORMAT, "step": step, "training": training.state_dict(), "log": log}
    torch.save(content, buffer)
    write_whole(folder / "checkpoint.pt", buffer.getvalue())
    lines = io.StringIO()
    csv.writer(lines).writerows([("step", "loss"), *log])
    write_whole(folder / "log.csv", lines.getvalue().encode())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, tensors on the CPU; raises `InputError` where it cannot be read."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises nearly anything on a damaged file
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"the checkpoint {path} cannot be read: {reason}") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise InputError(f"{path} is no checkpoint: it has no format")
    if content["format"] > CHECKPOINT_FORMAT:
        raise InputError(
            f"the checkpoint {path} is of format {content['format']}, newer than this version reads"
            f" ({CHECKPOINT_FORMAT})"
        )
    return content
