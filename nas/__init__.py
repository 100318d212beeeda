"""The front door: Python API, command lines, engines, run store.

The names below are imported when first asked for, so that importing this package loads nothing heavy.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.building import build
    from nas.predicting.trained import load
    from nas.run.reading import Run, load_run
    from nas.searching.search import resume, search

__all__ = ["Run", "build", "load", "load_run", "resume", "search"]

# Threads that wait for each other soon sleep instead of spinning: on a machine that does anything else beside, the
# small operations of a proxy task are otherwise up to a hundred times slower. Not at once, since waking takes longer
# than most waits: after 30,000 turns a trial on two idle cores takes 0.7 of the time that it takes after 1,000, and
# hardly more on busy ones. Read once, as torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

_HOMES = {
    "Run": "nas.run.reading",
    "build": "nas.building",
    "load": "nas.predicting.trained",
    "load_run": "nas.run.reading",
    "resume": "nas.searching.search",
    "search": "nas.searching.search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
