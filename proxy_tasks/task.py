"""The proxy task's contract: how a candidate is scored on the scaled-down task.

A task's `evaluate` is a generator, so that one definition serves every engine and any stopping rule: close it to stop
early. Nothing in it depends on which trial comes first: the same architecture gets the same score.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from search_spaces.space import Architecture, SearchSpace

__all__ = ["Diverged", "Interim", "Progress", "ProxyTask", "Score"]

Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)`` is called while a task prepares."""


class Diverged(ArithmeticError):
    """Training gave NaN or an infinity; the message says what and at which iteration."""


@dataclass(frozen=True)
class Interim:
    """A score along the way: ``reward`` after ``step`` of ``steps`` training iterations."""

    step: int
    steps: int
    reward: float


@dataclass(frozen=True)
class Score:
    """The final score.

    Args:
        reward: higher is better, of any sign.
        metrics: figures beside it, e.g. the loss's terms, ``params``, ``macs``, ``ap``.
        seconds: wall time of the evaluation.
    """

    reward: float
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@runtime_checkable
class ProxyTask(Protocol):
    """Scores the architectures of one space."""

    space: SearchSpace

    def prepare(self, progress: Progress) -> None:
        """Once per machine: fine-tunes and freezes the backbone, builds or opens the caches.

        Safe to call in several processes at once: one builds, the others wait and open what it built.
        """

    def fingerprints(self) -> dict[str, str]:
        """What the scores depend on (data, backbone, cache), for ``run.yaml``; call after `prepare`."""

    def evaluate(self, architecture: Architecture) -> Iterator[Interim | Score]:
        """Trains and scores; yields any number of `Interim` and, last, one `Score`.

        Raises:
            Diverged: the loss or a prediction is not finite.
        """
