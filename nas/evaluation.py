"""How one trial is driven, by every engine: a proxy task's generator in, scores along the way and one outcome out."""

import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from proxy_tasks.task import Diverged, Interim, ProxyTask, Score
from search_spaces import Architecture

__all__ = ["Outcome", "evaluate"]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        status: ``"done"``, ``"stopped"``, ``"diverged"`` or ``"failed"``.
        reward: finite; None where the trial is not done.
        reason: why there is no reward.
        metrics: the score's figures.
        seconds: wall time of the evaluation.
    """

    status: str
    reward: float | None = None
    reason: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def evaluate(task: ProxyTask, architecture: Architecture) -> Iterator[Interim | Outcome]:
    """Scores ``architecture``: any number of `Interim`, then one `Outcome`, whatever the task raises.

    KeyboardInterrupt alone passes through; closing this generator closes the task's.
    """
    start = time.perf_counter()
    outcome = Outcome("failed", reason="the proxy task ended without a score")
    try:
        for item in task.evaluate(architecture):
            if isinstance(item, Score):
                outcome = _scored(item)
                break
            yield item
    except Diverged as error:
        outcome = Outcome("diverged", reason=str(error))
    except Exception as error:
        outcome = Outcome("failed", reason=_reason(error))
    yield Outcome(outcome.status, outcome.reward, outcome.reason, outcome.metrics, time.perf_counter() - start)


def _scored(score: Score) -> Outcome:
    if not _is_number(score.reward):
        return Outcome("failed", reason=f"the proxy task's reward must be a float, got {score.reward!r}")
    for name, value in score.metrics.items():
        if not _is_number(value):
            return Outcome("failed", reason=f"the proxy task's metric {name!r} must be a number, got {value!r}")
    metrics = {name: float(value) for name, value in score.metrics.items()}
    if not math.isfinite(score.reward):
        return Outcome("diverged", reason=f"the reward is {score.reward}", metrics=metrics)
    return Outcome("done", float(score.reward), metrics=metrics)


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _reason(error: Exception) -> str:
    # torch reports an exhausted host as a plain RuntimeError of its CPU allocator.
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    if exhausted:
        return f"out of memory: {error}".rstrip(": ")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = "/".join(Path(frame.filename).parts[-2:])
    return f"{type(error).__name__}: {error} ({place}:{frame.lineno})"
