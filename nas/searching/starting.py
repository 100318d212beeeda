"""What a search starts from: known architectures, found once and kept in the run's settings, each by its choices."""

from collections.abc import Sequence
from typing import Any

from nas.building import find_architecture, is_run
from nas.run.reading import Run
from nas.settings.kinds import as_start
from search_spaces import Architecture, InputError, SearchSpace

__all__ = ["BEST", "found", "of_stages"]

BEST = 5  # of a run


def found(items: "Sequence[str | dict[str, Any]]") -> tuple[dict[str, Any], ...]:
    """The architectures that the setting ``start_from`` names, as it keeps them; those found already as they are.

    Args:
        items: published names, architecture files and runs, of which the `BEST` best are taken.

    Raises:
        InputError: nothing goes by that name, or the file or run is bad.
    """
    return tuple(plain for item in items for plain in (_found(item) if isinstance(item, str) else [item]))


def _found(what: str) -> list[dict[str, Any]]:
    try:
        best = Run(what).best(BEST) if is_run(what) else [find_architecture(what)]
    except InputError as error:
        raise InputError(f"setting 'start_from': {error}") from error
    return [as_start(what, each) for each in best]


def of_stages(space: SearchSpace, items: Sequence[dict[str, Any]]) -> list[list[Architecture]]:
    """What each stage of ``space`` starts from, in the order given, no network twice.

    A stage takes an architecture that answers all of its choices by its options: the whole of one of its own space, or
    its part of one that has more choices, as a decoder has those of the FPN and of the head.

    Args:
        space: what is searched.
        items: as `found` gives them.

    Raises:
        InputError: an architecture of another family of spaces, one of which no stage takes anything, or an option that
            a stage's choice does not have.
    """
    taken: list[dict[str, Architecture]] = [{} for _ in space.stages]
    for item in items:
        choices, none = item["choices"], True
        for stage, starts in zip(space.stages, taken, strict=True):
            own = {choice.name: choices[choice.name] for choice in stage.choices if choice.name in choices}
            if own and len(own) == len(stage) and item["task"] == stage.proxy_task:
                none = False
                architecture = _architecture(stage, own, item)
                starts.setdefault(architecture.key, architecture)
        if none:
            names = dict.fromkeys((space.name, *(stage.name for stage in space.stages)))
            raise InputError(
                f"setting 'start_from': {item['from']} is an architecture of {item['space']}, but {space.name} starts"
                f" from those of {' or '.join(names)}"
            )
    return [list(starts.values()) for starts in taken]


def _architecture(stage: SearchSpace, choices: dict[str, str], item: dict[str, Any]) -> Architecture:
    try:
        return stage.from_named(choices)
    except InputError as error:
        raise InputError(
            f"setting 'start_from': {item['from']} is an architecture of {item['space']} that {stage.name} does not"
            f" have: {error}"
        ) from error
