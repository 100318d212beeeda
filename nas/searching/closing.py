"""What a search shows at its end: the best of each stage beside the references, and what was confirmed."""

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.table import Table

from experiments.families import family_of
from nas.run.confirmed import Standing, reference_rows
from nas.run.ranking import Ranked
from nas.run.reading import Run
from nas.run.rows import ScoreRow
from nas.run.verdict import measures, verdicts
from nas.settings.targets import COSTS, LATENCY, Targets, cost_text
from search_spaces import InputError

__all__ = ["closing", "front_table"]

SHOWN = 5


def closing(run: Run, pareto: str | None = None) -> tuple[list[Table], list[str]]:
    """The tables of a run, and sentences on its winner.

    Args:
        run: begun at least.
        pareto: the cost whose front is among the tables; None is those of the run's targets.
    """
    now, settings = run.contents(), run.settings
    references, targets = reference_rows(now.scores), Targets(settings.target)
    ranked = {stage: trials[:SHOWN] for stage, trials in run.ranked(now).items()}
    tables = [
        _best(_title(f"{stage}: the best", best, targets), best, targets, references) for stage, best in ranked.items()
    ]
    for cost in [pareto] if pareto else targets.limits:
        with suppress(InputError):  # no trial that is done has it
            tables.append(front_table(cost, [trials[-1] for _, trials in run.front_with_trials(cost, now)], targets))
    found = run.standings(now)
    named = measures(settings.reward, family_of(settings.search_space()).measure)
    if found:
        tables.append(_confirmed(found, named, targets))
    return tables, verdicts(found, named)


def front_table(cost: str, ranked: Sequence[Ranked], targets: Targets) -> Table:
    """The front of reward against a cost, with what is told and met where there are targets."""
    return _best(_title(f"the front of reward against {COSTS[cost][0]}:", ranked, targets), ranked, targets)


def _title(what: str, ranked: Sequence[Ranked], targets: Targets) -> str:
    return f"{what} {len(ranked)}" + (f" under {targets}" if targets else "")


def _table(title: str, columns: Sequence[str], last: str, narrow: bool) -> Table:
    table = Table(title=title, padding=0 if narrow else (0, 1))  # so that it fits 80 columns
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column(last, no_wrap=True)
    return table


def _best(title: str, ranked: Sequence[Ranked], targets: Targets, references: Sequence[ScoreRow] = ()) -> Table:
    costs = _costs([item.metrics for item in ranked])
    own = ("told", "met") if targets else ()
    table = _table(title, ("rank", "reward", *own, *(COSTS[cost][0] for cost in costs), "trial"), "key", bool(targets))
    for rank, item in enumerate(ranked, 1):
        told = _told(item.told, item.metrics, targets)
        sizes = [cost_text(cost, item.metrics) for cost in costs]
        table.add_row(str(rank), f"{item.reward:.4f}", *told, *sizes, str(item.number), item.key)
    table.add_section()
    for row in references:
        score = row.status if row.reward is None else f"{row.reward:.4f}"
        known = row.reward is not None and not targets.missing(row.metrics)
        told = _told(targets.told(row.reward or 0.0, row.metrics) if known else math.nan, row.metrics, targets)
        sizes = [cost_text(cost, row.metrics) for cost in costs]
        table.add_row("", score, *told, *sizes, "", row.contender.name)
    return table


def _confirmed(found: Sequence[Standing], named: Mapping[str, str], targets: Targets) -> Table:
    several = f"means and deviations from {found[0].seeds} seeds" if found[0].seeds > 1 else "from 1 seed"
    title = f"confirmed, {several}" + (f" under {targets}" if targets else "")
    own = ("told", "met") if targets else ()
    figures = [{cost: standing.cost(cost) for cost in COSTS} for standing in found]
    costs = _costs([{cost: value for cost, value in row.items() if not math.isnan(value)} for row in figures])
    columns = ("rank", *named.values(), *own, *(COSTS[cost][0] for cost in costs), "trials")
    table = _table(title, columns, "key", True)
    ranks = itertools.count(1)
    for standing, row in zip(found, figures, strict=True):
        scores = [_spread(standing, by) for by in named]
        told = _told(standing.told, row, targets)
        sizes = [cost_text(cost, row) for cost in costs]
        trials = " + ".join(map(str, standing.contender.trials))
        who = standing.contender.name or standing.contender.key
        rank = str(next(ranks)) if standing.found and not standing.reason else ""
        table.add_row(rank, *scores, *told, *sizes, trials, who)
    return table


def _costs(figures: Sequence[Mapping[str, float]]) -> list[str]:
    """The costs that have a column: latency where it was measured, the others always."""
    return [cost for cost in COSTS if cost != LATENCY or any(cost in row for row in figures)]


def _told(told: float, figures: Mapping[str, float], targets: Targets) -> tuple[str, ...]:
    """The columns ``told`` and ``met``; none without targets."""
    if not targets:
        return ()
    return ("", "") if math.isnan(told) else (f"{told:.4f}", "yes" if targets.met(figures) else "no")


def _spread(standing: Standing, by: str) -> str:
    mean, deviation = standing.mean(by), standing.deviation(by)
    if standing.reason or math.isnan(mean):
        return next((row.status for row in standing.rows if row.status != "done"), "")
    return f"{mean:.4f}" if math.isnan(deviation) else f"{mean:.4f} ± {deviation:.4f}"
