"""Architectures as files that other programs read: torch modules with their weights, and ONNX graphs."""

import importlib.util
from contextlib import closing
from pathlib import Path

from nas.run.store import RunStore
from search_spaces.errors import InputError

__all__ = ["check_installed", "promoted_weights"]

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_installed() -> None:
    """Raises `InputError` where a package that ONNX needs is not installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'writing ONNX needs {" and ".join(missing)}: pip install "dense-nas[onnx]"')


def promoted_weights(run: Path, key: str) -> Path | None:
    """The weights that a full training of this run's architecture ended with, None where there was none.

    Raises:
        InputError: there are several.
    """
    with closing(RunStore(run / "trials.db", read_only=True)) as store:
        places = [Path(row.place) for row in store.promotions() if row.key == key and row.status == "done"]
    places += [path.parent for path in (run / "promoted").absolute().glob(f"{key}*/weights.safetensors")]
    found = sorted({path for place in places if (path := place / "weights.safetensors").is_file()})
    if len(found) > 1:
        listed = " and ".join(str(path) for path in found)
        raise InputError(f"the architecture was trained in full more than once: give {listed} as --weights")
    return found[0] if found else None
