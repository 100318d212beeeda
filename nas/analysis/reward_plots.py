"""Rewards and metrics trial by trial, and several runs over each other. Call these inside `canvas.stylesheet`."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from nas.analysis.canvas import GREEN, INK, QUIET, VERMILLION, Plot, legend, shown, style
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
from nas.analysis.tables import Analysis, random_baseline

__all__ = ["metrics", "overlay", "rewards"]

RUNNING = 50  # values that the running mean of a metric is of, as that of the rewards


def rewards(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage: rewards by trial, running mean, best so far and the random baseline's mean (thesis fig. 7.2)."""
    plots = []
    random = random_baseline(analysis, analyses)
    baselines = dict(stages_of(random, "rewards")) if random else {}
    for stage, rows in stages_of(analysis, "rewards"):
        scored = rows.dropna(subset=["reward"])
        if scored.empty:
            continue
        plot = Plot(plot_name("reward", analysis, analyses, stage), f"Reward of every trial of {stage}.", 3.3)
        axes = plot.axes[0]
        for status, found in scored.groupby("status"):
            values = {"trial": found.trial, "reward": found.reward}
            look = STATUS_LOOK.get(str(status), {"color": QUIET})
            plot.scatter(axes, str(status), found.number, found.reward, values, **look)
        _running_mean(plot, axes, rows, "running mean of 50", color=VERMILLION)
        _best_so_far(plot, axes, rows)
        if stage in baselines:
            _running_mean(plot, axes, baselines[stage], "random search, mean", color=GREEN, linestyle="--")
        held = reference_lines(plot, axes, analysis)
        plot.caption += references_told(analysis) + focus(axes, scored.reward, held)
        axes.set_ylabel("reward")
        count_trials(axes)
        legend(axes)
        plots.append(plot)
    return plots


def _running_mean(plot: Plot, axes: Axes, rows: pd.DataFrame, label: str, **look: str) -> None:
    done = rows.dropna(subset=["running_mean"])
    values = {"trial": done.trial, "running mean": done.running_mean}
    plot.line(axes, label, done.number, done.running_mean, values, **look)


def _best_so_far(plot: Plot, axes: Axes, rows: pd.DataFrame) -> None:
    steps = rows.dropna(subset=["best_so_far"])
    axes.step(steps.number, steps.best_so_far, where="post", label="best so far", color=INK, linewidth=1.1)
    changed = steps[steps.best_so_far.diff().ne(0.0)]
    values = {"trial": changed.trial, "reward": changed.best_so_far}
    plot.tell(axes, "best so far", changed.number, changed.best_so_far, values)


def metrics(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage: every metric but size and cost, by trial (thesis fig. 6.3), stopped trials apart from done ones."""
    plots = []
    for stage, rows in stages_of(analysis, "metrics"):
        scores = {str(name): found for name, found in rows.groupby("metric", sort=False) if name not in COMPLEXITY}
        if not scores:
            continue
        caption = (
            f"Every metric of the trials of {stage}; the line is the running mean of the last {RUNNING} done trials."
            " A stopped trial, and a duplicate of one, has the figures that it was stopped at."
        )
        plot = Plot(plot_name("metrics", analysis, analyses, stage), caption, *small_panels(len(scores)))
        for axes, (name, found) in zip(plot.axes, scores.items(), strict=False):
            for status, own in found.groupby("status"):
                look = {**STATUS_LOOK.get(str(status), {"color": QUIET}), "s": 7}
                plot.scatter(axes, str(status), own.number, own.value, {"trial": own.trial, name: own.value}, **look)
            done = found[found.status == "done"]
            axes.plot(
                done.number, done.value.rolling(RUNNING, min_periods=1).mean(), color=VERMILLION, label="running mean"
            )
            focus(axes, found.value)
            axes.set_title(shown(name))
            count_trials(axes)
        hide_rest(plot, len(scores))
        named = {
            label: artist for axes in plot.axes for artist, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        plot.figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named))
        plots.append(plot)
    return plots


def overlay(analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage that at least two runs have: their running means and their best rewards so far (thesis fig. 7.9)."""
    plots = []
    for stage in dict.fromkeys(stage for analysis in analyses for stage in analysis.stages):
        runs = [(i, rows) for i, a in enumerate(analyses) for name, rows in stages_of(a, "rewards") if name == stage]
        runs = [(i, rows) for i, rows in runs if rows.running_mean.notna().any()]
        if len(runs) < 2:
            continue
        caption = f"The runs on {stage} over each other.{references_told(analyses[runs[0][0]])}"
        plot = Plot(plot_name("overlay", analyses[0], analyses[:1], stage), caption, 3.3, 1, 2)
        titles = {"running_mean": "running mean of 50 rewards", "best_so_far": "best reward so far"}
        for axes, (column, title) in zip(plot.axes, titles.items(), strict=True):
            for i, rows in runs:
                found, name = rows.dropna(subset=[column]), shown(analyses[i].name)
                values = {"trial": found.trial, "reward": found[column]}
                plot.line(axes, name, found.number, found[column], values, markevery=0.1, **style(i))
            held = reference_lines(plot, axes, analyses[runs[0][0]])
            focus(axes, pd.concat([rows[column] for _, rows in runs]), held)
            axes.set_title(title)
            count_trials(axes)
        plot.axes[0].set_ylabel("reward")
        plot.figure.legend(*plot.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        plots.append(plot)
    return plots
