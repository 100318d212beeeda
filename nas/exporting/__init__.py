"""Architectures as files that other programs read: torch modules with their weights, and ONNX graphs."""

import importlib.util

from search_spaces.errors import InputError

__all__ = ["check_installed"]

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_installed() -> None:
    """Raises `InputError` where a package that ONNX needs is not installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'writing ONNX needs {" and ".join(missing)}: pip install "dense-nas[onnx]"')
