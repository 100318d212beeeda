"""Caches on disk: named arrays, memory-mapped, checksummed, built once and then shared by every process of a machine.

A cache entry is a directory ``ROOT/KIND/KEY`` with one ``.npy`` file an array and ``manifest.json``, which is written
last and carries every array's checksum. It is built in a temporary directory beside its place and renamed, under a lock
that a killed builder gives up by itself; so an entry is there whole or not at all, and one process builds while the
others wait. Readers share the lock, so that they open an entry at the same time. A damaged entry is rebuilt with a
warning, never read.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from proxy_tasks.arrays import Cache, write_manifest
from search_spaces import InputError

__all__ = ["CACHE_FORMAT", "cache_key", "default_root", "open_cache"]

CACHE_FORMAT = 2
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, EOFError, FileNotFoundError)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def default_root() -> Path:
    """``~/.cache/nas-search``, or under ``$XDG_CACHE_HOME`` where that is set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas-search"


def cache_key(**parts: Any) -> str:
    """16 hex digits that stand for everything an entry depends on, the format version included."""
    text = json.dumps({"format": CACHE_FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_cache(root: Path, kind: str, key: str, build: Callable[[Path], dict[str, Any] | None]) -> Cache:
    """Opens ``ROOT/KIND/KEY``, building it first where it is missing or damaged.

    Args:
        root: the cache directory.
        kind: what is stored (``"features"``).
        key: from `cache_key`.
        build: writes the arrays into the directory it is given, by `ArrayWriter`, and returns the entry's meta.

    Raises:
        InputError: the disk is full, the directory cannot be written or has no file locks; nothing half-built is left.
    """
    place = root / kind / key
    lock = place.with_suffix(".lock")
    with _cannot_write(root):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(lock, fcntl.LOCK_SH), suppress(*DAMAGED):
            return Cache(place)
        with _locked(lock, fcntl.LOCK_EX):
            try:  # another process may have built it between the locks
                return Cache(place)
            except DAMAGED as error:
                if place.exists():
                    _discard(place, error)
            for leftover in place.parent.glob(f"{key}.*.partial"):  # of a builder that was killed; we hold its lock
                shutil.rmtree(leftover)
            _build(place, build)
            return Cache(place)


def _build(place: Path, build: Callable[[Path], dict[str, Any] | None]) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".partial", dir=place.parent))
    try:
        write_manifest(partial, build(partial) or {})
        for path in partial.iterdir():  # on disk before the rename makes them count
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _discard(place: Path, error: Exception) -> None:
    warnings.warn(f"the cache {place} is damaged ({error}) and is built anew", stacklevel=3)
    aside = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".partial", dir=place.parent))
    place.rename(aside / "damaged")  # a rename first: a process that still reads it keeps its pages
    shutil.rmtree(aside)


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with open(path, "a+") as file:  # network file systems want reading for a shared lock and writing for the other
        try:
            fcntl.flock(file, kind)  # the kernel releases it when the holder dies
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise InputError(
                    f"the cache directory {path.parent.parent} lies on a file system without file locks "
                    f"({error.strerror}), which keep processes from building one cache twice; give another --cache-dir"
                ) from error
            raise
        yield


@contextmanager
def _cannot_write(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"the disk is full: the cache under {root} could not be written; free some space or give --cache-dir"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EEXIST):
            raise InputError(
                f"the cache directory {root} cannot be written ({error.strerror}); give --cache-dir"
            ) from error
        raise
