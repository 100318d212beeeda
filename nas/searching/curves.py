"""The run's curves for TensorBoard: reward, best so far, and what the controller says of its updates."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nas.searching.trials import Settled

__all__ = ["Curves"]


class Curves:
    """Writes the scalars of one stage to ``RUN/tensorboard``; the step is the trial's number.

    The reward is what the controller is told, of a trial stopped early its interim score; the best is of done trials.

    Args:
        run: the run's directory.
        stage: prefix of the curves' names.
        best: reward so far, where a run goes on.
    """

    def __init__(self, run: Path, stage: str, best: float | None):
        self._writer = SummaryWriter(str(run / "tensorboard"))
        self._stage, self._best = stage, best

    def settled(self, event: Settled) -> None:
        """One trial's point on each curve."""
        step = event.trial.id
        if event.reward is not None:
            self._writer.add_scalar(f"{self._stage}/reward", event.reward, step)
            if event.status == "done" or event.reused:
                self._best = event.reward if self._best is None else max(self._best, event.reward)
            if self._best is not None:
                self._writer.add_scalar(f"{self._stage}/best", self._best, step)
        for name, value in event.diagnostics.items():
            self._writer.add_scalar(f"{self._stage}/controller/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()
