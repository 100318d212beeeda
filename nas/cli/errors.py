"""Exit statuses: 0 done, 1 failed, 2 wrong usage or bad input, 130 interrupted."""

import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nas.errors import SearchFailed
from nas.folders import FULL
from search_spaces.errors import InputError

__all__ = ["exit_status"]

UNWRITABLE = (IsADirectoryError, NotADirectoryError, PermissionError)
_WRONG_WHEEL = (
    "torch and torchvision do not fit together: a CPU-only torch wheel does not work with torchvision's wheel, whose"
    " operators then fail to register; install both plainly, pip install torch torchvision"
)


def exit_status(command: str, run: Callable[[], None]) -> int:
    """Runs a command; what stops it becomes a line on standard error and an exit status.

    Bad input, an interruption, `SearchFailed`, a full disk and a file that is a folder or forbidden get one line, and
    so does a warning; any other exception shows its traceback.
    """
    try:
        with _warnings_told(command):
            run()
    except InputError as error:
        return _told(command, str(error), 2)
    except KeyboardInterrupt as interruption:
        return _told(command, str(interruption) or "interrupted", 130)
    except SearchFailed as error:
        return _told(command, str(error), 1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            return _told(command, f"the disk is full ({error.filename or 'what it prints to'})", 1)
        if isinstance(error, UNWRITABLE) and error.filename:
            place = error.filename2 or error.filename  # of a file put in its place the second is meant
            return _told(command, f"cannot read or write {place}: {error.strerror}", 2)
        if "operator torchvision::" in str(error):
            return _told(command, f"{_WRONG_WHEEL} ({error})", 1)
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def _warnings_told(command: str) -> Iterator[None]:
    def show(message: Warning | str, *where: object, **options: object) -> None:
        _told(command, f"warning: {message}", 0)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _told(command: str, message: str, status: int) -> int:
    print(f"{command}: {message}", file=sys.stderr)
    return status
