"""What the plots of all sections share: names, stages, axes of trials and limits that outliers do not set."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nas.analysis.canvas import BLUE, ORANGE, PURPLE, SKY, Plot, shown
from nas.analysis.tables import Analysis

__all__ = [
    "COMPLEXITY",
    "STATUS_LOOK",
    "count_trials",
    "focus",
    "hide_rest",
    "percent",
    "plot_name",
    "reference_lines",
    "references_told",
    "small_panels",
    "stages_of",
]

COMPLEXITY = {"params": "parameters", "macs": "multiply-adds", "latency_ms": "milliseconds"}
STATUS_LOOK: dict[str, dict[str, Any]] = {
    "done": {"color": BLUE, "marker": "o", "alpha": 0.55, "linewidths": 0},
    "duplicate": {"color": PURPLE, "marker": "D", "facecolors": "none"},
    "stopped": {"color": ORANGE, "marker": "x"},
}


def plot_name(what: str, analysis: Analysis, analyses: Sequence[Analysis], stage: str = "") -> str:
    """The plot's name: what it shows and its stage, and with several runs the run's place among them."""
    run = f"run{list(analyses).index(analysis) + 1}" if len(analyses) > 1 else ""
    return "-".join(re.sub(r"[^\w.]+", "_", part, flags=re.ASCII) for part in (what, stage, run) if part)


def stages_of(analysis: Analysis, table: str) -> list[tuple[str, pd.DataFrame]]:
    """The stages that have rows in a table, in order, with their rows."""
    frame = analysis.tables[table]
    return [(stage, rows) for stage in analysis.stages if not (rows := frame[frame.stage == stage]).empty]


def reference_lines(plot: Plot, axes: Axes, analysis: Analysis, by: str = "told") -> pd.Series:
    """A labelled line across the axes at the reward of every reference that has one; returns these rewards.

    Args:
        plot: has the axes.
        axes: of rewards.
        analysis: whose references.
        by: ``"told"``, or ``"reward"`` where the axes have the task's own.
    """
    found = analysis.tables["references"].dropna(subset=[by])
    for number, (name, reward) in enumerate(zip(found["name"], found[by], strict=True)):
        look = {"color": SKY, "linestyle": _DASHES[number % len(_DASHES)], "linewidth": 1.2, "zorder": 1.5}
        axes.axhline(reward, label=shown(name), **look)
        plot.tell(axes, shown(name), [axes.get_xlim()[1]], [reward], {"reward": [reward]})
    return found[by]


def references_told(analysis: Analysis) -> str:
    """The sentence of a caption on these lines; empty where there are none."""
    found = analysis.tables["references"].reward.notna().any()
    measured = (
        f" The references were scored like the trials of {analysis.stages[0]}." if len(analysis.stages) > 1 else ""
    )
    return f" Lines: the references.{measured}" if found else ""


_DASHES: tuple[Any, ...] = ((0, (7, 2)), (0, (4, 2, 1, 2)), (0, (2, 1.5)), (0, (1, 1)))


def focus(axes: Axes, values: pd.Series, also: Iterable[float] = ()) -> str:
    """Limits the y axis to all but far outliers; returns the sentence that says how many are beyond.

    Args:
        axes: whose limits are set.
        values: what is drawn.
        also: further values, which are never beyond.
    """
    values = values.dropna()
    low, high = values.quantile([0.02, 0.98])
    near = values[values.between(2 * low - high, 2 * high - low)]
    ends = [near.min(), near.max(), *also]
    pad = 0.05 * (max(ends) - min(ends)) or 0.5
    axes.set_ylim(min(ends) - pad, max(ends) + pad)
    beyond = len(values) - len(near)
    return f" Outlying values beyond the axis: {beyond}." if beyond else ""


def count_trials(axes: Axes, label: str = "trial of the stage") -> None:
    """Makes the x axis one of whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_xlabel(label)


def percent(axis: Axis) -> None:
    """Labels shares between 0 and 1 in per cent."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def small_panels(count: int) -> tuple[float, int, int]:
    """Height in inches, rows and columns for that many small panels."""
    columns = min(3, count)
    rows = math.ceil(count / columns)
    return 0.4 + 1.9 * rows, rows, columns


def hide_rest(plot: Plot, used: int) -> None:
    """Hides the panels after the first ``used``."""
    for axes in plot.axes[used:]:
        axes.set_visible(False)
