"""De-duplication: a network is proposed once, whichever of its spellings comes up, as long as others are left."""

from collections.abc import Iterable
from typing import Any, TypeVar

from search_spaces import Architecture

__all__ = ["MUTATIONS", "UNIFORM_DRAWS", "SeenKeys"]

MUTATIONS = 20  # tries before a child is drawn uniformly instead
UNIFORM_DRAWS = 100  # tries before the space counts as exhausted and a duplicate is let through
_CHUNK = 100  # keys in a saved part: 2 kB
T = TypeVar("T")


class SeenKeys:
    """The keys of all architectures proposed so far.

    They are saved in chunks, ``seen.0``, ``seen.1`` and so on, of which only the last one still grows: what a trial
    writes does not grow with the number of trials.
    """

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._chunks: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def first_unseen(self, draws: Iterable[Architecture]) -> Architecture:
        """The first of ``draws`` not seen yet, or the last one where all are; it is seen from then on.

        Args:
            draws: at least one; taken one by one, so that a generator draws no more than needed.
        """
        return self.first_unseen_with((architecture, None) for architecture in draws)[0]

    def first_unseen_with(self, draws: Iterable[tuple[Architecture, T]]) -> tuple[Architecture, T]:
        """As `first_unseen`, for draws that something comes with."""
        for draw in draws:
            if draw[0].key not in self._keys:
                self._add(draw[0].key)
                break
        return draw

    def _add(self, key: str) -> None:
        self._chunks.setdefault(f"seen.{len(self._keys) // _CHUNK}", []).append(key)
        self._keys.add(key)

    @property
    def last_part(self) -> str:
        """The name of the chunk that was added to last; ``seen.0`` before any."""
        return f"seen.{max(len(self._keys) - 1, 0) // _CHUNK}"

    @property
    def parts(self) -> dict[str, list[str]]:
        """The chunks by name."""
        return self._chunks

    def load(self, state: dict[str, Any]) -> None:
        """Takes the keys from the chunks in a state, or from the single list ``seen`` of the former format."""
        numbers = range(sum(name.startswith("seen.") for name in state))
        keys = [key for number in numbers for key in state[f"seen.{number}"]]
        self._keys, self._chunks = set(), {}
        for key in [*state.get("seen", []), *keys]:
            self._add(key)
