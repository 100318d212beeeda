"""Published architectures by name, each stored as an architecture file in ``published/``."""

from pathlib import Path

from search_spaces import Architecture, InputError

__all__ = ["load", "names"]

_FOLDER = Path(__file__).with_suffix("")


def names() -> tuple[str, ...]:
    """The names of all published architectures."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def load(name: str) -> Architecture:
    """The published architecture called ``name``; raises `InputError` that lists the names where there is none."""
    if name not in names():
        raise InputError(f"there is no published architecture {name!r}; known: {', '.join(names())}")
    return Architecture.load(_FOLDER / f"{name}.json")
