"""Full-training configurations: a recipe is a YAML file of settings, its ``kind`` says what is trained.

The published ones lie here and go by their names; one of your own is a file with the same keys.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.video.recipe import StaticRecipe, VideoRecipe
from proxy_tasks.overrides import overridden
from search_spaces import InputError

__all__ = ["Recipe", "load", "names"]

_FOLDER = Path(__file__).parent


Recipe = StaticRecipe | VideoRecipe
_KINDS: dict[str, type[Recipe]] = {"static": StaticRecipe, "video": VideoRecipe}


def names() -> tuple[str, ...]:
    """The names of all published recipes."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load(what: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called ``what``, or in the YAML file ``what``, with single settings changed.

    Raises:
        InputError: no such recipe, not a recipe, or a setting that is unknown or out of range.
    """
    path = _FOLDER / f"{what}.yaml" if what in names() else Path(what)
    if not path.is_file():
        raise InputError(f"there is no recipe {what!r}; known: {', '.join(names())}, or a YAML file of your own")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the recipe {path} cannot be read: {reason}") from error
    content = {str(name): value for name, value in content.items()} if isinstance(content, dict) else {}
    kind = content.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InputError(f"{path}: a recipe is a YAML mapping whose key 'kind' is {' or '.join(_KINDS)}, got {kind!r}")
    try:
        recipe = overridden(_KINDS[kind](), content, f"a {kind} recipe")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return overridden(recipe, changes or {}, f"the recipe {what}")
