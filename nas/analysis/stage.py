"""One stage of a run as its statistics need it: a frame of rows and a matrix of tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nas.run.rows import TrialRow, scored
from search_spaces import SearchSpace

__all__ = ["StageTrials", "stage_trials", "windows"]


@dataclass(frozen=True)
class StageTrials:
    """The rows of one stage, at least one.

    Args:
        name: the stage's name.
        space: the space that the stage searches.
        frame: columns trial, number (from 1), status, reward (as it was told, NaN where there is none), own_reward
            (the task's, which a target leaves as it is), reason, started, seconds, and ``full``: whether the reward is
            that of a trial that was done, the row's own or the one it duplicates; ``scored`` as `done`.
        metrics: the figures of each row by name, NaN where a figure was not finite.
        tokens: int64 (rows, choices), the options taken.
        comparable: float (rows,), the scores by which the trials of the stage are compared with each other; NaN for
            rows that have none. Where no trial was stopped early these are the rewards of the done trials. Else they
            are the interim scores of done and stopped trials at the earliest step at which a trial was stopped, the
            last one that all of them have reached.
        score: which scores those are: ``"final"``, or for instance ``"step 60 of 120"``.
    """

    name: str
    space: SearchSpace
    frame: pd.DataFrame
    metrics: list[dict[str, float]]
    tokens: np.ndarray
    comparable: np.ndarray
    score: str

    @property
    def done(self) -> np.ndarray:
        """bool (rows): the trials that have a whole score (`nas.run.rows.scored`); no two are the same network."""
        return self.frame.scored.to_numpy()


def stage_trials(
    name: str,
    space: SearchSpace,
    rows: Sequence[TrialRow],
    interim: Mapping[int, Sequence[tuple[int, int, float]]],
) -> StageTrials:
    """The stage with these rows.

    Args:
        name: the stage's name.
        space: the space that the stage searches.
        rows: the stage's rows of the store, at least one.
        interim: the interim scores of the run by trial, each as ``(step, steps, reward)`` in the order reported.

    Raises:
        InputError: a row has a choice or an option that the space lacks.
    """
    named = {"status": "status", "reward": "told", "own_reward": "reward", "reason": "reason"}
    named |= {"started": "started", "seconds": "seconds"}
    frame = pd.DataFrame({column: [getattr(row, name) for row in rows] for column, name in named.items()})
    frame.insert(0, "trial", [row.number for row in rows])
    frame = frame.astype({"reward": float, "own_reward": float, "seconds": float})
    frame.insert(1, "number", np.arange(1, len(rows) + 1))
    whole = scored(rows)
    numbers, done = {row.number for row in whole}, {row.key for row in whole}
    frame["scored"] = [row.number in numbers for row in rows]
    frame["full"] = [row.status in ("done", "duplicate") and row.key in done for row in rows]
    tokens = np.array([space.from_named(row.choices).tokens for row in rows], dtype=np.int64)
    comparable, score = _comparable(frame, interim)
    return StageTrials(name, space, frame, [row.metrics for row in rows], tokens, comparable, score)


def _comparable(frame: pd.DataFrame, interim: Mapping[int, Sequence[tuple[int, int, float]]]) -> tuple[np.ndarray, str]:
    """`StageTrials.comparable` and `StageTrials.score`."""
    stopped = frame.trial[frame.status == "stopped"]
    if stopped.empty:
        return frame.reward.where(frame.scored).to_numpy(), "final"
    first, steps = min(interim[trial][-1][:2] for trial in stopped)
    at_first = {trial: reward for trial, scores in interim.items() for step, _, reward in scores if step == first}
    scores = frame.trial.map(at_first).where(frame.status.isin(["done", "stopped"]))
    return scores.to_numpy(dtype=float), f"step {first} of {steps}"


def windows(rows: int, size: int) -> list[slice]:
    """Slices of ``size`` rows one after the other, the last one shorter where ``rows`` is no multiple."""
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
