"""What an analysis of a run holds: tables under fixed names with fixed columns, each also a CSV file.

A table has its columns even where it has no rows. ``number`` counts a stage's rows from 1, in the order of their
proposals; ``trial`` is the row's number in the store. Statuses are those of the store. Failed and diverged trials have
no reward. A stopped trial has the score it was stopped at: it counts in sampling and is shown among the rewards, but is
left out of running means, best so far and Pareto fronts, since it is no finished trial's score. Effects compare the
trials of a stage by one score, which the column ``score`` names: the final reward (``final``) where no trial of the
stage was stopped, else the interim score at the step of the earliest stop (for instance ``step 60 of 120``), which done
and stopped trials have alike; `nas.analysis.effects` says why. In a search with a target rewards are those that were
told, except where a table says otherwise. Intervals are empty (NaN) where a group is too small for them, and
``Analysis.notes`` says so.

=====================  =================================================================================================
table                  columns
=====================  =================================================================================================
statuses               stage, status, count
rewards                stage, trial, number, status, reward, running_mean (of the last up to 50 rewards of done trials
                       and duplicates), best_so_far (of done trials); every settled row, reward NaN where there is none
metrics                stage, trial, number, status, metric, value: long, finite values only; every settled row with
                       metrics, params and macs among them
proportions            stage, kind, option, count, share, expected: how often choices of the kind took the option, over
                       all rows; ``share`` of all the kind's choices, ``expected`` if every choice drew uniformly
                       (an option may be had in some of the kind's choices only)
proportions_over_time  stage, first, last, kind, option, count, share, expected: the same in windows of rows
                       ``first`` to ``last`` (numbers, inclusive)
weight_sharing         stage, first, last, count, fully_shared, share: heads of which no layer has weights per level, in
                       windows of 50 rows; empty for spaces without the choice
effects                stage, kind, option, score, used, not_used, mean_with, mean_without, difference, low, high, p,
                       p_holm: the scores at uses of the option against those at uses of other options in choices that
                       offer it (`nas.analysis.effects`); ``low`` to ``high`` is the 95 % bootstrap interval of the
                       difference of means, ``p`` the p-value of the permutation test of the same difference,
                       ``p_holm`` that corrected over the stage's options by Holm's method
effects_by_choice      stage, choice, kind, option, then as ``effects``: the scores of trials whose choice took the
                       option (``used``) against those of trials where it took another (``not_used``)
controller             stage, trial, number, name, value: the controller's diagnostics after each update
pareto                 stage, trial, number, reward (the task's own), told (what a target left of it), params, macs,
                       latency_ms, and params_front, macs_front, latency_ms_front: done trials; the three last are True
                       where no trial has a higher reward at no more parameters (multiply-adds, milliseconds)
promoted               key, recipe, status, trial, stage, reward, metric, value: long, results of full training beside
                       the reward that the search gave (trial, stage and reward missing where the run does not know
                       the key); ``recipe`` names the group of full trainings that can be compared
                       (`nas.analysis.promoted.group_of`)
correlations           recipe, metric, count, kendall, kendall_p, spearman, spearman_p: rank correlations of rewards
                       and final metrics within a group of full trainings, with p-values by permutation
references             name, key, status, reward (the task's own), told (what a target leaves of it), params, macs,
                       seconds, reason: what the winners are held against, as it was scored before the search, from its
                       seed, like the trials of the first stage
confirmed              rank, name, key, space, trials, seeds, reward, reward_deviation, loss, loss_deviation, metric,
                       metric_deviation, told, params, macs, latency_ms, reason: the contenders of the confirmation,
                       best first, as `nas.run.reading.Run.confirmed` has them; empty before it is finished
confirmed_scores       who (a reference's name, else a key), measure, seed, value: the confirmed contenders' scores,
                       higher is better
against_references     reference, measure, difference, error, chance, macs_ratio: by how much the winner is above each
                       reference, paired over the seeds, with the standard error of that mean and the chance that the
                       true one is above 0 (`nas.run.confirmed.difference`); ``macs_ratio`` is the winner's MACs over
                       the reference's
wall_time              stage, part, seconds: worker seconds; parts are "before the stage", "inside trials: STATUS",
                       "between trials" (the controller, the store, waiting, and time when the run was interrupted),
                       and "total", their sum
failures               stage, status, reason, count: diverged and failed trials; reasons that differ in numbers alone
                       count together under the first of them
=====================  =================================================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nas.run.ranking import Ranked
from nas.settings.targets import COSTS, Targets
from search_spaces import Architecture

__all__ = ["TABLES", "Analysis", "Best", "random_baseline", "table", "write_tables"]

_EFFECT = ("score", "used", "not_used", "mean_with", "mean_without", "difference", "low", "high", "p", "p_holm")
_SAMPLED = ("kind", "option", "count", "share", "expected")
TABLES: dict[str, tuple[str, ...]] = {
    "statuses": ("stage", "status", "count"),
    "rewards": ("stage", "trial", "number", "status", "reward", "running_mean", "best_so_far"),
    "metrics": ("stage", "trial", "number", "status", "metric", "value"),
    "proportions": ("stage", *_SAMPLED),
    "proportions_over_time": ("stage", "first", "last", *_SAMPLED),
    "weight_sharing": ("stage", "first", "last", "count", "fully_shared", "share"),
    "effects": ("stage", "kind", "option", *_EFFECT),
    "effects_by_choice": ("stage", "choice", "kind", "option", *_EFFECT),
    "controller": ("stage", "trial", "number", "name", "value"),
    "pareto": ("stage", "trial", "number", "reward", "told", *COSTS, *(f"{cost}_front" for cost in COSTS)),
    "promoted": ("key", "recipe", "status", "trial", "stage", "reward", "metric", "value"),
    "correlations": ("recipe", "metric", "count", "kendall", "kendall_p", "spearman", "spearman_p"),
    "references": ("name", "key", "status", "reward", "told", "params", "macs", "seconds", "reason"),
    "confirmed": (
        *("rank", "name", "key", "space", "trials", "seeds", "reward", "reward_deviation", "loss", "loss_deviation"),
        *("metric", "metric_deviation", "told", *COSTS, "reason"),
    ),
    "confirmed_scores": ("who", "measure", "seed", "value"),
    "against_references": ("reference", "measure", "difference", "error", "chance", "macs_ratio"),
    "wall_time": ("stage", "part", "seconds"),
    "failures": ("stage", "status", "reason", "count"),
}


@dataclass(frozen=True)
class Best:
    """One of the best architectures.

    Args:
        rank: its place among the best, counted from 1.
        architecture: the architecture; the whole decoder where the run has completed a progressive search.
        trials: the trials that it comes from, one, or one of each stage; its reward is that of the last.
    """

    rank: int
    architecture: Architecture
    trials: tuple[Ranked, ...]


@dataclass(frozen=True)
class Analysis:
    """The statistics of one run, as of one moment.

    Args:
        name: the run's directory, with as much of its path as tells it from the other runs analysed with it.
        path: the run's directory.
        space: the name of what is searched, as the settings have it.
        controller: the controller's name, as the settings have it.
        settings: the run in three lines.
        stages: the names of the stages begun, in order.
        best: the best architectures, at most five, best first; empty before any trial is done.
        tables: every table of `TABLES`, by name.
        notes: by the name of a table, sentences on what could not be computed and why, and on how to read it.
        plotted: the results of full training that the family of the space declares to be worth a plot.
        verdicts: a sentence for each reference on how the confirmed winner compares with it.
        targets: what an architecture of the search may cost.
    """

    name: str
    path: Path
    space: str
    controller: str
    settings: tuple[str, str, str]
    stages: tuple[str, ...]
    best: tuple[Best, ...]
    tables: Mapping[str, pd.DataFrame]
    notes: Mapping[str, str]
    plotted: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    targets: Targets = field(default_factory=Targets)


def random_baseline(analysis: Analysis, analyses: Sequence[Analysis]) -> Analysis | None:
    """The first of ``analyses`` that searched the same space at random; None for a random run itself."""
    if analysis.controller == "random":
        return None
    return next((a for a in analyses if a.controller == "random" and a.space == analysis.space), None)


def table(name: str, rows: pd.DataFrame | Sequence[Mapping[Any, object]]) -> pd.DataFrame:
    """The table of that name with these rows, numbered anew; they have a value for every column."""
    columns = list(TABLES[name])
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows, columns=None if rows else columns)
    return frame[columns].reset_index(drop=True)


def write_tables(analyses: Sequence[Analysis], out: Path) -> None:
    """Writes ``out/tables/NAME.csv`` for every table, the runs one below the other, named in the first column."""
    folder = out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in TABLES.items():
        parts = [analysis.tables[name].assign(run=analysis.name) for analysis in analyses]
        filled = [part for part in parts if not part.empty] or parts[:1]
        pd.concat(filled)[["run", *columns]].to_csv(folder / f"{name}.csv", index=False)
