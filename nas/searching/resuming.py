"""What a run that goes on may be told anew, and what it refuses."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from nas.run.store import RunStore
from nas.searching.plan import Stage, resolve
from nas.settings import Searched, SearchSettings
from search_spaces import InputError

__all__ = ["check_trials", "refuse_change", "resumed"]

_OF_WORKERS = ("gpus_per_worker", "ray_address")


def resumed(run: Path, mine: SearchSettings, given: dict[str, Any]) -> SearchSettings:
    """The resolved settings that a run goes on with: its own, with what is given of where (its data too) and how long.

    Args:
        run: its directory.
        mine: the run's settings.
        given: by name, as they were asked for.

    Raises:
        InputError: what is searched would change, or the place of the run.
    """
    SearchSettings.of(given)
    if given.get("workers", 0) is None:  # not to say how many is to go on with as many
        given = {name: value for name, value in given.items() if name != "workers"}
    if given.get("workers") == 0:  # what the run's workers were told goes with them
        given = {**dict.fromkeys(_OF_WORKERS), **given}
    other = resolve(mine.changed(**given))
    for name in (item.name for item in fields(Searched)):
        if name == "data" and mine.data and other.data:
            continue  # they may have moved: their fingerprint tells whether they are the same
        if getattr(mine, name) != getattr(other, name):
            raise InputError(
                f"the run {run} has {name} = {getattr(mine, name)!r}, but {getattr(other, name)!r} is asked for;"
                " --resume changes where and how long a run is searched, not what; leave it out, or start a new run"
            )
    if other.out not in (mine.out, str(run)):
        raise InputError(f"--resume goes on in the run's own directory, {run}, but --out is {other.out}; leave it out")
    return other.changed(out=mine.out)


def check_trials(run: Path, plan: Sequence[Stage]) -> None:
    """Refuses trials that a run cannot end with.

    Raises:
        InputError: fewer than a stage has already, or more for a stage whose successor was made from its winner.
    """
    with closing(RunStore(run / "trials.db", read_only=True)) as store, store.one_moment():
        begun, counts = {row.name: row for row in store.stages()}, store.counts()
    for stage, following in zip(plan, [*plan[1:], None], strict=True):
        there = counts.get(stage.name, 0)
        if stage.trials < there:
            raise InputError(
                f"stage {stage.name} of the run {run} has {there} trials already, but {stage.trials} are asked for"
            )
        if following is not None and following.name in begun and stage.trials > begun[stage.name].trials:
            raise InputError(
                f"stage {stage.name} of the run {run} keeps its {begun[stage.name].trials} trials, but {stage.trials}"
                f" are asked for: stage {following.name} has begun from its winner"
            )


def refuse_change(run: Path, now: dict[str, str], recorded: dict[str, str]) -> None:
    """Raises `InputError` where a fingerprint of what the scores depend on is not the recorded one."""
    for what in sorted(now.keys() & recorded.keys()):
        if now[what] != recorded[what]:
            why = (
                ""
                if what == "data"
                else " (the data are the same, but this version or machine computes others from them)"
            )
            raise InputError(
                f"the {what} of the run {run} changed since it began: its fingerprint is {now[what]}, was"
                f" {recorded[what]}{why}; start a new run"
            )
