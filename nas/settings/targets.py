"""What an architecture may cost: targets as they are given, and the reward that a search has in view under them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.errors import InputError

__all__ = ["COSTS", "LATENCY", "TOLD", "WEIGHT", "Targets", "amount", "cost_text", "parse_targets"]

LATENCY = "latency_ms"
COSTS = {"params": ("params", 1e6, "M"), "macs": ("MACs", 1e9, "G"), LATENCY: ("latency", 1.0, "ms")}
"""What may be bounded: metrics of a score, each with its name in tables, and the unit that they show it in."""
TOLD = "told"
"""The metric that has the reward told to the controller, where that is not the task's own."""
WEIGHT = 10.0
"""Each per cent above a target makes a reward ten per cent worse (measured with ``benchmarks/target_weight.py``)."""

_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Targets:
    """Upper bounds on what an architecture costs, of which a search is told softly.

    Args:
        limits: by cost, each above 0; none leaves rewards as they are.
        weight: how many times the relative excess of a cost counts.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    weight: float = WEIGHT

    def __bool__(self) -> bool:
        return bool(self.limits)

    def missing(self, metrics: Mapping[str, float]) -> str | None:
        """The first cost with a target that has no finite figure among ``metrics``; None where all have one."""
        return next((cost for cost in self.limits if not math.isfinite(metrics.get(cost, math.nan))), None)

    def met(self, metrics: Mapping[str, float]) -> bool:
        """Whether no cost is above its target; one that has no figure is."""
        return all(metrics.get(cost, math.nan) <= limit for cost, limit in self.limits.items())

    def told(self, reward: float, metrics: Mapping[str, float]) -> float:
        """``reward`` made worse by the factor 1 + ``weight`` x (cost / target - 1) for each cost above its target.

        A positive reward is divided by it, a negative one multiplied; ``docs/method.md`` says why. Close to the target
        that is the constraint of MnasNet (Tan et al. 2019, eq. 2), (cost / target) ** -``weight``, farther off it is
        gentler.

        Args:
            reward: the task's own, finite, of any sign.
            metrics: its figures; none may be `missing`.
        """
        excesses = (max(0.0, metrics[cost] / limit - 1) for cost, limit in self.limits.items())
        factor = math.prod(1 + self.weight * excess for excess in excesses)
        return reward / factor if reward > 0 else reward * factor

    def __str__(self) -> str:
        return ", ".join(f"{cost}={amount(limit)}" for cost, limit in self.limits.items())


def parse_targets(value: Any) -> dict[str, float]:
    """Targets by cost.

    Args:
        value: a mapping of costs to numbers or texts, texts ``COST=VALUE``, or one text with commas between them. The
            text of a value may end in k, M, G or T: ``0.1G``.

    Raises:
        InputError: a cost is unknown or given twice, or a value is no number above 0.
        ValueError: it is none of these things.
    """
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    else:
        texts = value.split(",") if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        pairs = [_pair(text.strip()) for text in texts]
    targets: dict[str, float] = {}
    for cost, limit in pairs:
        if cost not in COSTS:
            raise InputError(f"there is no cost {cost!r} to give a target for; known: {', '.join(COSTS)}")
        if cost in targets:
            raise InputError(f"the target of {cost} is given twice")
        targets[cost] = _limit(cost, limit)
    return targets


def _pair(text: str) -> tuple[str, str]:
    cost, equals, limit = text.partition("=")
    if not (cost and equals and limit):
        raise InputError(f"a target is COST=VALUE, as in macs=0.1G, got {text!r}")
    return cost, limit


def _limit(cost: str, value: Any) -> float:
    unit = 1.0
    if isinstance(value, str) and value[-1:] in _UNITS:
        value, unit = value[:-1], _UNITS[value[-1]]
    try:
        limit = math.nan if isinstance(value, bool) else float(value) * unit
    except (TypeError, ValueError):
        limit = math.nan
    if not 0 < limit < math.inf:
        raise InputError(f"the target of {cost} must be a number above 0, as in 200k, 25M or 0.1G, got {value!r}")
    return limit


def amount(value: float) -> str:
    """A number as targets are given: 100000000.0 is ``100M``; every digit that matters is there."""
    sign, unit = next(((s, u) for s, u in reversed(_UNITS.items()) if abs(value) >= u), ("", 1.0))
    text = f"{value / unit:.12g}{sign}"
    return text if "e" not in text else repr(value)


def cost_text(cost: str, metrics: Mapping[Any, float]) -> str:
    """One of the `COSTS` of a score as tables show it, ``0.123 G``; empty where it has none."""
    _, unit, name = COSTS[cost]
    value = metrics.get(cost, math.nan)
    return "" if math.isnan(value) else f"{value / unit:.3f} {name}"
