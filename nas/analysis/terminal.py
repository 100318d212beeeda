"""An analysis on the terminal: settings, best architectures, failures by reason, what was sampled."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from nas.analysis.tables import Analysis
from nas.settings.targets import COSTS, cost_text

__all__ = ["show"]


def show(analysis: Analysis, console: Console) -> None:
    """Prints the settings in three lines, the best five, the failures by reason and the sampled options.

    Args:
        analysis: the analysis of one run.
        console: without markup, since names are a user's.
    """
    for line in (analysis.name, *analysis.settings):
        console.print(line, soft_wrap=True)
    if analysis.best:
        console.print(_best(analysis))
    else:
        console.print("No trial is done yet, so there is no best architecture.")
    if not analysis.tables["references"].empty:
        console.print(_references(analysis))
    if not analysis.tables["confirmed"].empty:
        console.print(_confirmed(analysis))
    for sentence in analysis.verdicts:
        console.print(sentence, soft_wrap=True)
    if "failures" in analysis.notes:
        console.print(analysis.notes["failures"])
    else:
        console.print(_failures(analysis))
    for stage in analysis.stages:
        console.print(_sampled(analysis, stage))


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right")
    return table


def _best(analysis: Analysis) -> Table:
    costs = [cost for cost in COSTS if any(cost in best.trials[-1].metrics for best in analysis.best)]
    own = ("told", "met") if analysis.targets else ()
    figures = ("rank", "reward", *own, *(COSTS[cost][0] for cost in costs), "trials")
    table = _table(f"the best {len(analysis.best)}", ("key",), figures)
    for best in analysis.best:
        last = best.trials[-1]
        told = (f"{last.told:.4f}", _met(analysis, last.metrics)) if own else ()
        sizes = [cost_text(cost, last.metrics) for cost in costs]
        trials = " + ".join(str(trial.number) for trial in best.trials)
        table.add_row(best.architecture.key, str(best.rank), f"{last.reward:.4f}", *told, *sizes, trials)
    return table


def _references(analysis: Analysis) -> Table:
    own = ("told",) if analysis.targets else ()
    figures = ("reward", *own, *(COSTS[cost][0] for cost in _SIZES))
    table = _table("references, scored like the first stage", ("name",), figures)
    for row in analysis.tables["references"].to_dict("records"):
        reward = row["status"] if math.isnan(row["reward"]) else f"{row['reward']:.4f}"
        told = (_spread(row["told"], math.nan),) if own else ()
        table.add_row(row["name"], reward, *told, *(cost_text(cost, row) for cost in _SIZES))
    return table


_SIZES = ("params", "macs")


def _confirmed(analysis: Analysis) -> Table:
    found = analysis.tables["confirmed"]
    shown = [by for by in ("reward", "loss", "metric") if found[by].notna().any()]
    costs = [cost for cost in COSTS if found[cost].notna().any()]
    own = ("told", "met") if analysis.targets else ()
    figures = ("rank", *shown, *own, *(COSTS[cost][0] for cost in costs), "trials")
    table = _table("confirmed, means ± deviations over seeds", ("key",), figures)
    for row in found.to_dict("records"):
        rank = "" if row["rank"] is pd.NA else str(row["rank"])
        scores = [_spread(row[by], row[f"{by}_deviation"]) for by in shown] if not row["reason"] else [""] * len(shown)
        told = (_spread(row["told"], math.nan), _met(analysis, row)) if own else ()
        sizes = [cost_text(cost, row) for cost in costs]
        table.add_row(row["name"] or row["key"], rank, *scores, *told, *sizes, row["trials"])
    return table


def _met(analysis: Analysis, figures: Mapping[Any, Any]) -> str:
    return "yes" if analysis.targets.met(figures) else "no"


def _spread(mean: float, deviation: float) -> str:
    return "" if math.isnan(mean) else f"{mean:.4f}" + ("" if math.isnan(deviation) else f" ± {deviation:.4f}")


def _failures(analysis: Analysis) -> Table:
    table = _table("failures by reason", ("stage", "status", "reason"), ("count",))
    for row in analysis.tables["failures"].to_dict("records"):
        table.add_row(row["stage"], row["status"], row["reason"], str(row["count"]))
    return table


def _sampled(analysis: Analysis, stage: str) -> Table:
    table = _table(f"{stage}: options sampled", ("kind", "option"), ("count", "share", "if uniform"))
    proportions = analysis.tables["proportions"]
    for row in proportions[proportions.stage == stage].to_dict("records"):
        shares = [f"{row[name]:.1%}" for name in ("share", "expected")]
        table.add_row(row["kind"], row["option"], str(row["count"]), *shares)
    return table
