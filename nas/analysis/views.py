"""The tables of an analysis as the page shows them: cells of text, each number beside the value it sorts by."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from nas.analysis.tables import Analysis
from nas.settings.targets import COSTS

__all__ = ["Cell", "Column", "View", "best_view", "view"]

LONGEST = 300  # rows that the page shows of one table
_CAPTIONS = {
    "statuses": "How the trials ended.",
    "rewards": "The trials of highest reward.",
    "proportions": "How often each option was taken.",
    "proportions_over_time": "How often each option was taken, by windows of trials.",
    "weight_sharing": "Fully weight-shared heads, by windows of trials.",
    "effects": "The effect of each option on the mean score.",
    "effects_by_choice": "The effects choice by choice.",
    "controller": "The controller's figures, update by update.",
    "pareto": "Trials on a front.",
    "promoted": "Results of full training beside the reward in the search.",
    "correlations": "Rank correlations of the reward with the results of full training.",
    "references": "The references, scored like the trials of the first stage.",
    "confirmed": "The contenders of the confirmation, with means and deviations over the seeds.",
    "confirmed_scores": "The contenders' scores, seed by seed.",
    "against_references": "The winner's scores less each reference's, paired over the seeds.",
    "wall_time": "Worker time by what it went into.",
    "failures": "Failed and diverged trials by reason.",
}
_HEADERS = {
    "low": "95 % from",
    "high": "to",
    "p_holm": "p, corrected",
    "params": "parameters",
    "macs": "multiply-adds",
    "latency_ms": "latency, ms",
    "told": "reward, told",
    "met": "target met",
    "params_front": "front, parameters",
    "macs_front": "front, multiply-adds",
    "latency_ms_front": "front, latency",
    "expected": "if uniform",
    "who": "contender",
    "error": "standard error",
    "chance": "chance of being above",
    "macs_ratio": "of its multiply-adds",
}
_SHARES = ("share", "expected")
_PROBABILITIES = ("p_holm", "kendall_p", "spearman_p")
_IN_FILES_ONLY = ["number", "mean_with", "mean_without", "p"]


@dataclass(frozen=True)
class Column:
    """A column's header, and whether it sorts by number."""

    name: str
    numeric: bool


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number it sorts by: None in columns of text, empty where there is none."""

    text: str
    value: float | str | None = None


@dataclass(frozen=True)
class View:
    """A table on the page."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def view(name: str, analysis: Analysis) -> View:
    """The table ``name`` for the page: at most 300 rows; of the rewards the highest, of ``pareto`` the fronts."""
    frame = analysis.tables[name].drop(columns=_IN_FILES_ONLY, errors="ignore")
    caption = _CAPTIONS[name]
    if name == "rewards":
        frame = frame.dropna(subset=["reward"]).sort_values("reward", ascending=False, kind="stable")
    if name == "pareto":
        frame = frame[frame[[f"{cost}_front" for cost in COSTS]].any(axis=1)].dropna(axis="columns", how="all")
    if len(frame) > LONGEST:
        caption += f" The first {LONGEST} of {len(frame)} rows; all are in tables/{name}.csv."
    if name in ("references", "confirmed"):
        frame = frame.dropna(axis="columns", how="all")
    return _view(caption, frame.head(LONGEST))


def best_view(analysis: Analysis) -> View:
    """The best architectures, one a row."""
    rows: list[Mapping[str, object]] = []
    for best in analysis.best:
        last = best.trials[-1]
        trials = " + ".join(str(trial.number) for trial in best.trials)
        sizes: dict[str, object] = {name: last.metrics.get(name, math.nan) for name in COSTS}
        if analysis.targets:
            sizes |= {"told": last.told, "met": analysis.targets.met(last.metrics)}
        rows.append({"rank": best.rank, "key": best.architecture.key, "trial": trials, "reward": last.reward, **sizes})
    frame = pd.DataFrame(rows)
    return _view("The best architectures.", frame.dropna(axis="columns", how="all"))


def _view(caption: str, frame: pd.DataFrame) -> View:
    numeric = {name: is_numeric_dtype(frame[name]) and not is_bool_dtype(frame[name]) for name in frame.columns}
    columns = [Column(_HEADERS.get(name, name.replace("_", " ")), numeric[name]) for name in frame.columns]
    cells = [_cells(name, frame[name], numeric[name]) for name in frame.columns]
    return View(caption, columns, list(zip(*cells, strict=True)))


def _cells(name: str, values: Iterable[Any], numeric: bool) -> list[Cell]:
    if numeric:
        return [Cell("", "") if pd.isna(value) else Cell(_number(name, value), float(value)) for value in values]
    return [Cell(_text(value)) for value in values]


def _number(name: str, value: Any) -> str:
    if name in _SHARES:
        return f"{value:.1%}"
    if name in _PROBABILITIES:  # what is computed from ten thousand permutations is known to that place, and never 0
        return "< 0.001" if value < 0.001 else f"{value:.2g}"
    whole = name in ("params", "macs") or float(value).is_integer()
    text = f"{value:,.0f}" if whole else f"{value:.4g}"
    return text.replace("-", "−")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if pd.isna(value) else str(value)
