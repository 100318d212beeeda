"""How long a search may take: a deadline for all of it, a time limit for each trial."""

import math
import time
from bisect import insort
from dataclasses import dataclass

__all__ = ["NO_LIMITS", "Limits", "TrialTimes"]

ENOUGH = 5  # trials that are done, before their median says how long one takes
GENEROUS = 20.0  # times the median: networks of one space differ, and so do the machines of a cluster
SHORTEST = 600.0  # seconds
FIRST = 6 * 3600.0  # seconds, while too few trials are done to tell: what hangs ends some time


@dataclass(frozen=True)
class Limits:
    """What the user allows.

    Args:
        deadline: on the clock of `time.monotonic`; no trial begins after it, those that have begun are finished.
        trial_timeout: seconds; None is a limit from the trials' median, see `TrialTimes`.
    """

    deadline: float = math.inf
    trial_timeout: float | None = None

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline


NO_LIMITS = Limits()


class TrialTimes:
    """The seconds that a stage's trials took, and from them the time limit of the next."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._seconds: list[float] = []

    def add(self, seconds: float) -> None:
        """A trial is done, after so many seconds."""
        insort(self._seconds, seconds)

    def limit(self) -> float:
        """Seconds that a trial may take."""
        if self._limits.trial_timeout is not None:
            return self._limits.trial_timeout
        if len(self._seconds) < ENOUGH:
            return FIRST
        return max(SHORTEST, GENEROUS * self._seconds[len(self._seconds) // 2])
