"""Effects, the controller, size and cost, full training and wall time. Call these inside `canvas.stylesheet`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nas.analysis.canvas import BLUE, GREEN, ORANGE, PURPLE, QUIET, RULE, SKY, VERMILLION, Plot, legend, shown
from nas.analysis.panels import (
    COMPLEXITY,
    STATUS_LOOK,
    count_trials,
    focus,
    hide_rest,
    plot_name,
    reference_lines,
    references_told,
    small_panels,
    stages_of,
)
from nas.analysis.promoted import plotted
from nas.analysis.tables import Analysis

__all__ = ["controller", "effects", "pareto", "promoted", "wall_time"]

MEASURES = {"reward": "reward in the search", **COMPLEXITY}
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def effects(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage: the effect of each option on the mean score with its 95 % interval, greatest first."""
    plots = []
    for stage, rows in stages_of(analysis, "effects"):
        found = rows.dropna(subset=["difference"]).sort_values("difference", ascending=False)
        if found.empty:
            continue
        score = found.score.iloc[0]
        scores = "final reward of the done trials" if score == "final" else f"interim score of all trials at {score}"
        caption = (
            f"Mean {scores} over the uses of each option of {stage} less the mean over the uses of other options in its"
            " place, with 95 % bootstrap intervals. Filled marks: the permutation test of the same difference is"
            " significant at 5 % after Holm's correction."
        )
        name = plot_name("effects", analysis, analyses, stage)
        plot = Plot(name, caption, 0.7 + 0.19 * len(found))
        axes = plot.axes[0]
        places = np.arange(len(found))
        axes.axvline(0.0, color=QUIET, linewidth=0.9)
        axes.hlines(places, found.low, found.high, color=BLUE, linewidth=1.4)
        faces = np.where(found.p_holm < 0.05, BLUE, "#ffffff")
        axes.scatter(found.difference, places, s=22, c=faces.tolist(), edgecolors=BLUE, linewidths=1.2, zorder=3)
        values = {n: found[n] for n in ("used", "not_used", "difference", "low", "high", "p_holm")}
        labels = [f"{shown(option)} ({shown(kind)})" for kind, option in zip(found.kind, found.option, strict=True)]
        plot.tell(axes, stage, found.difference, places, {"option": labels, **values})
        axes.set_yticks(places, labels)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel(f"difference of mean {'rewards' if score == 'final' else f'interim scores at {score}'}")
        plots.append(plot)
    return plots


def controller(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage: every diagnostic of the controller, update by update."""
    plots = []
    for stage, rows in stages_of(analysis, "controller"):
        curves = list(rows.groupby("name", sort=False))
        caption = f"What the controller ({analysis.controller}) told after each update in {stage}."
        plot = Plot(plot_name("controller", analysis, analyses, stage), caption, *small_panels(len(curves)))
        for axes, (name, found) in zip(plot.axes, curves, strict=False):
            values = {"trial": found.trial, "value": found.value}
            plot.line(axes, str(name), found.number, found.value, values, color=BLUE, linewidth=1.1)
            axes.set_title(shown(name))
            count_trials(axes)
        hide_rest(plot, len(curves))
        plots.append(plot)
    return plots


def _against(plot: Plot, axes: Axes, rows: pd.DataFrame, x: str, y: str, label: str, **look: Any) -> float:
    """Scatter of ``y`` against reward, parameters or multiply-adds; returns the unit that x is shown in."""
    unit, prefix = next(((unit, f" ({sign})") for unit, sign in UNITS if rows[x].max() >= unit), (1.0, ""))
    values = {"trial": rows.trial.astype("Int64").astype(str), y: rows[y], MEASURES[x]: rows[x]}
    plot.scatter(axes, label, rows[x] / unit, rows[y], values, **look)
    axes.set_xlabel(MEASURES[x] + prefix)
    return float(unit)


def pareto(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage: the task's own reward against size and cost, with the fronts and the targets."""
    plots = []
    for stage, rows in stages_of(analysis, "pareto"):
        measures = [measure for measure in COMPLEXITY if rows[measure].notna().any()]
        if not measures:
            continue
        caption = f"Reward against size and cost in {stage}; the line joins the Pareto front."
        plot = Plot(plot_name("pareto", analysis, analyses, stage), caption, 3.1, 1, len(measures), sharey=True)
        for axes, measure in zip(plot.axes, measures, strict=True):
            found = rows.dropna(subset=[measure])
            unit = _against(plot, axes, found, measure, "reward", "done trial", **STATUS_LOOK["done"])
            front = found[found[f"{measure}_front"].astype(bool)].sort_values([measure, "reward"])
            look: dict[str, Any] = {"color": VERMILLION, "marker": "o", "linewidth": 1.2, "drawstyle": "steps-post"}
            axes.plot(front[measure] / unit, front.reward, label="Pareto front", **look)
            if measure in analysis.targets.limits:
                axes.axvline(analysis.targets.limits[measure] / unit, color=QUIET, linestyle="--", label="target")
            held = reference_lines(plot, axes, analysis, "reward")
        plot.axes[0].set_ylabel("reward")
        plot.axes[0].legend(loc="lower right")
        plot.caption += references_told(analysis) + focus(plot.axes[0], rows.reward, held)
        plots.append(plot)
    return plots


def promoted(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per recipe: final metrics worth a plot against the search's reward, parameters and multiply-adds."""
    sizes = analysis.tables["pareto"][["trial", *COMPLEXITY]]
    rows = analysis.tables["promoted"].dropna(subset=["value", "reward"]).merge(sizes, on="trial", how="left")
    plots = []
    for recipe, found in rows.groupby("recipe", sort=False):
        every = list(found.metric.unique())
        metrics = plotted(every, analysis.plotted)
        if not metrics:
            continue
        measures = [measure for measure in MEASURES if found[measure].notna().any()]
        caption = f"Results of full training with the recipe {recipe} against what the search knew."
        if len(metrics) < len(every):
            caption += f" Figures not shown here: {len(every) - len(metrics)}; all are in tables/promoted.csv."
        name = plot_name("promotion", analysis, analyses, str(recipe))
        plot = Plot(name, caption, 0.4 + 2.2 * len(metrics), len(metrics), len(measures), sharey="row")
        panels = iter(plot.axes)
        for metric in metrics:
            results = found[found.metric == metric]
            for measure in measures:
                axes = next(panels)
                _against(plot, axes, results, measure, "value", metric, color=BLUE, s=22)
                if measure == "reward":
                    axes.set_ylabel(shown(metric))
                    axes.set_title(_correlation(analysis, recipe, metric))
        plots.append(plot)
    return plots


def _correlation(analysis: Analysis, recipe: object, metric: object) -> str:
    table = analysis.tables["correlations"]
    known = table[(table.recipe == recipe) & (table.metric == metric)].dropna(subset=["kendall"])
    return "".join(f"Kendall's τ {row.kendall:.2f}, Spearman's ρ {row.spearman:.2f}" for row in known.itertuples())


_PARTS: dict[str, dict[str, Any]] = {
    "before the stage": {"color": SKY, "hatch": "\\\\"},
    "inside trials: done": {"color": BLUE},
    "inside trials: stopped": {"color": ORANGE, "hatch": "//"},
    "inside trials: diverged": {"color": VERMILLION, "hatch": "xx"},
    "inside trials: failed": {"color": PURPLE, "hatch": ".."},
    "inside trials: duplicate": {"color": GREEN, "hatch": "--"},
    "between trials": {"color": RULE},
}


def wall_time(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Where the time went: one bar a stage, by parts."""
    table = analysis.tables["wall_time"]
    rows = table[table.part.isin(_PARTS) & (table.seconds > 0)]
    if rows.empty:
        return []
    spent = rows.pivot_table(index="stage", columns="part", values="seconds", aggfunc="sum", fill_value=0.0)
    spent = spent.reindex([stage for stage in analysis.stages if stage in spent.index])
    total = rows.seconds.sum()
    factor, unit = next(((f, u) for f, u in ((3600, "h"), (60, "min")) if total >= 2 * f), (1, "s"))
    caption = "Worker time of each stage."
    plot = Plot(plot_name("wall_time", analysis, analyses), caption, 1.1 + 0.4 * len(spent))
    axes, places = plot.axes[0], np.arange(len(spent))
    left = np.zeros(len(spent))
    for part in (part for part in _PARTS if part in spent):
        width = spent[part].to_numpy() / factor
        look = {"height": 0.55, "edgecolor": "#ffffff", "linewidth": 0.4, **_PARTS[part]}
        axes.barh(places, width, left=left, label=part, **look)
        values = {"stage": spent.index, "seconds": spent[part], "of all": spent[part] / total}
        plot.tell(axes, part, left + width / 2, places, values)
        left += width
    axes.set_yticks(places, [shown(stage) for stage in spent.index])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"worker time ({unit})")
    legend(axes)
    return [plot]
