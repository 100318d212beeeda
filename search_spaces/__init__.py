"""What can be built: choices, genotypes, and the modules they stand for."""

from search_spaces.errors import InputError
from search_spaces.registry import SPACES, Registry
from search_spaces.space import Architecture, Choice, SearchSpace

__all__ = ["Architecture", "Choice", "InputError", "Registry", "SearchSpace", "get", "names", "register"]

names = SPACES.names


def get(name: str) -> SearchSpace:
    """The search space called ``name`` (``"module:ATTRIBUTE"`` imports one of your own)."""
    space: SearchSpace = SPACES.get(name)
    return space


def register(space: SearchSpace) -> SearchSpace:
    """Makes a space of your own known by its name; refuses a name that is taken."""
    SPACES.register(space.name, space)
    return space
