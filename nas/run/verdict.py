"""What confirmation says in plain words: the winner beside each reference."""

import math
from collections.abc import Sequence

from nas.run.confirmed import Difference, Standing, difference

__all__ = ["against", "measures", "verdicts", "winner"]


def measures(reward: str | None, measure: str) -> dict[str, str]:
    """What contenders are measured in beside each other: one of `nas.run.confirmed.BY`, and how it is called.

    Args:
        reward: what the search's reward is, ``"loss"``, ``"metric"`` or another.
        measure: the name of the family's metric; empty where it has none.
    """
    names = {"reward": "reward", "loss": "negative loss", "metric": measure}
    return {by: name for by, name in names.items() if name and by != reward}


def winner(standings: Sequence[Standing]) -> Standing | None:
    """The best of what was found; None where nothing that was found could be compared."""
    return next((standing for standing in standings if standing.found and not standing.reason), None)


def against(standings: Sequence[Standing], by: str) -> list[tuple[Standing, Difference]]:
    """The references that could be compared, in their order, each with how much higher the winner scores."""
    best = winner(standings)
    if best is None:
        return []
    others = [standing for standing in standings if not standing.found and not standing.reason]
    return [(other, difference(best.values(by), other.values(by))) for other in others]


def verdicts(standings: Sequence[Standing], named: dict[str, str]) -> list[str]:
    """One sentence for each reference on how the winner compares with it; one on why there is no winner.

    Args:
        standings: best first.
        named: as `measures` gives them.
    """
    if not standings:
        return []
    best = winner(standings)
    if best is None:
        reasons = [standing.reason for standing in standings if standing.found]
        return [f"No winner is confirmed: {reasons[0]}."] if reasons else []
    first = {standings[0].by: named.get(standings[0].by, ""), **named}
    sentences = []
    for place, (reference, _) in enumerate(against(standings, best.by)):
        parts: list[str] = []
        for by, name in first.items():
            _, compared = against(standings, by)[place]
            if not math.isnan(compared.mean):
                parts.append(f"{_compared(compared, reference.contender.name if not parts else 'it')} in {name}")
        sentences.append(f"The winner is {' and '.join(parts)}{_cost(best, reference)}.")
    sentences += [
        f"The winner cannot be compared with {standing.contender.name}: {standing.reason}."
        for standing in standings
        if standing.reason and not standing.found
    ]
    return sentences


def _compared(found: Difference, name: str) -> str:
    mean = round(found.mean, 4)  # as it is shown
    side = "above" if mean > 0 else "below" if mean < 0 else "level with"
    if math.isnan(found.error):
        return f"{side} {name} by {abs(mean):.4f} (from one seed)" if mean else f"level with {name}"
    return f"{side} {name} by {abs(mean):.4f} ± {found.error:.4f} (chance of being above {_chance(found.chance)})"


def _chance(value: float) -> str:
    """No chance is certain."""
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else f"{value:.2f}"


def _cost(best: Standing, reference: Standing) -> str:
    own, its = best.cost("macs"), reference.cost("macs")
    if math.isnan(own) or math.isnan(its):
        return ""
    return f", at {own / its:.2f} of its MACs" if its else ", which takes no MACs"
