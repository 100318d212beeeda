"""Names for things: a registry refuses duplicates, lists what it has and imports an entry when it is asked for."""

import difflib
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from search_spaces.errors import InputError

__all__ = ["SPACES", "Registry", "import_attribute", "import_user_module", "import_user_modules"]


def import_user_module(name: str) -> ModuleType:
    """Imports a module of the user's, from the working directory too (a console command does not look there by itself).

    Raises:
        InputError: it is not there, or cannot be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the module {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def import_user_modules(names: str | None) -> None:
    """Imports modules given as one text with commas between them; raises as `import_user_module`."""
    for name in filter(None, (names or "").split(",")):
        import_user_module(name.strip())


def import_attribute(what: str, target: str, own: bool) -> Any:
    """The object that ``target``, a text ``"module:attribute"``, names.

    Args:
        what: the thing that is looked for, in words, for messages: ``"the search space 'mine'"``.
        target: the text ``"module:attribute"``.
        own: whether the module is a part of this project; an error in it is then ours, not the user's, and is raised as
            it is.

    Raises:
        InputError: the user's module cannot be imported, or has no such attribute.
    """
    module, _, attribute = target.partition(":")
    if own:
        return getattr(importlib.import_module(module), attribute)
    found = import_user_module(module)
    if not hasattr(found, attribute):
        if module == "__main__":
            raise InputError(
                f"{what} cannot be had: it was defined in a script or a notebook, and only there it can be used"
                f" (nas.load_run, nas.resume); a module of its own, given to --import, can be used everywhere"
            )
        raise InputError(f"{what} cannot be had: module {module!r} has no {attribute!r}")
    return getattr(found, attribute)


class Registry:
    """Maps a name to an object, given as the object itself or as ``"module:attribute"``, imported on first use.

    Args:
        what: what the entries are, for messages (``"search space"``).
        entries: the names known from the start.
    """

    def __init__(self, what: str, entries: dict[str, str] | None = None):
        self.what = what
        self._entries: dict[str, Any] = dict(entries or {})

    def names(self) -> tuple[str, ...]:
        """All registered names, in order of registration."""
        return tuple(self._entries)

    def register(self, name: str, entry: Any) -> None:
        """Adds ``entry`` under ``name``.

        Raises:
            InputError: the name is taken.
        """
        if name in self._entries:
            raise InputError(f"the {self.what} {name!r} is registered already; choose another name")
        self._entries[name] = entry

    def get(self, name: str) -> Any:
        """The entry called ``name``; a name of the form ``module:attribute`` is imported from the Python path.

        Raises:
            InputError: no such name, or what it stands for cannot be imported.
        """
        entry = self._entries.get(name, name if ":" in name else None)
        if entry is None:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"there is no {self.what} {name!r}; known: {', '.join(self._entries)}{hint}")
        if isinstance(entry, str):
            known = name in self._entries
            entry = import_attribute(f"the {self.what} {name!r}", entry, own=known)
            if known:
                self._entries[name] = entry
        return entry


SPACES = Registry(
    "search space",
    {
        "fcos_fpn": "search_spaces.fcos.choices:FCOS_FPN",
        "fcos_fpn_c2": "search_spaces.fcos.choices:FCOS_FPN_C2",
        "fcos_head": "search_spaces.fcos.choices:FCOS_HEAD",
        "fcos_decoder": "search_spaces.fcos.choices:FCOS_DECODER",
        "fcos_decoder_c2": "search_spaces.fcos.choices:FCOS_DECODER_C2",
        "fpn_fcos": "search_spaces.fcos.choices:FPN_FCOS",
        "deform_fpn_fcos": "search_spaces.fcos.choices:DEFORM_FPN_FCOS",
        "fpn_retinanet": "search_spaces.fcos.choices:FPN_RETINANET",
        "video_cell": "search_spaces.video.choices:VIDEO_CELL",
        "video_cell_4": "search_spaces.video.choices:VIDEO_CELL_4",
        "arch2": "search_spaces.video.choices:ARCH2",
        "fcos_fpn_unconsumed": "search_spaces.fcos.choices:FCOS_FPN_UNCONSUMED",
        "fcos_fpn_c2_unconsumed": "search_spaces.fcos.choices:FCOS_FPN_C2_UNCONSUMED",
        "fcos_decoder_unconsumed": "search_spaces.fcos.choices:FCOS_DECODER_UNCONSUMED",
        "fcos_decoder_c2_unconsumed": "search_spaces.fcos.choices:FCOS_DECODER_C2_UNCONSUMED",
        "fcos_fpn_linear": "search_spaces.fcos.choices:FCOS_FPN_LINEAR",
        "fcos_decoder_linear": "search_spaces.fcos.choices:FCOS_DECODER_LINEAR",
        "mask_head": "search_spaces.masks.choices:MASK_HEAD",
        "mask_head_single": "search_spaces.masks.choices:MASK_HEAD_SINGLE",
    },
)
