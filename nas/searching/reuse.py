"""Scores of other runs, taken over where all that they depend on is the same.

All of them are copied into the search's own store before its first trial, in one transaction: from then on the search
needs the other runs no more. They stand in the table ``meta`` under ``reused``, as JSON: a list of `Source`, one a run.
"""

import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.run.confirmed import CONFIRMATION
from nas.run.connection import connect, transaction
from nas.run.reading import Run
from nas.run.rows import Outcome
from nas.settings import SearchSettings
from nas.settings.targets import TOLD, Targets
from search_spaces import InputError

__all__ = ["Source", "check", "copied", "mismatch"]

_NAME = "reused"
_OF_SCORES = ("reward", "preset", "seed", "backbone", "task")
"""The settings that scores depend on beside what fingerprints tell."""


@dataclass(frozen=True)
class Source:
    """What is taken over from one run.

    Args:
        run: its directory's name.
        fingerprints: by stage, as in its `RunRecord`.
        scores: by stage, each ``[trial, key, reward, metrics]``, best first; every key once.
    """

    run: str
    fingerprints: dict[str, dict[str, str]]
    scores: dict[str, list[Any]]

    def known(self, stage: str, targets: Targets) -> dict[str, tuple[str, Outcome]]:
        """By the network's key: which trial scored it, in words, and how; only those that have the targets' costs."""
        return {
            key: (f"trial {number} of {self.run}", Outcome("done", reward, metrics=metrics))
            for number, key, reward, metrics in self.scores.get(stage, [])
            if targets.missing(metrics) is None
        }


def check(settings: SearchSettings, data: str | None = None) -> None:
    """Refuses a run whose scores are not those that this search would give; before anything is prepared.

    Args:
        settings: resolved.
        data: the fingerprint of its data, where that is cheap to have.

    Raises:
        InputError: there is no such run, it has no stage of this search, or a setting or the data differ.
    """
    stages = [space.name for space in settings.search_space().stages]
    for path in settings.reuse:
        run = Run(path)
        own = run.settings
        for name in _OF_SCORES:
            if getattr(own, name) != getattr(settings, name):
                raise InputError(
                    f"the run {path} cannot be reused: it has {name} = {getattr(own, name)!r}, this search has"
                    f" {getattr(settings, name)!r}"
                )
        begun = run.record.fingerprints
        if begun.keys().isdisjoint(stages):
            there = ", ".join(stage for stage in begun if stage != CONFIRMATION) or "none that has begun"
            raise InputError(
                f"the run {path} cannot be reused: its stages are {there}, those of this search {', '.join(stages)}"
            )
        for stage in begun.keys() & set(stages) if data else ():
            if begun[stage].get("data", data) != data:
                raise InputError(
                    f"the run {path} cannot be reused: {_other('data', stage, begun[stage]['data'], str(data))}"
                )


def mismatch(source: Source, stage: str, fingerprints: Mapping[str, str]) -> str | None:
    """The first fingerprint of a stage that is not this search's, in words; None where the scores can be taken over."""
    theirs = source.fingerprints.get(stage, {})
    for what, mine in fingerprints.items():
        if theirs.get(what) != mine:
            return _other(what, stage, theirs.get(what, "none"), mine)
    return None


def _other(what: str, stage: str, theirs: str, mine: str) -> str:
    return f"the {what} of its stage {stage} have the fingerprint {theirs}, those of this search {mine}"


def copied(store: Path, settings: SearchSettings) -> list[Source]:
    """What the runs of the setting ``reuse`` know: as ``store`` has it, into which it is copied where it is not there.

    Raises:
        InputError: it is not there, and neither is one of the runs.
    """
    if not settings.reuse:
        return []
    with closing(connect(store, "mode=rw")) as db:
        there = _stored(db)
        if there is None:
            with transaction(db, store):
                text = json.dumps([asdict(_read(path)) for path in settings.reuse], allow_nan=False)
                db.execute("INSERT INTO meta VALUES (?, ?)", (_NAME, text))
            there = _stored(db)
        assert there is not None
        return there


def _stored(db: sqlite3.Connection) -> list[Source] | None:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (_NAME,)).fetchone()
    return None if row is None else [Source(**source) for source in json.loads(row[0])]


def _read(path: str) -> Source:
    run = Run(path)
    scores = {}
    for stage, ranked in run.ranked().items():
        scores[stage] = [[row.number, row.key, row.reward, _own(row.metrics)] for row in ranked]
    return Source(run.path.name, run.record.fingerprints, scores)


def _own(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without the reward that the other run's targets left, and without what JSON cannot hold."""
    return {name: value for name, value in metrics.items() if name != TOLD and math.isfinite(value)}
