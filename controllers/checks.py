"""What every controller checks alike: options, rewards and restored states."""

import math
from typing import Any

from search_spaces import InputError, SearchSpace

__all__ = ["check_number", "check_state", "check_whole", "finite"]


def check_whole(name: str, value: Any, least: int) -> int:
    """``value`` if it is an int of at least ``least`` that fits 64 bits; else an `InputError` with its name."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise InputError(f"{name} must be a whole number of at least {least} and below 2^63, got {value!r}")
    return value


def check_number(name: str, value: Any, least: float, most: float = math.inf, *, positive: bool = False) -> float:
    """``value`` as a float if it is finite and in [least, most], above 0 where ``positive``; else an `InputError`."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not least <= value <= most or (positive and value <= 0):
        low = "above 0" if positive else f"of at least {least:g}"
        high = "" if math.isinf(most) else f" and at most {most:g}"
        raise InputError(f"{name} must be a finite number {low}{high}, got {value!r}")
    return float(value)


def finite(reward: float | None) -> float | None:
    """``reward`` as a float, or None where it marks a failed trial: None, NaN or an infinity."""
    return float(reward) if reward is not None and math.isfinite(reward) else None


def check_state(state: dict[str, Any], controller: str, space: SearchSpace) -> None:
    """Raises `InputError` where ``state`` is of another controller or of another space."""
    for what, own in (("controller", controller), ("space", space.name)):
        if state.get(what) != own:
            raise InputError(f"the saved state is of {what} {state.get(what)!r}, this {what} is {own!r}")
