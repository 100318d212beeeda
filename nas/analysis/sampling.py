"""What the controller sampled: how often each option was taken, overall and over time, and shared heads."""

import math

import numpy as np
import pandas as pd

from nas.analysis.stage import StageTrials, windows
from nas.analysis.tables import table
from search_spaces import SearchSpace

__all__ = ["proportions", "proportions_over_time", "weight_sharing"]

WINDOW = 50  # rows (thesis fig. 7.5)


def proportions(stage: StageTrials) -> pd.DataFrame:
    """The table ``proportions`` of one stage."""
    return table("proportions", _sampled(stage.space, stage.tokens).assign(stage=stage.name))


def proportions_over_time(stage: StageTrials) -> pd.DataFrame:
    """The table ``proportions_over_time`` of one stage: windows of a tenth of its rows, at most 50."""
    rows = len(stage.tokens)
    parts = [
        _sampled(stage.space, stage.tokens[window]).assign(stage=stage.name, first=window.start + 1, last=window.stop)
        for window in windows(rows, min(WINDOW, math.ceil(rows / 10)))
    ]
    return table("proportions_over_time", pd.concat(parts, ignore_index=True))


def _sampled(space: SearchSpace, tokens: np.ndarray) -> pd.DataFrame:
    """Columns kind, option, count, share, expected for int64 tokens (rows, choices)."""
    taken = [
        (choice.kind, option, count, 1 / len(choice.options))
        for choice, column in zip(space.choices, tokens.T, strict=True)
        for option, count in zip(choice.options, np.bincount(column, minlength=len(choice.options)), strict=True)
    ]
    frame = pd.DataFrame(taken, columns=["kind", "option", "count", "expected"])
    sums = frame.groupby(["kind", "option"], sort=False)[["count", "expected"]].sum().reset_index()
    of_kind = sums.groupby("kind")[["count", "expected"]].transform("sum")
    return sums.assign(share=sums["count"] / of_kind["count"], expected=sums.expected / of_kind.expected)


def weight_sharing(stage: StageTrials) -> pd.DataFrame:
    """The table ``weight_sharing`` of one stage; without rows where the space has no choice of the kind ``share``.

    Skips before the layer from which on weights are shared have none, so the canonical spelling counts.
    """
    kinds = [choice.kind for choice in stage.space.choices]
    if "share" not in kinds:
        return table("weight_sharing", [])
    share, canonical = kinds.index("share"), stage.space.canonical
    tokens = stage.tokens.tolist()
    spelt = [canonical(tuple(row)) for row in tokens] if canonical else tokens
    full = np.array([row[share] for row in spelt]) == stage.space.choices[share].token("0")
    rows = [
        {
            "stage": stage.name,
            "first": window.start + 1,
            "last": window.stop,
            "count": len(full[window]),
            "fully_shared": int(full[window].sum()),
            "share": float(full[window].mean()),
        }
        for window in windows(len(full), WINDOW)
    ]
    return table("weight_sharing", rows)
