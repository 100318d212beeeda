"""How one trial is driven, by every engine: a proxy task's generator in, scores along the way and one outcome out."""

import math
import time
import traceback
from collections.abc import Generator, Iterator
from dataclasses import replace
from operator import index
from pathlib import Path

from nas.run.rows import Outcome
from proxy_tasks.task import Diverged, Interim, ProxyTask, Score, out_of_memory
from search_spaces import Architecture

__all__ = ["Outcome", "evaluate"]

LONGEST = 2000  # characters of a reason that are kept


def evaluate(
    task: ProxyTask, subject: Architecture | str, seed: int | None = None
) -> Generator[Interim | Outcome, None, None]:
    """Scores a subject: any number of finite `Interim`, then one `Outcome`, whatever the task raises.

    KeyboardInterrupt alone passes through; closing this generator closes the task's.

    Args:
        task: prepared.
        subject: an architecture, or the name of a reference that is none.
        seed: draws the initial weights and the batches; None is the search's.
    """
    start = time.perf_counter()
    outcome = Outcome("failed", reason="the proxy task ended without a score")
    try:
        for item in _items(task, subject, seed):
            fault = _fault(item)
            if fault is not None or isinstance(item, Score):
                outcome = fault or Outcome("done", float(item.reward), metrics=_figures(item))
                break
            seconds = time.perf_counter() - start
            yield Interim(index(item.step), index(item.steps), float(item.reward), _figures(item), seconds)
    except Diverged as error:
        outcome = Outcome("diverged", reason=_said(error))
    except Exception as error:
        outcome = _failure(error)
    yield replace(outcome, seconds=time.perf_counter() - start)


def _items(task: ProxyTask, subject: Architecture | str, seed: int | None) -> Iterator[Interim | Score]:
    if isinstance(subject, str):
        return iter([task.score_reference(subject, seed)])
    return task.evaluate(subject) if seed is None else task.evaluate(subject, seed)


def _fault(item: Interim | Score) -> Outcome | None:
    """The outcome of a trial whose score, final or along the way, is no finite number; None where it is one."""
    if not _is_number(item.reward):
        return Outcome("failed", reason=f"the proxy task's reward must be a float, got {item.reward!r}")
    for name, value in item.metrics.items():
        if not _is_number(value):
            return Outcome("failed", reason=f"the proxy task's metric {name!r} must be a number, got {value!r}")
    if not math.isfinite(item.reward):
        when = f" at step {item.step} of {item.steps}" if isinstance(item, Interim) else ""
        return Outcome("diverged", reason=f"the reward is {item.reward}{when}", metrics=_figures(item))
    return None


def _figures(item: Interim | Score) -> dict[str, float]:
    return {name: float(value) for name, value in item.metrics.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _failure(error: Exception) -> Outcome:
    if out_of_memory(error):  # it depends on what else there is in memory, not on the network alone
        return Outcome("failed", reason=f"out of memory: {_said(error)}".rstrip(": "), transient=True)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = "/".join(Path(frame.filename).parts[-2:])
    return Outcome("failed", reason=f"{type(error).__name__}: {_said(error)} ({place}:{frame.lineno})")


def _said(error: Exception) -> str:
    """The text of whatever exception, as a store can keep it: a file's name may be no Unicode text."""
    try:
        said = str(error)
    except Exception:
        said = "it does not say what"
    return said[:LONGEST].encode(errors="backslashreplace").decode()
