"""Early stopping: a trial that does worse than most at the same point of its training ends there.

Ranks are compared, never rewards: only the order of the rewards at one step counts, whatever their sign and scale.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from proxy_tasks.task import Interim

__all__ = ["InterimRanks", "StoppingRule"]


class InterimRanks:
    """The interim scores of a stage, in order at each step: a rank among them costs no look at each.

    Args:
        scores: steps and rewards that there are already.
    """

    def __init__(self, scores: Iterable[tuple[int, float]] = ()):
        self._ordered: defaultdict[int, list[float]] = defaultdict(list)
        for step, reward in sorted(scores):
            self._ordered[step].append(reward)

    def add(self, step: int, reward: float) -> None:
        """One more."""
        insort(self._ordered[step], reward)

    def standing(self, step: int, reward: float) -> tuple[int, int]:
        """How many scores there are at ``step``, and how many of them are better than ``reward``."""
        ordered = self._ordered[step]
        return len(ordered), len(ordered) - bisect_right(ordered, reward)


@dataclass(frozen=True)
class StoppingRule:
    """When a trial is stopped: more than half of the earlier trials were better at the same step.

    That is the idea of the median stopping rule (Golovin et al., Google Vizier, KDD 2017, sec. 3.2.2) at one step. Why
    half: asked halfway through the training it saves about a quarter of it all, and a trial that would end among the
    best must first lose half of the ranks to noise. Equal rewards never stop each other.

    Args:
        seed: the search's seed; with a trial's number it draws for ``chance``.
        better_share: a trial goes on while no larger share of the earlier trials is better.
        earlier_trials: with fewer interim scores at the step nothing is stopped, since a rank among few says little.
        chance: the probability that a trial that would be stopped goes on all the same, so that whether early ranks
            foretell late ones can be seen in the run.
    """

    seed: int
    better_share: float = 0.5
    earlier_trials: int = 8
    chance: float = 0.1

    def reason_to_stop(self, trial: int, item: Interim, earlier: int, better: int) -> str | None:
        """Why the trial is stopped, with its rank (1 is the best), or None where it goes on.

        Args:
            trial: its number; with the search's seed it decides the chance, so a resumed search decides the same.
            item: its interim score, finite.
            earlier: how many interim scores the stage's other trials have at the same step.
            better: how many of those are greater than this one.
        """
        if earlier < self.earlier_trials or better <= self.better_share * earlier:
            return None
        if np.random.default_rng([self.seed, trial]).random() < self.chance:
            return None
        return f"stopped after step {item.step} of {item.steps}: rank {better + 1} of {earlier + 1}"
