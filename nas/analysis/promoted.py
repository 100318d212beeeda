"""What full training made of the rewards: results of promoted architectures, and rank correlations."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from nas.analysis.rank_correlation import rank_correlations
from nas.analysis.tables import table
from nas.run.reading import Contents, Run
from nas.run.rows import PromotionRow, scored

__all__ = ["correlations", "group_of", "plotted", "promoted"]

SMALLEST = 3  # pairs that a rank correlation needs to say anything
MOST_PLOTTED = 6  # metrics that one figure shows, one row of panels each
_COST = re.compile(r"params|(macs|ms)(_.+)?")


def group_of(promotion: PromotionRow) -> str:
    """The full trainings that a promotion is compared with: results are set beside each other within a group alone."""
    return f"{promotion.recipe} ({promotion.job[:8]})" if promotion.job else promotion.recipe


def plotted(metrics: Iterable[str], worth: Sequence[str]) -> list[str]:
    """The results of full training that are plotted: no cost, and six at most.

    Args:
        metrics: the names of the results, in the order stored.
        worth: those that the family declares to be worth a plot; without any, all but those of a single class, whose
            names have a space: ``"iou road"``.
    """
    whole = [name for name in metrics if name in worth or not (worth or " " in name or _COST.fullmatch(name))]
    return whole[:MOST_PLOTTED]


def promoted(run: Run, contents: Contents) -> pd.DataFrame:
    """The table ``promoted`` of a run."""
    known = {row.key: (row.stage, row.number, row.reward) for row in scored(contents.trials)}
    if any(promotion.key not in known for promotion in contents.promotions) and known:
        stage_of = {row.number: row.stage for row in contents.trials}
        for architecture, trials in run.best_with_trials(None, contents):
            last = trials[-1]
            known[architecture.key] = stage_of[last.number], last.number, last.reward
    rows = [row for promotion in contents.promotions for row in _rows(promotion, known)]
    return table("promoted", rows).astype({"trial": "Int64", "reward": float, "value": float})


def _rows(promotion: PromotionRow, known: Mapping[str, tuple[str, int, float | None]]) -> list[dict[str, object]]:
    stage, trial, reward = known.get(promotion.key, (None, None, math.nan))
    own = {"key": promotion.key, "recipe": group_of(promotion), "status": promotion.status}
    found = {"stage": stage, "trial": trial, "reward": reward}
    figures: list[tuple[str | None, float]] = [*promotion.metrics.items()] or [(None, math.nan)]
    return [{**own, **found, "metric": metric, "value": value} for metric, value in figures]


def correlations(results: pd.DataFrame) -> pd.DataFrame:
    """The table ``correlations`` from the table ``promoted``: Kendall's tau-b and Spearman's rho (`rank_correlations`).

    Only full trainings that are done and whose reward is known count, each among those of its own group (`group_of`).
    The figures are NaN for fewer than three trainings, and where all rewards or all values of the metric are equal.
    """
    pairs = results[results.status == "done"].dropna(subset=["reward", "value"])
    rows: list[dict[str, object]] = []
    for (recipe, metric), group in pairs.groupby(["recipe", "metric"], sort=False):
        figures: Sequence[float] = (math.nan,) * 4
        if len(group) >= SMALLEST and group.reward.nunique() > 1 and group.value.nunique() > 1:
            figures = rank_correlations(group.reward.to_numpy(), group.value.to_numpy())
        named = dict(zip(("kendall", "kendall_p", "spearman", "spearman_p"), figures, strict=True))
        rows.append({"recipe": recipe, "metric": metric, "count": len(group), **named})
    return table("correlations", rows)
