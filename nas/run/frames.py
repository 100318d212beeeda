"""Rows of a run as pandas' frames."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nas.run.confirmed import Standing
from nas.run.ranking import Ranked
from nas.run.rows import ScoreRow, TrialRow
from nas.settings.targets import COSTS
from search_spaces import Architecture

if TYPE_CHECKING:
    import pandas

__all__ = ["confirmed_frame", "front_frame", "references_frame", "trials_frame"]

_FIRST = ["trial", "stage", "status", "reward", "key", "cached", "reason", "params", "macs", "seconds"]
_REFERENCE = ["name", "key", "status", "reward", "params", "macs", "seconds", "reason"]
_MEASURES = ("reward", "loss", "metric")
_CONFIRMED = [
    *("rank", "name", "key", "space", "trials", "seeds"),
    *(column for by in _MEASURES for column in (by, f"{by}_deviation")),
    *("told", *COSTS, "reason"),
]


def trials_frame(rows: Iterable[TrialRow]) -> "pandas.DataFrame":
    """`nas.run.reading.Run.trials`."""
    import pandas

    frame = pandas.DataFrame([_flat(row) for row in rows])
    return frame.reindex(columns=[*_FIRST, *(name for name in frame.columns if name not in _FIRST)])


def _flat(row: TrialRow) -> dict[str, object]:
    figures = {name if name in ("params", "macs") else f"metric.{name}": v for name, v in row.metrics.items()}
    own = {name: getattr(row, name) for name in _FIRST if name not in ("trial", "params", "macs")}
    return {"trial": row.number, **own, **row.choices, **figures}


def references_frame(rows: Iterable[ScoreRow]) -> "pandas.DataFrame":
    """`nas.run.reading.Run.references`."""
    import pandas

    found = [
        {
            **{name: getattr(row, name) for name in ("status", "reward", "seconds", "reason")},
            **{name: row.metrics.get(name, math.nan) for name in ("params", "macs")},
            "name": row.contender.name,
            "key": row.contender.key,
        }
        for row in rows
    ]
    return pandas.DataFrame(found, columns=_REFERENCE).astype({"reward": float})


def confirmed_frame(standings: Sequence[Standing]) -> "pandas.DataFrame":
    """`nas.run.reading.Run.confirmed`."""
    import pandas

    rows, ranks = [], itertools.count(1)
    for standing in standings:
        row: dict[str, object] = {
            "rank": next(ranks) if standing.found and not standing.reason else None,
            "name": standing.contender.name,
            "key": standing.contender.key,
            "space": standing.contender.space,
            "trials": " + ".join(map(str, standing.contender.trials)),
            "seeds": len(standing.values("reward")),
            "reason": standing.reason,
        }
        for by in _MEASURES:
            sign = -1 if by == "loss" else 1  # compared by its negative
            row |= {by: sign * standing.mean(by), f"{by}_deviation": standing.deviation(by)}
        rows.append(row | {"told": standing.told} | {name: standing.cost(name) for name in COSTS})
    return pandas.DataFrame(rows, columns=_CONFIRMED).astype({"rank": "Int64"})


def front_frame(found: Sequence[tuple[Architecture, list[Ranked]]]) -> "pandas.DataFrame":
    """`nas.run.reading.Run.front`, of what is on it, best first, with the trials that it comes from."""
    import pandas

    known = [name for name in COSTS if any(name in trials[-1].metrics for _, trials in found)]
    rows = []
    for rank, (architecture, trials) in enumerate(found, 1):
        last = trials[-1]
        costs = {name: last.metrics.get(name, math.nan) for name in known}
        own = {"rank": rank, "trial": last.number, "reward": last.reward, **costs}
        rows.append({**own, "key": architecture.key, "architecture": architecture})
    return pandas.DataFrame(rows)
