"""Named arrays in a directory: ``.npy`` files written batch by batch, read as memory maps, checked by their checksums.

Checking reads every byte, so it is done once a machine: what passed is noted beside the manifest, in a file of this
machine since it started, with each array's inode, size and time of its last change. An array that is not as noted is
checked again.
"""

import contextlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

__all__ = ["ArrayWriter", "Cache", "write_manifest"]

CHUNK = 1 << 24  # bytes that are checked at a time
SETTLED = 50_000_000  # nanoseconds; a change that follows a change by less may leave a file's time as it was
BOOT = Path("/proc/sys/kernel/random/boot_id")


class ArrayWriter:
    """Writes one ``.npy`` file batch by batch, so that an array need not fit into memory.

    Plain writes, no memory map: a full disk is then an error that can be handled, not a bus error.

    Args:
        directory: where.
        name: the array's name; the file is ``NAME.npy``.
        row: the shape of one row; the array has as many as are appended.
        dtype: the array's element type.
    """

    def __init__(self, directory: Path, name: str, row: tuple[int, ...], dtype: str):
        self.name, self.row, self.dtype = name, row, np.dtype(dtype)
        self._rows, self._checksum = 0, 0
        self._file = open(directory / f"{name}.npy", "wb")  # noqa: SIM115 (closed by __exit__)
        self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room for the number of rows to grow, so that the header may be written over
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self._rows, *self.row)}
        np.lib.format.write_array_header_2_0(self._file, header)

    def append(self, batch: np.ndarray) -> None:
        """Adds rows (the first axis); they are converted to the array's dtype."""
        data = np.ascontiguousarray(batch, dtype=self.dtype)
        assert data.shape[1:] == self.row, (self.name, data.shape, self.row)
        self._rows += len(data)
        self._checksum = zlib.crc32(data.data.cast("B") if data.size else b"", self._checksum)
        self._file.write(data.data)  # not tofile, whose error on a full disk has no errno

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._file.seek(0)
                self._write_header()
        finally:
            self._file.close()
        if kind is None:
            with open(Path(self._file.name).parent / "checksums.jsonl", "a") as file:
                file.write(json.dumps([self.name, self._checksum]) + "\n")


def write_manifest(directory: Path, meta: Mapping[str, Any]) -> None:
    """Ends a directory of arrays: the manifest has ``meta`` and what the writers left as checksums."""
    written = directory / "checksums.jsonl"
    checksums = dict(json.loads(line) for line in written.read_text().splitlines())
    written.unlink()
    (directory / "manifest.json").write_text(json.dumps({"meta": meta, "checksums": checksums}))


class Cache(Mapping[str, np.ndarray]):
    """A directory of arrays, opened: read-only memory maps by name, and the ``meta`` that was stored with them.

    Raises:
        ValueError: the directory is incomplete or damaged.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        manifest = json.loads((directory / "manifest.json").read_text())
        self.meta: dict[str, Any] = manifest["meta"]
        checksums: dict[str, int] = manifest["checksums"]
        noted, stamps = self._noted(), {name: self._stamp(name, value) for name, value in checksums.items()}
        self._arrays: dict[str, np.ndarray] = {}
        began = time.time_ns()
        for name, checksum in checksums.items():
            self._arrays[name] = np.load(self.file(name), mmap_mode="r")
            if noted.get(name) != stamps[name]:
                _check(name, self._arrays[name], checksum)
        settled = {name: stamp for name, stamp in stamps.items() if began - stamp[-1] > SETTLED}
        if settled.items() - noted.items():
            self._note(settled)

    def file(self, name: str) -> Path:
        """The file of the array ``name``."""
        return self.directory / f"{name}.npy"

    def _stamp(self, name: str, checksum: int) -> tuple[int, ...]:
        status = self.file(name).stat()
        return checksum, status.st_ino, status.st_size, status.st_mtime_ns

    def _notes(self) -> Path:
        return self.directory / f"checked-{BOOT.read_text().strip()}.json"

    def _noted(self) -> dict[str, tuple[int, ...]]:
        """The arrays that were checked on this machine, as they were then; none where that is not known."""
        try:
            return {name: tuple(stamp) for name, stamp in json.loads(self._notes().read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _note(self, stamps: dict[str, tuple[int, ...]]) -> None:
        with contextlib.suppress(OSError):  # a note only saves time: the next process checks again
            handle, name = tempfile.mkstemp(prefix="checked-", dir=self.directory)
            with os.fdopen(handle, "w") as file:
                json.dump(stamps, file)
            os.replace(name, self._notes())

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _check(name: str, array: np.ndarray, checksum: int) -> None:
    found, data = 0, array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
    for start in range(0, len(data), CHUNK):
        found = zlib.crc32(data[start : start + CHUNK].data, found)
    if found != checksum:
        raise ValueError(f"the array {name!r} has checksum {found:08x}, expected {checksum:08x}")
