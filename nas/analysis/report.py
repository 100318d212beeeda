"""``report.html``, one page that opens offline, and its plots as files."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from nas.analysis import confirmation_plots, outcome_plots, reward_plots, sampling_plots
from nas.analysis.canvas import Plot, stylesheet
from nas.analysis.panels import COMPLEXITY
from nas.analysis.tables import Analysis
from nas.analysis.views import View, best_view, view
from nas.drawing import draw
from search_spaces.files import write_whole

__all__ = ["write"]

Plots = Callable[[Analysis, Sequence[Analysis]], list[Plot]]


@dataclass(frozen=True)
class _Topic:
    """A section of the page: what it says first, its plots, and the names of its tables, open and folded."""

    anchor: str
    title: str
    lead: str
    plots: tuple[Plots, ...] = ()
    tables: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Figure:
    name: str
    caption: str
    svg: Markup
    points: Markup


@dataclass
class _Part:
    """What a section has of one run."""

    heading: str = ""
    settings: Sequence[str] = ()
    notes: Sequence[str] = ()
    plots: list[_Figure] = field(default_factory=list)
    tables: list[View] = field(default_factory=list)
    folded: list[View] = field(default_factory=list)
    drawings: list[_Figure] = field(default_factory=list)


_TOPICS = (
    _Topic("summary", "Summary", "", tables=("statuses",)),
    _Topic(
        "confirmation",
        "Confirmation",
        "The best of all stages and the references, trained whole from seeds that no trial had. The best mean wins; the"
        " chance that it is above a reference comes from Student's t of the differences, paired over the seeds. It was"
        " chosen by the same scores, so that the chance is somewhat too high where candidates are close.",
        (confirmation_plots.confirmed,),
        ("confirmed", "against_references", "references"),
        ("confirmed_scores",),
    ),
    _Topic(
        "reward",
        "Reward",
        "The reward of every trial that has one. Stopped trials are shown with the score they were stopped at and count"
        " neither in the running mean nor in the best so far.",
        (reward_plots.rewards, reward_plots.metrics),
        folded=("rewards",),
    ),
    _Topic(
        "sampling",
        "Sampling",
        "How often each option was taken, over all trials, beside what uniform sampling would take. An option may be"
        " offered by some choices of its kind only, which the expectation allows for.",
        (sampling_plots.proportions,),
        folded=("proportions",),
    ),
    _Topic(
        "sampling-over-time",
        "Sampling over time",
        "The same shares as the search goes on: a controller that learns moves away from uniform sampling.",
        (sampling_plots.proportions_over_time,),
        folded=("proportions_over_time",),
    ),
    _Topic(
        "weight-sharing",
        "Weight sharing",
        "The share of heads whose every layer has the same weights on all pyramid levels, per 50 trials.",
        (sampling_plots.weight_sharing,),
        folded=("weight_sharing",),
    ),
    _Topic(
        "effects",
        "Effects",
        "What one use of an option is worth: the mean score over its uses, less the mean score over the uses of other"
        " options in choices that offer it. Scores are the final rewards of the done trials; in a stage in which trials"
        " were stopped early they are the interim scores of all its trials at one step. One whose whole interval lies"
        " below zero is one that a search of this kind could do without.",
        (outcome_plots.effects,),
        ("effects",),
        ("effects_by_choice",),
    ),
    _Topic(
        "controller",
        "Controller",
        "The controller's own figures after each of its updates.",
        (outcome_plots.controller,),
        folded=("controller",),
    ),
    _Topic(
        "size-and-cost",
        "Size and cost",
        "The task's own reward against parameters, multiply-adds and, where it was measured, latency of done trials. On"
        " the front nothing smaller is as good.",
        (outcome_plots.pareto,),
        ("pareto",),
    ),
    _Topic(
        "promotion",
        "Promotion",
        "How well the reward foretells the results of full training.",
        (outcome_plots.promoted,),
        ("correlations", "promoted"),
    ),
    _Topic(
        "wall-time",
        "Wall time",
        "Where the workers' time went, from the first proposal of a stage to its last result.",
        (outcome_plots.wall_time,),
        ("wall_time",),
    ),
    _Topic(
        "failures",
        "Failures",
        "Trials without a reward, by reason; reasons that differ in numbers alone count together.",
        tables=("failures",),
    ),
    _Topic("best-architectures", "Best architectures", "The best five, confirmed ones first, as graphs."),
)


def write(analyses: Sequence[Analysis], out: Path) -> None:
    """Writes ``out/report.html``, and its plots as ``out/plots/NAME.png`` and ``.svg``.

    The page holds all it needs and loads nothing; its script only sorts tables, switches the theme and tells the values
    of points.

    Args:
        analyses: the analysis of one run, or those of several that are laid over each other.
        out: a folder, made where there is none.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder = out / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    with stylesheet():
        sections = [
            {"anchor": topic.anchor, "title": topic.title, "lead": topic.lead, "parts": _parts(topic, analyses, folder)}
            for topic in _TOPICS
        ]
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_asset("html"))
    page = template.render(
        title=_title(analyses),
        sections=sections,
        css=Markup(_asset("css")),
        js=Markup(_asset("js")),
        footer=f"Written {datetime.now():%Y-%m-%d %H:%M} by nas-analyze, dense-nas {_version()}. Beside this page: the"
        " numbers behind every plot as tables/NAME.csv, and the plots as plots/NAME.png and .svg.",
    )
    write_whole(out / "report.html", page)


def _asset(kind: str) -> str:
    return (files("nas.analysis") / f"report.{kind}").read_text(encoding="utf-8")


def _title(analyses: Sequence[Analysis]) -> str:
    if len(analyses) == 1:
        return f"{analyses[0].name}: a search of {analyses[0].space}"
    return f"{len(analyses)} searches side by side"


def _version() -> str:
    try:
        return importlib.metadata.version("dense-nas")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _parts(topic: _Topic, analyses: Sequence[Analysis], folder: Path) -> list[_Part]:
    parts = [_part(topic, analysis, analyses, folder) for analysis in analyses]
    if topic.anchor == "reward" and len(analyses) > 1:
        figures = [_figure(plot, folder) for plot in reward_plots.overlay(analyses)]
        notes = [] if figures else ["No two of the runs have a stage with rewards in common."]
        parts.insert(0, _Part("The runs over each other", notes=notes, plots=figures))
    return parts


def _part(topic: _Topic, analysis: Analysis, analyses: Sequence[Analysis], folder: Path) -> _Part:
    part = _Part(heading=analysis.name if len(analyses) > 1 else "")
    part.plots = [_figure(plot, folder) for make in topic.plots for plot in make(analysis, analyses)]
    part.tables = [view(name, analysis) for name in topic.tables if not analysis.tables[name].empty]
    part.folded = [view(name, analysis) for name in topic.folded if not analysis.tables[name].empty]
    notes = [analysis.notes[name] for name in (*topic.tables, *topic.folded) if name in analysis.notes]
    part.notes = list(dict.fromkeys(notes))
    if topic.anchor == "summary":
        part.settings = analysis.settings
    if topic.anchor == "confirmation":
        part.settings = analysis.verdicts
    if topic.anchor == "summary" and analysis.best:
        part.tables.insert(0, best_view(analysis))
    if topic.anchor == "best-architectures":
        part.drawings = _drawings(analysis)
    if topic.anchor in ("summary", "best-architectures") and not analysis.best:
        part.notes = ["No trial is done yet, so there is no best architecture."]
    return part


def _figure(plot: Plot, folder: Path) -> _Figure:
    svg, points = plot.save(folder)
    return _Figure(plot.name, plot.caption, Markup(svg), Markup(points.replace("<", "\\u003c")))


def _drawings(analysis: Analysis) -> list[_Figure]:
    drawings = []
    for best in analysis.best:
        last = best.trials[-1]
        figures = [f"{name} {value:.4g}" for name, value in last.metrics.items() if name not in COMPLEXITY]
        sizes = [f"{last.metrics[name]:,.0f} {words}" for name, words in COMPLEXITY.items() if name in last.metrics]
        trials = " + ".join(str(trial.number) for trial in best.trials)
        told = ", ".join([f"reward {last.reward:.4g}", *figures, *sizes]).replace(" -", " −")
        caption = f"Rank {best.rank}: {told}; trial {trials}, key {best.architecture.key}."
        drawings.append(_Figure(f"rank-{best.rank}", caption, Markup(draw(best.architecture)), Markup("")))
    return drawings
