"""The cache: whole or not at all, one builder, damage found, full disks survived."""

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from proxy_tasks.cache import ArrayWriter, cache_key, open_cache
from search_spaces import InputError

VALUES = np.arange(24, dtype=np.float32).reshape(4, 6)


def build(place: Path, values: np.ndarray = VALUES) -> dict:
    with ArrayWriter(place, "values", values.shape, values.dtype.str) as writer:
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
