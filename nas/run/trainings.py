"""Full trainings of what a run found: where their weights lie."""

from collections.abc import Iterable
from pathlib import Path

from nas.run.rows import PromotionRow
from search_spaces import InputError

__all__ = ["WEIGHTS", "trained_weights"]

WEIGHTS = "weights.safetensors"
"""The file in a training's folder that is written when it is finished."""


def trained_weights(run: Path, key: str, promotions: Iterable[PromotionRow]) -> Path | None:
    """The weights that the full training of an architecture ended with, None where there was no training.

    Those in the run's own folder count before the recorded places, which of a run that was moved or copied are the
    former ones.

    Args:
        run: the run's directory.
        key: the architecture's.
        promotions: of the run's store.

    Raises:
        InputError: there are several, or they are gone.
    """
    recorded = [Path(row.place) for row in promotions if row.key == key and row.status == "done"]
    own = [file.parent for file in (run / "promoted").glob(f"{key}*/{WEIGHTS}")]
    names = {place.name for place in own}
    places = [*own, *(place for place in recorded if place.name not in names)]
    found = sorted({file.resolve() for place in places if (file := place / WEIGHTS).is_file()})
    if len(found) > 1:
        listed = " or ".join(map(str, found))
        raise InputError(f"the architecture {key} was trained in full more than once; choose by the weights: {listed}")
    if recorded and not found:
        raise InputError(f"the architecture {key} was trained in full in {recorded[-1]}, where its {WEIGHTS} is gone")
    return found[0] if found else None
