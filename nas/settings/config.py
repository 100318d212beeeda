"""Settings from a YAML file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from nas.settings.search import checked, setting_field
from nas.settings.yaml_text import Loader, load_yaml
from search_spaces.errors import InputError

__all__ = ["read_config"]


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file, checked one by one.

    Raises:
        InputError: the file cannot be read or is not a YAML mapping, or a key is unknown, given twice or has a wrong
            value; the message begins with the file and the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the settings file {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    values = load_yaml(text, str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: a settings file is a YAML mapping, got {type(values).__name__}")
    seen: set[str] = set()
    for name, line in _keys(text):
        try:
            if name in seen:
                raise InputError(f"setting {name!r} is given twice")
            seen.add(name)
            checked(setting_field(name), values[name])
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
    return values


def _keys(text: str) -> Iterable[tuple[str, int]]:
    """The top-level keys of a YAML mapping with their lines, counted from 1."""
    node = yaml.compose(text, Loader=Loader)
    assert isinstance(node, yaml.MappingNode)
    return [(str(key.value), key.start_mark.line + 1) for key, _ in node.value]
