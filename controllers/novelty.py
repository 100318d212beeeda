"""De-duplication: a network is proposed once, whichever of its spellings comes up, as long as others are left."""

from collections.abc import Iterable

from search_spaces import Architecture

__all__ = ["MUTATIONS", "UNIFORM_DRAWS", "first_unseen"]

MUTATIONS = 20  # tries before a child is drawn uniformly instead
UNIFORM_DRAWS = 100  # tries before the space counts as exhausted and a duplicate is let through


def first_unseen(draws: Iterable[Architecture], seen: set[str]) -> Architecture:
    """The first of ``draws`` whose key is not in ``seen``, or the last one where all are; its key is added.

    Args:
        draws: at least one; taken one by one, so that a generator draws no more than needed.
        seen: keys of all architectures proposed so far; updated.
    """
    for architecture in draws:
        if architecture.key not in seen:
            break
    seen.add(architecture.key)
    return architecture
