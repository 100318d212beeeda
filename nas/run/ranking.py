"""A stage's trials in the order of what they are worth."""

from collections.abc import Iterable
from dataclasses import dataclass

from nas.run.rows import TrialRow, scored
from nas.settings.targets import TOLD

__all__ = ["Ranked", "rank"]


@dataclass(frozen=True)
class Ranked:
    """One of the best trials; no two share a key."""

    number: int
    key: str
    reward: float
    metrics: dict[str, float]
    choices: dict[str, str]

    @property
    def told(self) -> float:
        """What the controller was told: the reward, or with a target what is left of it."""
        return self.metrics.get(TOLD, self.reward)


def rank(rows: Iterable[TrialRow]) -> list[Ranked]:
    """The trials that have a whole score, best first by the reward that was told, of equal ones the earlier first."""
    whole = [row for row in scored(rows) if row.reward is not None]
    best = [Ranked(r.number, r.key, r.reward or 0.0, r.metrics, r.choices) for r in whole]
    return sorted(best, key=lambda row: (-row.told, row.number))
