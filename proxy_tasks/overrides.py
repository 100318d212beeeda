"""Changing single settings of a preset or a recipe, by name, each with its type checked."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from search_spaces import InputError

__all__ = ["PRETRAINED_RATE", "chosen", "overridden", "pretraining", "require", "require_at_least", "require_decay"]

Settings = TypeVar("Settings")
PRETRAINED_RATE = 1e-3
"""Of the one-cycle schedule on a small preset, for backbones that have weights already."""
_TRUTH = {"true": True, "false": False}


def chosen(
    presets: Mapping[str, Settings], preset: str, backbone: str | None, changes: Mapping[str, Any], whose: str
) -> Settings:
    """A preset's settings with the user's changes.

    Args:
        presets: the settings of each.
        preset: the name of one.
        backbone: its name, where the user gives it apart from ``changes``.
        changes: as in `overridden`.
        whose: as in `overridden`.

    Raises:
        InputError: no such preset or setting, or a value of the wrong type.
    """
    if preset not in presets:
        raise InputError(f"there is no preset {preset!r}; known: {', '.join(presets)}")
    named = {} if backbone is None else {"backbone": backbone}
    return overridden(presets[preset], {**named, **changes}, whose)


def pretraining(settings: Any) -> dict[str, Any]:
    """The settings named ``pretrain_*``: how what candidates are searched around is trained."""
    return {name: value for name, value in dataclasses.asdict(settings).items() if name.startswith("pretrain")}


def overridden(settings: Settings, values: Mapping[str, Any], whose: str) -> Settings:
    """``settings``, a dataclass of numbers, texts and truth values, with ``values`` instead of its own.

    Args:
        settings: a dataclass whose annotations give the types: a number, a text, a truth value, or one of them or None.
        values: the new values by name; a text is read as a number, or as ``true`` or ``false``, where one is needed.
        whose: what the settings belong to, for messages: ``"the FCOS proxy task"``.

    Raises:
        InputError: no such setting, or a value of the wrong type.
    """
    hints = get_type_hints(type(settings))
    known = {item.name: get_args(hints[item.name]) or (hints[item.name],) for item in dataclasses.fields(settings)}  # type: ignore[arg-type]
    checked = {}
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"{whose} has no setting {name!r}; known: {', '.join(known)}{hint}")
        (kind,) = (one for one in known[name] if one is not NoneType)
        checked[name] = None if value is None and NoneType in known[name] else _typed(name, value, kind)
    return dataclasses.replace(settings, **checked)  # type: ignore[type-var]


def _typed(name: str, value: Any, kind: type) -> Any:
    try:
        if kind is bool:
            return _TRUTH[str(value).lower()]
        if kind is not str and (isinstance(value, bool) or not math.isfinite(float(value))):
            raise ValueError(value)
        if kind is int and float(value) != int(float(value)):
            raise ValueError(value)
        return int(float(value)) if kind is int else kind(value)
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        expected = "true or false" if kind is bool else f"a value of type {kind.__name__}"
        raise InputError(f"setting {name!r} takes {expected}, got {value!r}") from error


def require(settings: object, positive: Iterable[str] = (), not_negative: Iterable[str] = ()) -> None:
    """Raises `InputError` where one of these numbers is out of range."""
    for name in positive:
        if not getattr(settings, name) > 0:
            raise InputError(f"setting {name!r} must be positive, got {getattr(settings, name)}")
    for name in not_negative:
        if not getattr(settings, name) >= 0:
            raise InputError(f"setting {name!r} must not be negative, got {getattr(settings, name)}")


def require_at_least(settings: object, name: str, least: int, unit: str) -> None:
    """Raises `InputError` where a number is less than ``least``; one that is left open, None, is not."""
    value = getattr(settings, name)
    if value is not None and value < least:
        raise InputError(f"setting {name!r} must be at least {least} {unit}, got {value}")


def require_decay(settings: object, name: str) -> None:
    """Raises `InputError` where the decay of a moving average is out of range."""
    value = getattr(settings, name)
    if not 0 <= value < 1:
        raise InputError(f"setting {name!r} must be in [0, 1), got {value}")
