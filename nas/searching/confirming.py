"""Confirmation: the best of all stages and the references are trained again, jointly, from seeds that no trial had.

A trial is one training from one seed, of one stage. The best of many is partly the luckiest, and the rewards of
different stages are not measured alike. Here every contender is trained whole, in one task, from the same few seeds;
the one with the best mean is the winner. Loss and metric are both measured, since they may disagree.
"""

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from nas.run.confirmed import CONFIRMATION, REFERENCE, confirmation_seeds
from nas.run.ranking import Ranked, rank
from nas.run.rows import Contender
from nas.run.store import RunStore
from nas.searching import kept
from nas.searching.plan import Stage, make_plan, task_factory
from nas.searching.references import contender_of, references
from nas.searching.shared import Shared
from nas.settings import SearchSettings
from search_spaces import Architecture, SearchSpace

if TYPE_CHECKING:
    from proxy_tasks.task import ProxyTask

__all__ = ["SHARE", "Size", "affordable", "candidates", "chosen", "confirm", "confirming_task"]

SHARE = 0.2  # of the search's time, which confirmation takes at most, unless its least takes more
SOME = 3  # candidates, which are worth more than a second reference: a stage's best score is often the luckiest one
FEWEST = 2  # candidates, below which there is nothing to choose among, and seeds, below which there is no deviation


@dataclass(frozen=True)
class Size:
    """How much is confirmed: the first so many candidates and references, from the first so many seeds."""

    candidates: int
    references: int
    seeds: int


def confirming_task(settings: SearchSettings, run: Path | None = None) -> "Callable[[], ProxyTask]":
    """Makes the task over the whole space that is searched, which measures all metrics; as `task_factory`'s.

    Args:
        settings: resolved.
        run: the run whose trained parts it takes; None is none.
    """
    whole = Stage(CONFIRMATION, settings.search_space(), 0)
    if run is None:
        return task_factory(whole, settings, None, all_metrics=True)
    return task_factory(whole, kept.with_kept(run, settings), None, kept.folder(run), all_metrics=True)


def confirm(shared: Shared) -> bool:
    """Confirms the best of a search whose stages are finished; returns False where time is up before.

    What was confirmed before, by the same seeds, counts on.
    """
    settings, store = shared.settings, shared.store
    if settings.confirmation is None:
        return True
    count, seeds = settings.confirmation
    whole, make_task = settings.search_space(), confirming_task(settings, shared.run)
    task = make_task()
    starts = {architecture.key for architecture in make_plan(settings)[0].start}
    found = chosen(candidates(whole, store, task.takes), count, starts)
    against = references(whole, task)
    if len(found) + len(against) < FEWEST:
        return True
    wanted = Size(len(found), len(against), seeds)
    # who says how much gets it, however long it takes
    can = wanted if settings.confirm else affordable(store, wanted, against)
    contenders = [*found[: can.candidates], *against[: can.references]]
    plan = [(contender, seed) for seed in confirmation_seeds(settings.seed, can.seeds) for contender in contenders]
    open_rows = shared.planned(CONFIRMATION, plan)
    if open_rows and can != wanted:
        shared.display.say(
            f"Confirming {can.candidates} of {wanted.candidates} candidates and {can.references} of {len(against)}"
            f" references from {can.seeds} of {seeds} seeds each: more would take over {SHARE:.0%} of the search's"
            " time; --confirm asks for more"
        )
    return not open_rows or shared.score(CONFIRMATION, make_task)


def candidates(whole: SearchSpace, store: RunStore, takes: Callable[[Architecture], bool]) -> Iterator[Contender]:
    """What may be confirmed, best first: the done trials of all stages, each network once.

    The rewards of different stages are not measured alike, so ranks are interleaved: the best of the first stage, the
    best of the last, the second of the first (another pyramid, which the second of the last is not), and so on. A trial
    of the last stage is joined with the winners that its stage was searched with; one of the first stands alone (a
    pyramid under the standard head). Those of stages between are no whole networks, and are left out.

    Args:
        whole: the space that is searched.
        store: of a search whose stages are finished.
        takes: whether the task that confirms can score an architecture.
    """
    ranked = [rank(store.trials(space.name)) for space in whole.stages]
    before = [trials[0] for trials in ranked[:-1]]

    def joined(last: Ranked) -> tuple[Architecture, list[Ranked]]:
        trials = [*before, last]
        parts = [space.from_named(trial.choices) for space, trial in zip(whole.stages, trials, strict=True)]
        return whole.joined(parts), trials

    def alone(first: Ranked) -> tuple[Architecture, list[Ranked]]:
        return whole.stages[0].from_named(first.choices), [first]

    lists = [*([map(alone, ranked[0])] if before else []), map(joined, ranked[-1])]
    seen = set()
    for architecture, trials in filter(None, chain.from_iterable(zip_longest(*lists))):
        if architecture.key not in seen and takes(architecture):
            seen.add(architecture.key)
            yield contender_of(architecture, trials=tuple(trial.number for trial in trials))


def chosen(ranked: Iterable[Contender], count: int, starts: Collection[str]) -> list[Contender]:
    """The best ``count``, and among them, after the first, the best of those that the search started from.

    Whoever starts from a known architecture wants to know whether the search has gone beyond it; and it may win.

    Args:
        ranked: best first.
        count: how many.
        starts: the keys of what the search started from.
    """
    best = list(ranked)
    places = [place for place, one in enumerate(best) if one.key in starts]
    if places:
        best.insert(min(1, places[0]), best.pop(places[0]))
    return best[:count]


def affordable(store: RunStore, wanted: Size, against: Sequence[Contender]) -> Size:
    """As much of what is wanted as can be confirmed in `SHARE` of the search's time, or else the least.

    Candidates are given up first, down to `SOME`, then all references but the family's first, then candidates and last
    seeds, down to `FEWEST`. The search's time is that inside all its trials. A candidate is taken to cost the mean time
    of a done trial, of the stage whose trials take longest; a reference what it took before the search, or else as much
    as a candidate.
    """
    trials = store.trials()
    left = SHARE * math.fsum(row.seconds or 0.0 for row in trials)
    done: dict[str, list[float]] = {}
    for row in trials:
        if row.status == "done":
            done.setdefault(row.stage, []).append(row.seconds or 0.0)
    # where all scores are reused nobody knows what one costs
    one = max(map(statistics.fmean, done.values()), default=math.inf)
    took = {row.contender.name: row.seconds for row in store.scores(REFERENCE) if row.status == "done"}
    references = [took.get(reference.name) or one for reference in against]
    for size in _sizes(wanted):
        if size.seeds * (size.candidates * one + math.fsum(references[: size.references])) <= left:
            break
    return size


def _sizes(wanted: Size) -> Iterator[Size]:
    """What is wanted and all that is less, in the order in which it is given up."""
    some, least = min(SOME, wanted.candidates), min(FEWEST, wanted.candidates)
    first = min(1, wanted.references)
    for count in range(wanted.candidates, some - 1, -1):
        yield replace(wanted, candidates=count)
    for count in range(some, least - 1, -1):
        yield Size(count, first, wanted.seeds)
    for seeds in range(wanted.seeds, min(FEWEST, wanted.seeds) - 1, -1):
        yield Size(least, first, seeds)
