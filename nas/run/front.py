"""The Pareto front of high reward at low cost."""

import math

import numpy as np

__all__ = ["on_front"]


def on_front(reward: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Which points are on the front.

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
