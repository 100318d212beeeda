"""Statistics of runs: what a search sampled, what it learnt, what each option is worth, and where the time went.

The names below are imported when first asked for, so that importing this package loads nothing heavy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.analysis.analysing import analyse
    from nas.analysis.tables import Analysis

__all__ = ["Analysis", "analyse"]

_HOMES = {"Analysis": "nas.analysis.tables", "analyse": "nas.analysis.analysing"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
