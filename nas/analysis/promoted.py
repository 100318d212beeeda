"""What full training made of the rewards: results of promoted architectures, and rank correlations."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from scipy.stats import kendalltau, spearmanr

from nas.analysis.tables import table
from nas.run.reading import Contents, Run
from nas.run.store import PromotionRow

__all__ = ["correlations", "promoted"]

SMALLEST = 3  # pairs that a rank correlation needs to say anything


def promoted(run: Run, contents: Contents) -> pd.DataFrame:
    """The table ``promoted`` of a run."""
    known = {row.key: (row.stage, row.trial, row.reward) for row in contents.trials if row.status == "done"}
    if any(promotion.key not in known for promotion in contents.promotions) and known:
        stage_of = {row.trial: row.stage for row in contents.trials}
        for architecture, trials in run.best_with_trials(None, contents):
            last = trials[-1]
            known[architecture.key] = stage_of[last.trial], last.trial, last.reward
    rows = [row for promotion in contents.promotions for row in _rows(promotion, known)]
    return table("promoted", rows).astype({"trial": "Int64", "reward": float, "value": float})


def _rows(promotion: PromotionRow, known: Mapping[str, tuple[str, int, float | None]]) -> list[dict[str, object]]:
    stage, trial, reward = known.get(promotion.key, (None, None, math.nan))
    own = {"key": promotion.key, "recipe": promotion.recipe, "status": promotion.status}
    found = {"stage": stage, "trial": trial, "reward": reward}
    figures: list[tuple[str | None, float]] = [*promotion.metrics.items()] or [(None, math.nan)]
    return [{**own, **found, "metric": metric, "value": value} for metric, value in figures]


def correlations(results: pd.DataFrame) -> pd.DataFrame:
    """The table ``correlations`` from the table ``promoted``: Kendall's tau-b and Spearman's rho, by SciPy.

    Only full trainings that are done and whose reward is known count; NaN for fewer than three of them, and where all
    rewards or all metrics are equal.
    """
    pairs = results[results.status == "done"].dropna(subset=["reward", "value"])
    rows: list[dict[str, object]] = []
    for (recipe, metric), group in pairs.groupby(["recipe", "metric"], sort=False):
        figures: Sequence[float] = (math.nan,) * 4
        if len(group) >= SMALLEST and group.reward.nunique() > 1 and group.value.nunique() > 1:
            figures = (*kendalltau(group.reward, group.value), *spearmanr(group.reward, group.value))
        named = dict(zip(("kendall", "kendall_p", "spearman", "spearman_p"), map(float, figures), strict=True))
        rows.append({"recipe": recipe, "metric": metric, "count": len(group), **named})
    return table("correlations", rows)
