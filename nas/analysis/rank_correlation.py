"""Rank correlations of a few pairs, with p-values that hold for a few pairs.

Sources: Kendall 1938 (tau; ties: tau-b, 1945); Spearman 1904. The statistics are SciPy's; so are not the p-values: its
p-value of Spearman's correlation is an approximation for many pairs that gives 0 for three concordant ones.
"""

import itertools
import math
from functools import lru_cache

import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr

__all__ = ["rank_correlations"]

LARGEST_EXACT = 8  # pairs of which all 40,320 orders are gone through
PERMUTATIONS = 10_000  # of more pairs, as many random orders
CHUNK = 1 << 20  # numbers held at a time


def rank_correlations(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Kendall's tau-b, its two-sided p-value, Spearman's rho, its two-sided p-value.

    A p-value is the share of the orders of ``y`` whose correlation with ``x`` is at least as far from 0 as the observed
    one: of all orders for at most 8 pairs, else of 10,000 random orders and the observed one. It is never 0.

    Args:
        x, y: float (n,), finite, neither all equal.
    """
    orders = _orders(len(x))
    x_ranks, y_ranks = rankdata(x), rankdata(y)
    spearman = abs((y_ranks - y_ranks.mean())[orders] @ (x_ranks - x_ranks.mean()))
    x_signs, y_signs = (np.sign(values[:, None] - values) for values in (x, y))
    parts = np.array_split(orders, math.ceil(orders.size * len(x) / CHUNK))
    kendall = abs(
        np.concatenate([np.einsum("pij,ij->p", y_signs[p[:, :, None], p[:, None, :]], x_signs) for p in parts])
    )
    return (
        float(kendalltau(x, y).statistic),
        float(np.mean(kendall >= kendall[0])),  # a sum of signs: exact
        float(spearmanr(x, y).statistic),
        float(np.mean(spearman >= spearman[0] - 1e-6)),
    )


@lru_cache(maxsize=4)
def _orders(n: int) -> np.ndarray:
    """Orders of ``n`` pairs, int (orders, n), the first of them the identity."""
    if n <= LARGEST_EXACT:
        return np.array(list(itertools.permutations(range(n))))
    identity = np.arange(n)
    random = np.random.default_rng(0).permuted(np.tile(identity, (PERMUTATIONS, 1)), axis=1)
    return np.vstack([identity, random])
