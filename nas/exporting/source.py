"""What is exported, and what is known about it."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.building import find_architecture, is_run
from nas.run.ranking import Ranked
from nas.run.reading import Run
from nas.run.store import RunStore
from nas.run.trainings import trained_weights
from nas.settings.targets import COSTS
from search_spaces import Architecture, InputError

__all__ = ["Source", "find_front", "find_source"]


@dataclass(frozen=True)
class Source:
    """An architecture that is to be exported.

    Args:
        name: begins the names of its files.
        architecture: itself.
        folder: where the files go unless another folder is asked for.
        space: the name by which the registry finds the space; ``MODULE:ATTRIBUTE`` for one of the user's own.
        provenance: where the architecture comes from, for its JSON file.
        modules: the user's own, which register what the space or the network needs.
        run: that found it.
    """

    name: str
    architecture: Architecture
    folder: Path
    space: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    run: Run | None = None

    @property
    def data(self) -> str | None:
        """The dataset of the search."""
        return None if self.run is None else self.run.settings.data

    def weights(self) -> Path | None:
        """The weights that a full training of the architecture ended with, None where there was none.

        Raises:
            InputError: there are several, or they are gone.
        """
        if self.run is None:
            return None
        with closing(RunStore(self.run.path / "trials.db", read_only=True)) as store:
            return trained_weights(self.run.path, self.architecture.key, store.promotions())


def find_source(what: str, rank: int | None) -> Source:
    """What a run's directory, an architecture file or a published name stands for.

    Args:
        what: one of these.
        rank: which of a run's architectures is meant: the ``rank``-th best, counted from 1; None is the best.

    Raises:
        InputError: nothing goes by that name, a file or a run is bad, or there is no such rank.
    """
    path = Path(what)
    if is_run(what):
        return _of_run(path, rank or 1)
    if rank is not None:
        raise InputError(f"--rank chooses among a run's trials, but {what!r} is not a run")
    architecture = find_architecture(what)
    named = path.suffix != ".json" and not path.is_file()
    return Source(what if named else architecture.key, architecture, Path(), architecture.space.name)


def find_front(what: str, cost: str) -> list[Source]:
    """The front of a run, best reward first; their files' names begin with ``front-`` and the rank.

    Args:
        what: the run's directory.
        cost: what the reward is held against; see `nas.run.reading.Run.front`.

    Raises:
        InputError: it is no run, or has no such front.
    """
    if not is_run(what):
        raise InputError(f"--pareto exports the front of a run, but {what!r} is not a run")
    run = Run(what)
    found = run.front_with_trials(cost)
    digits = len(str(len(found)))
    return [
        _source(run, f"front-{rank:0{digits}}-{architecture.key}", architecture, trials)
        for rank, (architecture, trials) in enumerate(found, 1)
    ]


def _of_run(path: Path, rank: int) -> Source:
    run = Run(path)
    best = run.best_with_trials(rank)
    if len(best) < rank:
        raise InputError(f"the run {path} has {len(best)} different architectures that are done, so no rank {rank}")
    architecture, trials = best[rank - 1]
    return _source(run, architecture.key, architecture, trials)


def _source(run: Run, name: str, architecture: Architecture, trials: Sequence[Ranked]) -> Source:
    last, fingerprints = trials[-1], run.record.fingerprints.values()
    provenance = {
        "run": run.path.absolute().name,
        "trials": [trial.number for trial in trials],
        "reward": last.reward,
        **{cost: last.metrics[cost] for cost in COSTS if math.isfinite(last.metrics.get(cost, math.nan))},
        "data": next((stage["data"] for stage in fingerprints if "data" in stage), None),
    }
    own = run.settings.space
    whole = run.settings.search_space().name  # what is confirmed may be of its first stage alone
    space = own if ":" in own and architecture.space.name == whole else architecture.space.name
    return Source(name, architecture, run.path / "exported", space, provenance, run.settings.imports, run)
