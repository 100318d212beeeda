"""Full-training configurations: a recipe is a YAML file of settings, its ``kind`` says what is trained.

The published ones lie here and go by their names; one of your own is a file with the same keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.promotion import RecipeKind
from proxy_tasks.overrides import overridden
from search_spaces import InputError, Registry

__all__ = ["KINDS", "Recipe", "load", "names", "register"]

_FOLDER = Path(__file__).parent
KINDS = Registry(
    "kind of recipe",
    {
        "detector": "experiments.fcos.promotion:DETECTORS",
        "masks": "experiments.masks.promotion:MASKS",
        "static": "experiments.video.promotion:STATIC",
        "video": "experiments.video.promotion:CELLS",
    },
)


@dataclass(frozen=True)
class Recipe:
    """A recipe, read and checked.

    Args:
        name: a published recipe's, or the stem of its file's name.
        kind: its kind's name.
        settings: an instance of the kind's settings.
        as_published: whether it is a published recipe of which nothing was changed.
    """

    name: str
    kind: str
    settings: Any
    as_published: bool = False

    @property
    def how(self) -> RecipeKind:
        """What its kind does."""
        kind: RecipeKind = KINDS.get(self.kind)
        return kind


def register(name: str, kind: RecipeKind) -> RecipeKind:
    """Makes a kind of recipe of your own known; refuses a name that is taken."""
    KINDS.register(name, kind)
    return kind


def names() -> tuple[str, ...]:
    """The names of all published recipes."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load(what: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called ``what``, or in the YAML file ``what``, with single settings changed.

    Raises:
        InputError: no such recipe, not a recipe, or a setting that is unknown or out of range.
    """
    published = what in names()
    path = _FOLDER / f"{what}.yaml" if published else Path(what)
    if not path.is_file():
        raise InputError(f"there is no recipe {what!r}; known: {', '.join(names())}, or a YAML file of your own")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the recipe {path} cannot be read: {reason}") from error
    content = {str(name): value for name, value in content.items()} if isinstance(content, dict) else {}
    kind = content.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS.names():
        known = " or ".join(KINDS.names())
        raise InputError(f"{path}: a recipe is a YAML mapping whose key 'kind' is {known}, got {kind!r}")
    try:
        settings = overridden(KINDS.get(kind).settings(), content, f"a {kind} recipe")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    changed = overridden(settings, changes or {}, f"the recipe {what}")
    return Recipe(path.stem, kind, changed, published and changed == settings)
