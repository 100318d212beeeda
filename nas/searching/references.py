"""What a search's winners are held against: the references of its family, and how each is scored."""

from typing import TYPE_CHECKING

from experiments import published
from experiments.families import family_of
from nas.run.confirmed import REFERENCE
from nas.run.rows import Contender
from search_spaces import Architecture, SearchSpace

if TYPE_CHECKING:
    from nas.searching.scoring import ScoringLoop
    from nas.searching.shared import Shared
    from proxy_tasks.task import ProxyTask

__all__ = ["contender_of", "reference_loop", "references"]


def contender_of(architecture: Architecture, name: str = "", trials: tuple[int, ...] = ()) -> Contender:
    """An architecture as the store keeps it."""
    return Contender(name, architecture.key, architecture.space.name, architecture.named, trials)


def references(whole: SearchSpace, task: "ProxyTask") -> list[Contender]:
    """The references of the family of ``whole`` that ``task`` can score, in the family's order."""
    found = []
    for name in family_of(whole).references:
        architecture = published.load(name) if name in published.names() else None
        if architecture is None:
            found.append(Contender(name))
        elif task.takes(architecture):
            found.append(contender_of(architecture, name))
    return found


def reference_loop(shared: "Shared", task: "ProxyTask") -> "ScoringLoop":
    """The loop that scores the references as a stage's trials are, from the search's seed.

    A reference that fails or diverges is a row with its reason, and the search goes on.
    """
    found = references(shared.settings.search_space(), task)
    shared.planned(REFERENCE, [(reference, shared.settings.seed) for reference in found])
    names = {row.number: row.contender.name for row in shared.store.scores(REFERENCE)}
    return shared.scoring(REFERENCE, lambda event: shared.display.reference(names[event.trial.id], event))
