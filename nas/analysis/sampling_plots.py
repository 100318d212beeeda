"""What was sampled: overall, over time, and shared heads. Call these inside `canvas.stylesheet`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.analysis.canvas import BLUE, INK, Plot, legend, shown, style
from nas.analysis.panels import count_trials, percent, plot_name, stages_of
from nas.analysis.tables import Analysis

__all__ = ["proportions", "proportions_over_time", "weight_sharing"]


def proportions(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage: how often each option was taken, beside its expectation under uniform sampling."""
    plots = []
    for stage, rows in stages_of(analysis, "proportions"):
        kinds = list(rows.groupby("kind", sort=False))
        sizes = [len(found) for _, found in kinds]
        caption = f"Share of each option among all choices of its kind in {stage}; the marks are uniform sampling."
        ratios = {"height_ratios": [size + 1.5 for size in sizes]}
        height = 0.5 + 0.17 * sum(sizes) + 0.35 * len(sizes)
        name = plot_name("sampling", analysis, analyses, stage)
        plot = Plot(name, caption, height, len(kinds), 1, sharex=True, gridspec_kw=ratios)
        for axes, (kind, found) in zip(plot.axes, kinds, strict=True):
            places = np.arange(len(found))
            axes.barh(places, found.share, height=0.66, color=BLUE, alpha=0.85, label="sampled")
            look: dict[str, Any] = {"marker": "|", "s": 70, "color": INK, "linewidths": 1.6, "zorder": 3}
            axes.scatter(found.expected, places, label="if uniform", **look)
            values = {"option": found.option, "count": found["count"], "share": found.share}
            plot.tell(axes, str(kind), found.share, places, {**values, "if uniform": found.expected})
            axes.set_yticks(places, [shown(option) for option in found.option])
            axes.set_ylim(len(found) - 0.4, -0.6)
            axes.grid(visible=False, axis="y")
            axes.set_title(f"choices of kind {shown(kind)}")
            percent(axes.xaxis)
        plot.axes[0].legend(loc="lower right")
        plot.axes[-1].set_xlabel("share of the choices (%)")
        plots.append(plot)
    return plots


def proportions_over_time(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage and kind: the share of each option, window by window of trials."""
    plots = []
    for stage, rows in stages_of(analysis, "proportions_over_time"):
        kinds = list(rows.groupby("kind", sort=False))
        caption = (
            f"Share of each option of {stage} in successive windows of trials; a point stands at its window's end."
        )
        name = plot_name("sampling_over_time", analysis, analyses, stage)
        plot = Plot(name, caption, 0.4 + 2.1 * len(kinds), len(kinds), 1)
        for axes, (kind, found) in zip(plot.axes, kinds, strict=True):
            for i, (option, line) in enumerate(found.groupby("option", sort=False)):
                values = {
                    "from trial": line["first"],
                    "to trial": line["last"],
                    "share": line.share,
                    "if uniform": line.expected,
                }
                look = {"markevery": 1 + len(line) // 15, **style(i)}
                plot.line(axes, shown(option), line["last"], line.share, values, **look)
            axes.set_title(f"choices of kind {shown(kind)}")
            axes.set_ylim(bottom=0.0)
            percent(axes.yaxis)
            axes.set_ylabel("share (%)")
            legend(axes)
        for axes in plot.axes:
            count_trials(axes, "trial of the stage" if axes is plot.axes[-1] else "")
        plots.append(plot)
    return plots


def weight_sharing(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Per stage that has the choice: the share of fully weight-shared heads, by windows of 50 trials."""
    plots = []
    for stage, rows in stages_of(analysis, "weight_sharing"):
        caption = f"Share of the heads of {stage} all of whose layers share their weights between the pyramid levels."
        plot = Plot(plot_name("weight_sharing", analysis, analyses, stage), caption, 2.4)
        axes = plot.axes[0]
        values = {"last trial": rows["last"], "fully shared": rows.fully_shared, "of": rows["count"]}
        plot.line(axes, "fully shared", rows["last"], rows.share, values, color=BLUE, marker="o")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(left=0)
        percent(axes.yaxis)
        axes.set_ylabel("fully shared (%)")
        count_trials(axes)
        plots.append(plot)
    return plots
