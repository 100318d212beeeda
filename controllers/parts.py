"""Which parts of a controller's state have to be saved; see `controllers.base.PartwiseController`."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["PartLog"]


class PartLog:
    """Remembers which parts were saved, and which of them have changed since."""

    def __init__(self) -> None:
        self._saved: set[str] = set()
        self._changed: set[str] = set()

    def mark(self, *names: str) -> None:
        """Notes that the parts called ``names`` have changed; a part that is new or gone need not be marked."""
        self._changed.update(names)

    def restart(self, saved: Iterable[str]) -> None:
        """Forgets all: the parts called ``saved`` are what is stored, and each of them counts as changed."""
        self._saved = set(saved)
        self._changed = set(saved)

    def take(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Those of ``parts`` that are new or marked, and None for each that is gone; they count as saved."""
        gone = dict.fromkeys(self._saved - parts.keys())
        fresh = {name: part for name, part in parts.items() if self._is_fresh(name)}
        self._saved, self._changed = set(parts), set()
        return fresh | gone

    def _is_fresh(self, name: str) -> bool:
        return name in self._changed or name not in self._saved
