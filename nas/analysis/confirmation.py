"""References and confirmation as tables: who was scored, in what order, and the winner against each reference."""

import math

import pandas as pd

from nas.analysis.tables import table
from nas.run.confirmed import Standing, reference_rows
from nas.run.frames import confirmed_frame, references_frame
from nas.run.reading import Contents
from nas.run.verdict import against, winner
from nas.settings.targets import Targets

__all__ = ["against_references", "confirmed", "confirmed_scores", "references"]


def references(contents: Contents, targets: Targets) -> pd.DataFrame:
    """The table ``references`` of a run."""
    rows = reference_rows(contents.scores)
    told = [
        math.nan if row.reward is None or targets.missing(row.metrics) else targets.told(row.reward, row.metrics)
        for row in rows
    ]
    return table("references", references_frame(rows).assign(told=told))


def confirmed(found: list[Standing]) -> pd.DataFrame:
    """The table ``confirmed`` of the contenders, best first."""
    return table("confirmed", confirmed_frame(found))


def confirmed_scores(found: list[Standing], named: dict[str, str]) -> pd.DataFrame:
    """The table ``confirmed_scores`` of the contenders, in the measures that are ``named``."""
    rows = [
        {"who": standing.contender.name or standing.contender.key, "measure": name, "seed": row.seed, "value": value}
        for by, name in named.items()
        for standing in found
        for row, value in zip((row for row in standing.rows if row.status == "done"), standing.values(by), strict=True)
        if not math.isnan(value)
    ]
    return table("confirmed_scores", rows)


def against_references(found: list[Standing], named: dict[str, str]) -> pd.DataFrame:
    """The table ``against_references``: the winner's scores less each reference's, in the measures that are named."""
    best = winner(found)
    rows = [
        {
            "reference": reference.contender.name,
            "measure": name,
            **vars(difference),
            "macs_ratio": best.cost("macs") / (reference.cost("macs") or math.nan),
        }
        for by, name in named.items()
        if best is not None
        for reference, difference in against(found, by)
        if not math.isnan(difference.mean)
    ]
    return table("against_references", [{**row, "difference": row.pop("mean")} for row in rows])
