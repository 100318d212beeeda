"""How the plots look, and how one is kept: as files by matplotlib, and as inline SVG whose points tell their values."""

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREEN",
    "INK",
    "ORANGE",
    "PURPLE",
    "QUIET",
    "RULE",
    "SKY",
    "VERMILLION",
    "Plot",
    "legend",
    "shown",
    "style",
    "stylesheet",
]

# Okabe and Ito's palette, which colour-blind readers tell apart; its yellow is too pale for lines on white
INK, QUIET, RULE = "#1b1c1e", "#5c6066", "#dcdcd8"
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
_SERIES = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, INK)
_MARKERS = "osD^vPX<>*"
_DASHES = ("-", "--", ":")
_ON_PAGE = {
    "#ffffff": "var(--paper)",
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    RULE: "var(--rule)",
    BLUE: "var(--series-blue)",
    ORANGE: "var(--series-orange)",
    GREEN: "var(--series-green)",
    VERMILLION: "var(--series-vermillion)",
    PURPLE: "var(--series-purple)",
    SKY: "var(--series-sky)",
}
_WIDTH, _DPI = 7.0, 200  # inches; dots per inch of the PNG files
_MANY = 1500  # points of one series; more of them are an image inside the SVG
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a user's name is a dollar
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
}


def stylesheet() -> AbstractContextManager[None]:
    """matplotlib's settings while plots are made and saved."""
    context: AbstractContextManager[None] = matplotlib.rc_context(_STYLE)
    return context


def style(i: int) -> dict[str, Any]:
    """Colour, marker and dashes of series ``i``, for `Axes.plot`; no two of the first 21 are alike."""
    return {
        "color": _SERIES[i % len(_SERIES)],
        "marker": _MARKERS[i % len(_MARKERS)],
        "linestyle": _DASHES[i // len(_SERIES) % len(_DASHES)],
    }


def shown(name: object) -> str:
    """A user's name as a plot shows it: on one line, and not longer than a label may be."""
    text = " ".join(str(name).split())
    text = text if len(text) <= 32 else f"{text[:31]}…"
    return f" {text}" if text.startswith("_") else text  # matplotlib hides labels that begin with an underscore


def legend(axes: Axes) -> None:
    """The legend, right of the axes."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0.0)


class Plot:
    """One figure, and the values that its points tell; use it inside `stylesheet`.

    Args:
        name: names the figure's files and its anchor in the page.
        caption: what it shows, plain text.
        height: in inches; the width is 7.
        rows: how many rows of axes the figure has.
        columns: how many columns of axes the figure has.
        grid: more for `Figure.subplots`.
    """

    def __init__(self, name: str, caption: str, height: float, rows: int = 1, columns: int = 1, **grid: Any):
        self.name, self.caption = name, caption
        self.figure = Figure(figsize=(_WIDTH, height), dpi=72, layout="constrained")
        self.axes: list[Axes] = list(self.figure.subplots(rows, columns, squeeze=False, **grid).flat)
        self._series: list[tuple[Axes, str, Mapping[str, Sequence[Any]], np.ndarray]] = []

    def tell(self, axes: Axes, series: str, x: Iterable[Any], y: Iterable[Any], values: Mapping[str, Any]) -> None:
        """Points at (x, y), in data coordinates, tell ``values``: per name as many as there are points."""
        at = np.column_stack([np.asarray(list(x), float), np.asarray(list(y), float)])
        columns = {name: list(column) for name, column in values.items()}
        assert all(len(column) == len(at) for column in columns.values()), f"{self.name}: points without values"
        self._series.append((axes, series, columns, at))

    def scatter(self, axes: Axes, label: str, x: Any, y: Any, values: Mapping[str, Any], **look: Any) -> None:
        """`Axes.scatter` whose points tell ``values``; very many are drawn as an image."""
        look = {"s": 12, "linewidths": 0.8, **look}
        if len(x) > _MANY:
            look |= {"s": 4, "rasterized": True}
        axes.scatter(x, y, label=label, **look)
        self.tell(axes, label, x, y, values)

    def line(self, axes: Axes, label: str, x: Any, y: Any, values: Mapping[str, Any], **look: Any) -> None:
        """`Axes.plot` whose points, or some hundreds of them, tell ``values``."""
        axes.plot(x, y, label=label, **look)
        some = slice(None, None, 1 + len(x) // 500)
        self.tell(axes, label, x[some], y[some], {name: column[some] for name, column in values.items()})

    def save(self, folder: Path) -> tuple[str, str]:
        """Writes ``NAME.svg`` and ``NAME.png``, once; returns SVG in the page's colours, and JSON of its points.

        The JSON is ``{"series": [{"name", "columns"}], "points": [[series, x, y, *values]]}``, places in the SVG's
        units.
        """
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")  # the files and the places of the points share this layout
        text = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": self.name}):  # so that no two figures of the page share an id
            self.figure.savefig(text, format="svg", dpi=_DPI, metadata={"Date": None})
        points = self._points()  # before the PNG is drawn, at another resolution
        (folder / f"{self.name}.svg").write_text(text.getvalue(), encoding="utf-8")
        self.figure.savefig(folder / f"{self.name}.png", dpi=_DPI, facecolor="white")
        self.figure.clear()  # figure and artists refer to each other: all they hold would wait for the collector
        return self._inline(text.getvalue()), points

    def _points(self) -> str:
        height = float(self.figure.bbox.height)
        points: list[list[Any]] = []
        for number, (axes, _, columns, at) in enumerate(self._series):
            places = axes.transData.transform(at)
            middle, reach = axes.bbox.get_points().mean(axis=0), np.asarray(axes.bbox.size) / 2 + 1
            inside = np.isfinite(places).all(axis=1) & (abs(places - middle) <= reach).all(axis=1)
            for i in np.flatnonzero(inside).tolist():
                values = [_told(column[i]) for column in columns.values()]
                points.append([number, round(float(places[i, 0]), 1), round(height - float(places[i, 1]), 1), *values])
        series = [{"name": name, "columns": list(columns)} for _, name, columns, _ in self._series]
        return json.dumps({"series": series, "points": points}, separators=(",", ":"))

    def _inline(self, text: str) -> str:
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
        text = re.sub(r'<g id="[^"]*">', "<g>", text)  # ids that nothing refers to
        for colour, variable in _ON_PAGE.items():
            text = text.replace(colour, variable)
        return text.replace("<svg ", f'<svg tabindex="0" role="img" aria-label="{escape(self.caption)}" ', 1)


def _told(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if np.isfinite(value) else "none"
    return value.item() if isinstance(value, np.generic) else str(value) if not isinstance(value, int) else value
