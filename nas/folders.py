"""Folders that are written to: refused where they cannot be, and full disks told in one sentence."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.errors import Interrupted, SearchFailed
from search_spaces.errors import InputError

__all__ = ["FULL", "ends_told", "full_disk_told", "make_writable"]

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The numbers of the errors that say that no more can be written."""


def make_writable(folder: Path) -> None:
    """Makes ``folder`` with its parents where it is missing; raises `InputError` where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to the folder {folder}: {error.strerror}") from error


@contextmanager
def full_disk_told(folder: Path, then: str) -> Iterator[None]:
    """Turns an error of writing into one sentence.

    Args:
        folder: what is written to, named where the error names no file.
        then: what the user does once there is space: ``"start again"``.

    Raises:
        SearchFailed: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        place = error.filename or folder
        raise SearchFailed(f"the disk is full ({place}); free some space, then {then}") from error


@contextmanager
def ends_told(folder: Path) -> Iterator[None]:
    """What ends a command before its time, as one sentence that says how to go on.

    Args:
        folder: what is written to.

    Raises:
        SearchFailed: the disk is full.
        Interrupted: by Ctrl-C.
    """
    again = "go on with the same command and --resume"
    try:
        with full_disk_told(folder, again):
            yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted; {again}") from error
