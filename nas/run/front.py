"""What a run found at every cost: the Pareto front of high reward at low cost."""

import math
from typing import TYPE_CHECKING

import numpy as np

from nas.run.reading import Contents, Ranked, Run
from nas.settings.targets import COSTS
from search_spaces import Architecture, InputError

if TYPE_CHECKING:
    import pandas

__all__ = ["front", "front_with_trials", "on_front"]


def front(run: Run, cost: str = "macs") -> "pandas.DataFrame":
    """The architectures of which no other is at least as good and as cheap, and better or cheaper.

    Of the trials of the last finished stage, as `Run.by_rewards` has them, by the task's own reward: a target does not
    bend the front, and confirmed means, which are measured otherwise, are not on it.

    Args:
        run: finished or not.
        cost: ``"params"``, ``"macs"`` or ``"latency_ms"``.

    Returns:
        rank (1 has the highest reward), trial, reward, the costs that are known, key, and architecture.

    Raises:
        InputError: there is no such cost, no trial is done yet, or none that is has that cost.
    """
    import pandas

    found = front_with_trials(run, cost)
    known = [name for name in COSTS if any(name in trials[-1].metrics for _, trials in found)]
    rows = []
    for rank, (architecture, trials) in enumerate(found, 1):
        last = trials[-1]
        costs = {name: last.metrics.get(name, math.nan) for name in known}
        own = {"rank": rank, "trial": last.number, "reward": last.reward, **costs}
        rows.append({**own, "key": architecture.key, "architecture": architecture})
    return pandas.DataFrame(rows)


def front_with_trials(
    run: Run, cost: str = "macs", contents: Contents | None = None
) -> list[tuple[Architecture, list[Ranked]]]:
    """As `front`, each architecture with the trials that it comes from; see `Run.by_rewards`."""
    if cost not in COSTS:
        raise InputError(f"there is no cost {cost!r} to draw a front against; known: {', '.join(COSTS)}")
    found = run.by_rewards(None, contents)
    rewards = np.array([trials[-1].reward for _, trials in found])
    costs = np.array([trials[-1].metrics.get(cost, math.nan) for _, trials in found])
    chosen = [found[i] for i in np.flatnonzero(on_front(rewards, costs))]
    if not chosen:
        raise InputError(f"no trial that is done in the run {run.path} has {cost} among its metrics")
    return sorted(chosen, key=lambda item: (-item[1][-1].reward, item[1][-1].number))


def on_front(reward: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The Pareto front of high reward at low cost.

    Args:
        reward: float (n,), finite.
        cost: float (n,); a NaN is on no front.

    Returns:
        bool (n,): whether no other point is at least as good in both and better in one.
    """
    front = np.zeros(len(reward), dtype=bool)
    last = (-math.inf, math.nan)
    for i in np.lexsort((-reward, cost)):
        point = (reward[i], cost[i])
        if not math.isnan(cost[i]) and (reward[i] > last[0] or point == last):
            front[i] = True
            last = point
    return front
