"""The run's curves for TensorBoard: reward, best so far, and what the controller says of its updates."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from controllers.base import Controller
from nas.search_loop import Settled

__all__ = ["Curves"]


class Curves:
    """Writes the scalars of one stage to ``RUN/tensorboard``; the step is the trial's number.

    Args:
        run: the run's directory.
        stage: prefix of the curves' names.
        controller: asked for its diagnostics after each trial; written when they change.
        best: reward so far, where a run goes on.
    """

    def __init__(self, run: Path, stage: str, controller: Controller, best: float | None):
        self._writer = SummaryWriter(str(run / "tensorboard"))
        self._stage, self._controller, self._best = stage, controller, best
        self._diagnostics = controller.diagnostics()

    def settled(self, event: Settled) -> None:
        """One trial's point on each curve."""
        step = event.trial.id
        if event.reward is not None:
            self._best = event.reward if self._best is None else max(self._best, event.reward)
            self._writer.add_scalar(f"{self._stage}/reward", event.reward, step)
            self._writer.add_scalar(f"{self._stage}/best", self._best, step)
        diagnostics = self._controller.diagnostics()
        if diagnostics != self._diagnostics:
            self._diagnostics = diagnostics
            for name, value in diagnostics.items():
                self._writer.add_scalar(f"{self._stage}/controller/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()
