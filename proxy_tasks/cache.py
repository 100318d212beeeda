"""Caches on disk: named arrays, memory-mapped, checksummed, built once and then shared by every process of a machine.

A cache entry is a directory ``ROOT/KIND/KEY`` with one ``.npy`` file an array and ``manifest.json``, which is written
last and carries every array's checksum. It is built in a temporary directory beside its place and renamed, under a lock
that a killed builder gives up by itself; so an entry is there whole or not at all, and one process builds while the
others wait. A damaged entry is rebuilt with a warning, never read.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from search_spaces import InputError

__all__ = ["CACHE_FORMAT", "ArrayWriter", "Cache", "cache_key", "default_root", "open_cache"]

CACHE_FORMAT = 1
_CHUNK = 1 << 24


def default_root() -> Path:
    """``~/.cache/nas-search``, or under ``$XDG_CACHE_HOME`` where that is set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas-search"


def cache_key(**parts: Any) -> str:
    """16 hex digits that stand for everything an entry depends on, the format version included."""
    text = json.dumps({"format": CACHE_FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ArrayWriter:
    """Writes one ``.npy`` file batch by batch, so that an array need not fit into memory.

    Plain writes, no memory map: a full disk is then an error that can be handled, not a bus error.

    Args:
        directory: where.
        name: of the array.
        shape: of the whole array.
        dtype: of the whole array.
    """

    def __init__(self, directory: Path, name: str, shape: tuple[int, ...], dtype: str):
        self.name, self.shape, self.dtype = name, shape, np.dtype(dtype)
        self._rows, self._checksum = 0, 0
        self._file = open(directory / f"{name}.npy", "wb")  # noqa: SIM115 (closed by __exit__)
        np.lib.format.write_array_header_2_0(
            self._file, {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        )

    def append(self, batch: np.ndarray) -> None:
        """Adds rows (the first axis); they are converted to the array's dtype."""
        data = np.ascontiguousarray(batch, dtype=self.dtype)
        assert data.shape[1:] == self.shape[1:], (self.name, data.shape, self.shape)
        self._rows += len(data)
        self._checksum = zlib.crc32(data.data.cast("B") if data.size else b"", self._checksum)
        self._file.write(data.data)  # not tofile, whose error on a full disk has no errno

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            assert self._rows == self.shape[0], f"{self.name}: {self._rows} rows written of {self.shape[0]}"
            manifest = Path(self._file.name).parent / "checksums.jsonl"
            with open(manifest, "a") as file:
                file.write(json.dumps([self.name, self._checksum]) + "\n")


class Cache(Mapping[str, np.ndarray]):
    """An open entry: read-only memory-mapped arrays by name, and the ``meta`` that was stored with them.

    Raises:
        ValueError: the entry is incomplete or damaged.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        manifest = json.loads((directory / "manifest.json").read_text())
        self.meta: dict[str, Any] = manifest["meta"]
        self._arrays = {name: self._open(name, checksum) for name, checksum in manifest["checksums"].items()}

    def _open(self, name: str, checksum: int) -> np.ndarray:
        array: np.ndarray = np.load(self.directory / f"{name}.npy", mmap_mode="r")
        found, data = 0, array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
        for start in range(0, len(data), _CHUNK):
            found = zlib.crc32(data[start : start + _CHUNK].data, found)
        if found != checksum:
            raise ValueError(f"the array {name!r} has checksum {found:08x}, expected {checksum:08x}")
        return array

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def open_cache(root: Path, kind: str, key: str, build: Callable[[Path], dict[str, Any] | None]) -> Cache:
    """Opens ``ROOT/KIND/KEY``, building it first where it is missing or damaged.

    Args:
        root: the cache directory.
        kind: what is stored (``"features"``).
        key: from `cache_key`.
        build: writes the arrays into the directory it is given, by `ArrayWriter`, and returns the entry's meta.

    Raises:
        InputError: the disk is full or the directory cannot be written; nothing half-built is left.
    """
    place = root / kind / key
    with _cannot_write(root):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _lock(place.with_suffix(".lock")):
            try:
                return Cache(place)
            except (ValueError, KeyError, TypeError, AttributeError, EOFError, FileNotFoundError) as error:
                if place.exists():
                    _discard(place, error)
            for leftover in place.parent.glob(f"{key}.*.partial"):  # of a builder that was killed; we hold its lock
                shutil.rmtree(leftover)
            _build(place, build)
            return Cache(place)


def _build(place: Path, build: Callable[[Path], dict[str, Any] | None]) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".partial", dir=place.parent))
    try:
        meta = build(partial) or {}
        written = partial / "checksums.jsonl"
        checksums = dict(json.loads(line) for line in written.read_text().splitlines())
        written.unlink()
        (partial / "manifest.json").write_text(json.dumps({"meta": meta, "checksums": checksums}))
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
def _lock(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel releases it when the holder dies
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
