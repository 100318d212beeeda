"""What a setting may be: for each kind its words and its check."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nas.settings.targets import parse_targets
from search_spaces.space import Architecture

__all__ = [
    "CONFIRM",
    "FLAG",
    "GPUS",
    "HOURS",
    "MAPPING",
    "MODULES",
    "PATH",
    "RUNS",
    "SECONDS",
    "STARTS",
    "TARGETS",
    "TEXT",
    "TRIALS",
    "WEIGHTS",
    "Kind",
    "as_start",
    "one_of",
    "whole",
]


class Kind(NamedTuple):
    """What a setting may be: in words, and as a function that returns the value or raises ValueError."""

    expected: str
    parse: Callable[[Any], Any]
    is_text: bool = False


def _text_value(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _path_value(value: Any) -> str:
    return str(Path(_text_value(value)).expanduser().resolve())


def _weights_value(value: Any) -> str:
    return value if value in ("default", "none") else _path_value(value)


def _trials_value(value: Any) -> tuple[int, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        items = [int(item) for item in value.split(",")]
    if not items:
        raise ValueError
    return tuple(whole(1).parse(item) for item in items)


OFF = (0, 0)
"""Confirm nothing."""


def _confirm_value(value: Any) -> tuple[int, int]:
    if value in (0, "0", OFF, list(OFF)):
        return OFF
    candidates, seeds = _trials_value(value)
    return candidates, seeds


def _modules_value(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(name, str) and all(part.isidentifier() for part in name.split(".")) for name in names):
        raise ValueError
    return tuple(names)


def _start_value(value: Any) -> tuple[Any, ...]:
    items = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    return tuple(_start_item(item) for item in items)


def as_start(origin: str, architecture: Architecture) -> dict[str, Any]:
    """An architecture as the setting ``start_from`` keeps it: by the names of its choices, and where it is from."""
    space = architecture.space
    return {"from": origin, "space": space.name, "task": space.proxy_task, "choices": architecture.named}


def _start_item(item: Any) -> Any:
    if isinstance(item, Architecture):
        return as_start("an architecture", item)
    if not isinstance(item, dict):
        return _text_value(item)
    if item.keys() != {"from", "space", "task", "choices"} or not isinstance(item["choices"], dict):
        raise ValueError
    return item


def _runs_value(value: Any) -> tuple[str, ...]:
    paths = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    return tuple(_path_value(path) for path in paths)


def _positive_value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError
    return float(value)


def _gpus_value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError
    if value > 1 and value != int(value):
        raise ValueError
    return float(value)


def _mapping_value(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError
    return dict(value)


def _flag_value(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def whole(minimum: int) -> Kind:
    """Whole numbers from ``minimum`` on."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError
        return value

    return Kind(f"a whole number of at least {minimum}", parse)


def one_of(*options: str) -> Kind:
    """One of a few words."""

    def parse(value: Any) -> str:
        if value not in options:
            raise ValueError
        return str(value)

    return Kind("one of " + ", ".join(options), parse, is_text=True)


TEXT = Kind("a text", _text_value, is_text=True)
PATH = Kind("a path", _path_value, is_text=True)
WEIGHTS = Kind("default, none or a file", _weights_value, is_text=True)
TRIALS = Kind("a whole number of at least 1, or one a stage as in 30,15", _trials_value, is_text=True)
CONFIRM = Kind("two whole numbers of at least 1, as in 5,3, or 0", _confirm_value, is_text=True)
MODULES = Kind("module names, as in mine,yours", _modules_value, is_text=True)
STARTS = Kind("names, architecture files or runs, as in nas_fcos_head,runs/mine", _start_value, is_text=True)
RUNS = Kind("the directories of runs, as in runs/one,runs/two", _runs_value, is_text=True)
GPUS = Kind("a number of GPUs: 0, a fraction below 1 or a whole number", _gpus_value)
HOURS = Kind("a number of hours above 0", _positive_value)
SECONDS = Kind("a number of seconds above 0", _positive_value)
MAPPING = Kind("a mapping of names to values", _mapping_value)
TARGETS = Kind("COST=VALUE, as in macs=0.1G", parse_targets, is_text=True)
FLAG = Kind("true or false", _flag_value)
