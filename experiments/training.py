"""The loop of a full training: checkpoints that survive a kill at any moment, a log, and no silent NaN."""

import csv
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from proxy_tasks import ranks
from proxy_tasks.precision import reduced_products
from proxy_tasks.task import Diverged
from search_spaces import InputError
from search_spaces.files import write_whole

__all__ = ["Training", "Validation", "read_checkpoint", "run", "step"]

CHECKPOINT_FORMAT = 1
SAVE_EVERY = 60.0  # seconds between checkpoints: what a kill costs, and one step; 0 or less saves after every step
SAVE_SHARE = 0.02  # the most that they may take of the time; where they take longer there are fewer
LOG_EVERY = 10  # steps between two looks at the loss, each of which waits for the device


class Training(Protocol):
    """What is trained: ``steps`` steps, each a function of its number, the batch and the state.

    Of several processes that train together (see `proxy_tasks.ranks`) each has an instance and its rows of every
    batch.
    """

    steps: int

    @property
    def network(self) -> nn.Module:
        """What is trained, on its device."""

    @property
    def trained(self) -> nn.Module:
        """What is measured: the network, or an average of its weights."""

    def batches(self, start: int) -> Iterator[Any]:
        """The batches from step ``start`` on."""

    def loss(self, number: int, batch: Any) -> Tensor:
        """The loss, with gradients; of several processes the part of the whole batch's that is of this one's rows."""

    def update(self, number: int) -> None:
        """One step of the optimisers along the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimisers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""


@dataclass(frozen=True)
class Validation:
    """Measuring on held-out data along the way, so that the best weights can be kept.

    Args:
        every: steps between two measurements; the last step is measured too.
        measure: the figure of merit of the network as it stands, higher is better.
        keep: writes the network as it stands; called where no figure before was as high.
    """

    every: int
    measure: Callable[[], float]
    keep: Callable[[], None]


@dataclass
class _Record:
    """What a training has come to: steps done, (step, loss) and (step, validation) along the way, seconds taken."""

    step: int = 0
    log: list[tuple[int, float]] = field(default_factory=list)
    validated: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


def run(
    training: Training,
    folder: Path,
    progress: Callable[[int, int, float], None],
    validation: Validation | None = None,
    hours: float | None = None,
) -> int:
    """Trains to the end, from the last checkpoint in ``folder`` where there is one; gives the steps done.

    Writes ``checkpoint.pt`` and ``log.csv`` (step, loss), after a Ctrl-C too: it takes effect when the step is done, a
    second one at once. With a validation it writes ``validation.csv`` too.

    Args:
        training: fresh.
        folder: exists.
        progress: called with steps done, their total and the last loss.
        validation: measures along the way; None does not.
        hours: ends the training early, once it has taken so long, the time before an interruption included.

    Raises:
        Diverged: the loss is not finite.
        InputError: the checkpoint is damaged, of another training or of a newer format.
        KeyboardInterrupt: by Ctrl-C.
    """
    record = _resumed(training, folder / "checkpoint.pt")
    clock = _Clock(record.seconds, hours)
    with _interrupt_noted() as interrupted, ranks.joined():
        loss_of = _together(training)
        for done, batch in enumerate(training.batches(record.step), start=record.step + 1):
            loss = step(training, done - 1, batch, loss_of)
            record.step, late = done, clock.late()
            last = late or done == training.steps
            if last or done % LOG_EVERY == 0:
                _refuse_not_finite(loss, done, training.steps)
                record.log.append((done, float(loss)))
                progress(done, training.steps, float(loss))
            if validation and ranks.is_first() and (last or done % validation.every == 0):
                _refuse_not_finite(loss, done, training.steps)
                _validate(validation, record)
            due = last or interrupted.is_set() or clock.save_is_due()
            if due:
                _refuse_not_finite(loss, done, training.steps)
                with clock.saving():
                    record.seconds = clock.seconds()
                    _save(folder, training, record)
            if due and interrupted.is_set():  # one that came after the save waits for the next step's
                raise KeyboardInterrupt
            if last:
                break
    return record.step


class _Clock:
    """How long a training has taken, and when its next checkpoint is due.

    Args:
        before: the seconds that it had taken when it was interrupted.
        hours: how long it may take; None is for ever.
    """

    def __init__(self, before: float, hours: float | None):
        self._began = self._saved = time.monotonic()
        self._before, self._hours, self._cost = before, hours, 0.0

    def seconds(self) -> float:
        """Since the training began."""
        return self._before + time.monotonic() - self._began

    def late(self) -> bool:
        """Whether it has taken as long as it may, by the first process's clock."""
        if self._hours is None:
            return False
        here = ranks.is_first() and self.seconds() >= 3600 * self._hours
        return bool(ranks.summed(torch.tensor(float(here))))

    def save_is_due(self) -> bool:
        since = time.monotonic() - self._saved
        return since > SAVE_EVERY and (SAVE_EVERY <= 0 or self._cost <= SAVE_SHARE * since)

    @contextmanager
    def saving(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._cost = self._saved - began


def _validate(validation: Validation, record: _Record) -> None:
    merit = float(validation.measure())
    if not record.validated or merit > max(merit for _, merit in record.validated):
        validation.keep()
    record.validated.append((record.step, merit))


class _Loss(nn.Module):
    """A training's loss as a module's output, which is what DistributedDataParallel takes gradients of."""

    def __init__(self, training: Training):
        super().__init__()
        self.network, self._loss = training.network, training.loss

    def forward(self, number: int, batch: Any) -> Tensor:
        return self._loss(number, batch)


def _together(training: Training) -> Callable[[int, Any], Tensor]:
    """The training's loss, whose gradients are then the sums over all processes.

    Parameters without a gradient in some step (a phase leaves them alone, no box is in the rows) are allowed. Buffers
    need not be sent: batch norm's are the same in every process.
    """
    if ranks.count() == 1:
        return training.loss
    parallel = DistributedDataParallel(_Loss(training), find_unused_parameters=True, broadcast_buffers=False)
    return lambda number, batch: parallel(number, batch) * ranks.count()  # it takes the gradients' mean


def step(training: Training, number: int, batch: Any, loss_of: Callable[[int, Any], Tensor] | None = None) -> Tensor:
    """One step; gives the whole batch's loss, detached.

    Args:
        training: its network is changed.
        number: of the step, from 0.
        batch: that of the step, see `Training.batches`.
        loss_of: gives the loss and hands its gradients to the parameters; None is the training's own.
    """
    training.network.zero_grad(set_to_none=True)
    loss = (loss_of or training.loss)(number, batch)
    with reduced_products(loss.device):
        loss.backward()
    training.update(number)
    return ranks.summed(loss.detach()) / ranks.count()


def _refuse_not_finite(loss: Tensor, step: int, steps: int) -> None:
    if not torch.isfinite(loss):
        raise Diverged(f"the training loss is {float(loss)} at step {step} of {steps}")


def _resumed(training: Training, path: Path) -> _Record:
    """What is done, once ``training`` is where the checkpoint left it."""
    if not path.exists():
        return _Record()
    state = read_checkpoint(path)
    try:
        training.load_state_dict(state["training"])
        log, validated = (
            [(int(step), float(value)) for step, value in state.get(name, [])] for name in ("log", "validated")
        )
        return _Record(int(state["step"]), log, validated, float(state.get("seconds", 0.0)))
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


def _save(folder: Path, training: Training, record: _Record) -> None:
    if not ranks.is_first():
        return
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "training": training.state_dict(), **asdict(record)}, buffer)
    write_whole(folder / "checkpoint.pt", buffer.getvalue())
    _write_csv(folder / "log.csv", "loss", record.log)
    if record.validated:
        _write_csv(folder / "validation.csv", "validation", record.validated)


def _write_csv(path: Path, name: str, rows: list[tuple[int, float]]) -> None:
    lines = io.StringIO()
    csv.writer(lines).writerows([("step", name), *rows])
    write_whole(path, lines.getvalue().encode())


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
