"""The cache: whole or not at all, one builder, damage found, full disks survived."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from proxy_tasks import arrays
from proxy_tasks.arrays import ArrayWriter
from proxy_tasks.cache import cache_key, open_cache
from search_spaces import InputError

VALUES = np.arange(24, dtype=np.float32).reshape(4, 6)


def build(place: Path, values: np.ndarray = VALUES) -> dict:
    with ArrayWriter(place, "values", values.shape[1:], values.dtype.str) as writer:
        for start in range(0, len(values), 3):
            writer.append(values[start : start + 3])
    return {"rows": len(values)}


def forbidden(place: Path) -> dict:
    raise AssertionError("built again")


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "kind").iterdir() if path.suffix != ".lock")


def test_second_opening_builds_nothing(tmp_path):
    first = open_cache(tmp_path, "kind", "key", build)
    second = open_cache(tmp_path, "kind", "key", forbidden)
    for cache in (first, second):
        assert np.array_equal(cache["values"], VALUES)
        assert cache.meta == {"rows": 4}
        assert isinstance(cache["values"], np.memmap)
        assert not cache["values"].flags.writeable
    assert files(tmp_path) == ["key"]


@settings(max_examples=30, deadline=None)
@given(
    values=hnp.arrays(
        dtype=st.sampled_from(["<f2", "<f4", "<i8", "|u1"]),
        shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
        elements={"allow_nan": False},
    )
)
def test_round_trip(values, tmp_path_factory):
    cache = open_cache(tmp_path_factory.mktemp("cache"), "kind", "key", lambda place: build(place, values))
    assert cache["values"].dtype == values.dtype
    assert np.array_equal(cache["values"], values)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_damage_is_found_and_mended(tmp_path, damage):
    place = open_cache(tmp_path, "kind", "key", build).directory
    path = place / ("manifest.json" if damage == "manifest" else "values.npy")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-3] ^= 4
        path.write_bytes(content)
    elif damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match=r"the cache .*key is damaged \(.*\) and is built anew"):
        cache = open_cache(tmp_path, "kind", "key", build)
    assert np.array_equal(cache["values"], VALUES)
    assert files(tmp_path) == ["key"]
    open_cache(tmp_path, "kind", "key", forbidden)


def checked(monkeypatch):
    """The number of bytes that were read to be checked, one entry an array."""
    sizes, crc32 = [], zlib.crc32
    monkeypatch.setattr(arrays.zlib, "crc32", lambda data, start=0: sizes.append(len(data)) or crc32(data, start))
    return sizes


def settled(place):
    """As if the entry had been built some time ago."""
    for path in place.glob("*.npy"):
        os.utime(path, ns=(time.time_ns(), time.time_ns() - 10**9))


def test_an_entry_is_checked_once_a_machine(tmp_path, monkeypatch):
    settled(open_cache(tmp_path, "kind", "key", build).directory)
    sizes = checked(monkeypatch)
    for _ in range(3):
        assert np.array_equal(open_cache(tmp_path, "kind", "key", forbidden)["values"], VALUES)
    assert sizes == [VALUES.nbytes]
    boot = tmp_path / "boot_id"
    boot.write_text("another machine\n")
    monkeypatch.setattr(arrays, "BOOT", boot)
    open_cache(tmp_path, "kind", "key", forbidden)
    assert sizes == [VALUES.nbytes] * 2


@pytest.mark.parametrize("same_size", [True, False])
def test_damage_after_the_check_is_found(tmp_path, same_size):
    place = open_cache(tmp_path, "kind", "key", build).directory
    settled(place)
    open_cache(tmp_path, "kind", "key", forbidden)
    content = bytearray((place / "values.npy").read_bytes())
    content[-3] ^= 4
    (place / "values.npy").write_bytes(content if same_size else content[:-24])
    with pytest.warns(UserWarning, match=r"the cache .*key is damaged \(.*\) and is built anew"):
        assert np.array_equal(open_cache(tmp_path, "kind", "key", build)["values"], VALUES)


def test_a_change_that_follows_at_once_is_not_taken_for_what_was_checked(tmp_path):
    place = open_cache(tmp_path, "kind", "key", build).directory
    path, time_ns = place / "values.npy", time.time_ns()
    os.utime(path, ns=(time_ns, time_ns))
    open_cache(tmp_path, "kind", "key", forbidden)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(time_ns, time_ns))  # within one tick of the file system's clock
    with pytest.warns(UserWarning, match="is damaged"):
        open_cache(tmp_path, "kind", "key", build)


@pytest.mark.parametrize("notes", ["", "[]", '{"values": 3}', '{"values": [1, 2, 3, 4]}'])
def test_broken_notes_of_the_check_are_not_believed(tmp_path, notes, monkeypatch):
    place = open_cache(tmp_path, "kind", "key", build).directory
    settled(place)
    (place / f"checked-{arrays.BOOT.read_text().strip()}.json").write_text(notes)
    sizes = checked(monkeypatch)
    open_cache(tmp_path, "kind", "key", forbidden)
    open_cache(tmp_path, "kind", "key", forbidden)
    assert sizes == [VALUES.nbytes]


def test_readers_do_not_wait_for_each_other(tmp_path):
    open_cache(tmp_path, "kind", "key", build)
    with open(tmp_path / "kind" / "key.lock") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        worker = multiprocessing.get_context("fork").Process(target=_open, args=(tmp_path, False))
        worker.start()
        worker.join(10)
        code = worker.exitcode
        worker.kill()
    assert code == 0


def test_a_file_system_without_locks_is_one_clear_sentence(tmp_path, monkeypatch):
    def flock(file, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InputError, match=r"^the cache directory \S+ lies on a file system without file locks .*; give"):
        open_cache(tmp_path, "kind", "key", build)


def test_a_failed_build_leaves_nothing(tmp_path):
    def fails(place: Path) -> dict:
        build(place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cache(tmp_path, "kind", "key", fails)
    assert files(tmp_path) == []


def test_a_full_disk_is_one_clear_sentence(tmp_path):
    def fills(place: Path) -> dict:
        build(place)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"the disk is full: the cache under .* give --cache-dir"):
        open_cache(tmp_path, "kind", "key", fills)
    assert files(tmp_path) == []


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the cache directory .*file cannot be written"):
        open_cache(tmp_path / "file", "kind", "key", build)


def _slow_build(place: Path) -> dict:
    (place.parent.parent / f"built-by-{os.getpid()}").touch()
    time.sleep(0.5)
    return build(place)


def _open(root: Path, hang: bool) -> None:
    def hangs(place: Path) -> dict:
        build(place)
        (root / "hanging").touch()
        time.sleep(60)
        return {}

    open_cache(root, "kind", "key", hangs if hang else _slow_build)


def test_one_process_builds_and_the_others_wait(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_open, args=(tmp_path, False)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(list(tmp_path.glob("built-by-*"))) == 1


def test_a_killed_builder_blocks_nobody(tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=_open, args=(tmp_path, True))
    worker.start()
    while not (tmp_path / "hanging").exists():
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)
    assert len(files(tmp_path)) == 1  # what it left half-built
    cache = open_cache(tmp_path, "kind", "key", build)
    assert np.array_equal(cache["values"], VALUES)
    assert files(tmp_path) == ["key"]


def test_the_key_depends_on_every_part():
    base = {"data": "a", "crop": 128, "seed": 0}
    keys = {cache_key(**base), *(cache_key(**base | part) for part in ({"data": "b"}, {"crop": 129}, {"seed": 1}))}
    assert len(keys) == 4
    assert cache_key(**dict(reversed(base.items()))) == cache_key(**base)
