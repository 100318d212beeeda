"""The contenders of a confirmation beside each other. Call this inside `canvas.stylesheet`."""

from collections.abc import Sequence

import numpy as np

from nas.analysis.canvas import BLUE, SKY, Plot, shown
from nas.analysis.panels import plot_name
from nas.analysis.tables import Analysis

__all__ = ["confirmed"]


def confirmed(analysis: Analysis, analyses: Sequence[Analysis]) -> list[Plot]:
    """Every contender's scores from each seed, with mean and deviation, one panel a measure, the best first."""
    scores = analysis.tables["confirmed_scores"]
    if scores.empty:
        return []
    order, names = list(scores.who.unique()), list(scores.measure.unique())
    references = set(analysis.tables["confirmed"].name) - {""}
    caption = "Scores of the contenders from each seed; the bar is the mean with the standard deviation."
    plot = Plot(plot_name("confirmed", analysis, analyses), caption, 0.9 + 0.3 * len(order), 1, len(names), sharey=True)
    for axes, name in zip(plot.axes, names, strict=True):
        found = scores[scores.measure == name]
        for who, own in found.groupby("who", sort=False):
            place, colour = order.index(who), SKY if who in references else BLUE
            places = np.full(len(own), place)
            axes.errorbar(
                own.value.mean(),
                place,
                xerr=own.value.std() if len(own) > 1 else None,
                fmt="|",
                color=colour,
                capsize=3,
            )
            values = {"seed": own.seed.astype(str), name: own.value}
            plot.scatter(axes, shown(who), own.value, places, values, color=colour, alpha=0.55)
        axes.set_xlabel(shown(name))
    plot.axes[0].set_yticks(range(len(order)), [shown(who) for who in order])
    plot.axes[0].invert_yaxis()
    return [plot]
