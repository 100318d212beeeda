"""One worker process of a search on Ray Tune."""

import socket
from collections.abc import Callable, Generator
from typing import Any

from ray import tune

from nas.searching.evaluation import Outcome, evaluate
from nas.searching.trials import Trial
from proxy_tasks.task import Interim, ProxyTask
from search_spaces import SPACES, Architecture, InputError, SearchSpace

__all__ = ["Worker", "as_config"]


def as_config(trial: Trial) -> dict[str, Any]:
    """A trial as Tune's configuration: plain values, of which a worker makes what it is to evaluate."""
    if isinstance(trial.subject, str):
        return {"reference": trial.subject, "seed": trial.seed}
    return {"space": trial.subject.space.name, "tokens": trial.subject.tokens, "seed": trial.seed}


class Worker(tune.Trainable):
    """One process that evaluates trial after trial; the task is made and prepared once."""

    def setup(
        self, config: dict[str, Any], make_task: Callable[[], ProxyTask], fingerprints: dict[str, str], threads: int
    ) -> None:
        """Makes and prepares the task; Tune calls it once, as the process starts.

        What it raises is told to the driver as a worker that could not start.
        """
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
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial."""
        if self._items is not None:  # of a trial that may have been stopped: frees its network
            self._items.close()
        self._items = None
        self._trial = new_config
        return True

    def step(self) -> dict[str, Any]:
        """What the trial yields next."""
        if self._broken is not None:
            return {"item": self._broken, "done": True}
        if self._items is None:
            self._items = evaluate(self._task, self._subject(), self._trial["seed"])
        item = next(self._items)
        return {"item": item, "done": isinstance(item, Outcome)}

    def _subject(self) -> Architecture | str:
        """What `as_config` was given; the task's own spaces need not be registered."""
        if "reference" in self._trial:
            return str(self._trial["reference"])
        name, own = self._trial["space"], self._task.space
        space: SearchSpace = {space.name: space for space in (*own.stages, own)}.get(name) or SPACES.get(name)
        return space.architecture(self._trial["tokens"])


def _refuse_other_scores(mine: dict[str, str], drivers: dict[str, str]) -> None:
    """Rewards of one search must come from one backbone: a worker that built another one may not score."""
    for what, value in drivers.items():
        if mine.get(what) != value:
            raise InputError(
                f"a worker on {socket.gethostname()} has another {what} than the driver (fingerprint {mine.get(what)},"
                f" the driver's is {value}); give all nodes one shared --cache-dir"
            )
