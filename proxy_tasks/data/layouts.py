"""Which reader a folder is for."""

from pathlib import Path
from typing import Any

from search_spaces import InputError, Registry

__all__ = ["recognised"]


def recognised(root: Path, layouts: Registry) -> Any:
    """The one reader of ``layouts`` that recognises the folder ``root``; raises `InputError` where there is not one."""
    if not root.is_dir():
        fault = f"{root} is not a folder" if root.exists() else f"there is no folder {root}"
        raise InputError(f"{fault}; a dataset's path is the folder that holds it")
    readers = [layouts.get(name) for name in layouts.names()]
    fitting = [reader for reader in readers if reader.recognise(root)]
    if not fitting:
        known = "; or ".join(f"{reader.layout} ({reader.looks_for})" for reader in readers)
        raise InputError(f"{root} has no known {layouts.what}; looked for {known}")
    if len(fitting) > 1:
        found = " and ".join(reader.layout for reader in fitting)
        raise InputError(f"{root} has more than one {layouts.what}, {found}; give each dataset a folder of its own")
    return fitting[0]
