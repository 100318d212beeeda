"""What a search shows at its end: the best of each stage beside the references, and what was confirmed."""

import itertools
import math
from collections.abc import Mapping, Sequence

from rich.table import Table

from experiments.families import family_of
from nas.run.confirmed import Standing, reference_rows
from nas.run.reading import Ranked, Run
from nas.run.rows import ScoreRow
from nas.run.verdict import measures, verdicts

__all__ = ["closing"]

SHOWN = 5


def closing(run: Run) -> tuple[list[Table], list[str]]:
    """The tables of a run, and sentences on its winner."""
    now, settings = run.contents(), run.settings
    references = reference_rows(now.scores)
    tables = [_best(stage, ranked[:SHOWN], references) for stage, ranked in run.ranked(now).items()]
    found = run.standings(now)
    named = measures(settings.reward, family_of(settings.search_space()).measure)
    if found:
        tables.append(_confirmed(found, named))
    return tables, verdicts(found, named)


def _table(title: str, columns: Sequence[str], last: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column(last, no_wrap=True)
    return table


def _best(stage: str, ranked: Sequence[Ranked], references: Sequence[ScoreRow]) -> Table:
    table = _table(f"{stage}: the best {len(ranked)}", ("rank", "reward", "parameters", "MACs", "trial"), "key")
    for rank, item in enumerate(ranked, 1):
        table.add_row(str(rank), f"{item.reward:.4f}", *_sizes(item.metrics), str(item.number), item.key)
    table.add_section()
    for row in references:
        score = row.status if row.reward is None else f"{row.reward:.4f}"
        table.add_row("", score, *_sizes(row.metrics), "", row.contender.name)
    return table


def _confirmed(found: Sequence[Standing], named: Mapping[str, str]) -> Table:
    title = f"confirmed, means and deviations from {found[0].seeds} seeds"
    table = _table(title, ("rank", *named.values(), "parameters", "MACs", "trials"), "key")
    ranks = itertools.count(1)
    for standing in found:
        scores = [_spread(standing, by) for by in named]
        sizes = _sizes({name: standing.cost(name) for name in ("params", "macs")})
        trials = " + ".join(map(str, standing.contender.trials))
        who = standing.contender.name or standing.contender.key
        rank = str(next(ranks)) if standing.found and not standing.reason else ""
        table.add_row(rank, *scores, *sizes, trials, who)
    return table


def _spread(standing: Standing, by: str) -> str:
    mean, deviation = standing.mean(by), standing.deviation(by)
    if standing.reason or math.isnan(mean):
        return next((row.status for row in standing.rows if row.status != "done"), "")
    return f"{mean:.4f}" if math.isnan(deviation) else f"{mean:.4f} ± {deviation:.4f}"


def _sizes(figures: Mapping[str, float]) -> list[str]:
    return [_amount(figures.get("params"), 1e6, "M"), _amount(figures.get("macs"), 1e9, "G")]


def _amount(value: float | None, unit: float, name: str) -> str:
    return "" if value is None or math.isnan(value) else f"{value / unit:.3f} {name}"
