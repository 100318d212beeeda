"""One stage of a run as its statistics need it: a frame of rows and a matrix of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nas.run.store import TrialRow
from search_spaces import SearchSpace

__all__ = ["StageTrials", "stage_trials", "windows"]


@dataclass(frozen=True)
class StageTrials:
    """The rows of one stage, at least one.

    Args:
        name: of the stage.
        space: what it searches.
        frame: columns trial, number (from 1), status, reward (NaN where there is none), reason, started, seconds, and
            ``full``: whether the reward is that of a trial that was done, the row's own or the one it duplicates.
        metrics: of each row, NaN where a figure was not finite.
        tokens: int64 (rows, choices).
    """

    name: str
    space: SearchSpace
    frame: pd.DataFrame
    metrics: list[dict[str, float]]
    tokens: np.ndarray

    @property
    def done(self) -> np.ndarray:
        """bool (rows): the trials that were evaluated to their end; no two are the same network."""
        return (self.frame.status == "done").to_numpy()


def stage_trials(name: str, space: SearchSpace, rows: Sequence[TrialRow]) -> StageTrials:
    """The stage with these rows; raises `InputError` where one has a choice or an option that the space lacks."""
    own = ("trial", "status", "reward", "reason", "started", "seconds")
    frame = pd.DataFrame({column: [getattr(row, column) for row in rows] for column in own})
    frame = frame.astype({"reward": float, "seconds": float})
    frame.insert(1, "number", np.arange(1, len(rows) + 1))
    done = {row.key for row in rows if row.status == "done"}
    frame["full"] = [row.status in ("done", "duplicate") and row.key in done for row in rows]
    tokens = np.array([space.from_named(row.choices).tokens for row in rows], dtype=np.int64)
    return StageTrials(name, space, frame, [row.metrics for row in rows], tokens)


def windows(rows: int, size: int) -> list[slice]:
    """Slices of ``size`` rows one after the other, the last one shorter where ``rows`` is no multiple."""
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
