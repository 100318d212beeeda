"""How trials ended, why some failed, and where the wall time went."""

import re
from collections.abc import Sequence

import pandas as pd

from nas.analysis.stage import StageTrials
from nas.analysis.tables import table

__all__ = ["failures", "statuses", "wall_time"]

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


def statuses(stage: StageTrials) -> pd.DataFrame:
    """The table ``statuses`` of one stage, the commonest first."""
    return table("statuses", stage.frame.status.value_counts().reset_index().assign(stage=stage.name))


def failures(stage: StageTrials) -> pd.DataFrame:
    """The table ``failures`` of one stage, the commonest first; without rows where none failed or diverged."""
    frame = stage.frame[stage.frame.status.isin(["failed", "diverged"])].fillna({"reason": "no reason given"})
    pattern = frame.reason.map(lambda reason: _NUMBER.sub("0", reason)).rename("pattern")
    grouped = frame.groupby(["status", pattern], sort=False).reason.agg(["first", "size"]).reset_index()
    named = grouped.rename(columns={"first": "reason", "size": "count"}).assign(stage=stage.name)
    return table("failures", named.sort_values("count", ascending=False, kind="stable"))


def wall_time(stages: Sequence[StageTrials], workers: int) -> pd.DataFrame:
    """The table ``wall_time`` of all stages.

    A stage lasts from its first proposal to the last end of a trial, or to the last proposal; before it there is the
    time since the end of the stage before, in which the task is prepared.

    Args:
        stages: in order.
        workers: that evaluate at once; a second of the stage is that many worker seconds.
    """
    rows: list[dict[str, object]] = []
    previous: float | None = None
    for stage in stages:
        frame = stage.frame
        begin = frame.started.min()
        end = (frame.started + frame.seconds.fillna(0)).max()
        inside = frame.groupby("status", sort=False).seconds.sum()
        parts = {} if previous is None else {"before the stage": max(0.0, begin - previous) * workers}
        parts |= {f"inside trials: {status}": seconds for status, seconds in inside.items() if seconds > 0}
        # Proposals made ahead of a free worker end later than reckoned here, so never less than nothing.
        parts["between trials"] = max(0.0, (end - begin) * workers - inside.sum())
        parts["total"] = sum(parts.values())
        rows += [{"stage": stage.name, "part": part, "seconds": float(seconds)} for part, seconds in parts.items()]
        previous = end
    return table("wall_time", rows)
