"""Cached rows: written batch by batch, memory-mapped, placed on a device once and given back."""

import numpy as np
import pytest
import torch

from proxy_tasks import rows
from proxy_tasks.rows import CachedRows, Site, batched

N = 7
VALUES = {
    "half": torch.arange(N * 12).reshape(N, 2, 2, 3).half(),
    "bytes": torch.arange(N * 4, dtype=torch.uint8).reshape(N, 4),
    "short": torch.arange(-N, 0, dtype=torch.int16)[:, None],
    "number": torch.arange(N),
}


def site(root, progress=lambda *step: None):
    return Site(root, torch.device("cpu"), progress)


def cached(root, progress=lambda *step: None):
    def compute(indices):
        return {name: value[torch.from_numpy(indices)] for name, value in VALUES.items()}

    where = site(root, progress)
    return CachedRows(where, "kind", "key", lambda: batched(N, 3, compute, where.counted("counting")))


def test_rows_are_what_was_computed(tmp_path):
    steps = []
    arrays = cached(tmp_path, lambda *step: steps.append(step))
    assert steps == [("counting", done, N) for done in (3, 6, 7)]
    order = np.array([6, 0, 0, 3])
    for name, value in VALUES.items():
        assert np.array_equal(arrays[name], value.numpy())
        assert not arrays[name].flags.writeable
        assert arrays.rows(name, order).dtype == value.dtype
        assert torch.equal(arrays.rows(name, order), value[torch.from_numpy(order)])
    maps = arrays.maps(("half",), order)["half"]
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(maps, VALUES["half"][torch.from_numpy(order)].permute(0, 3, 1, 2).float())
    assert cached(tmp_path, lambda *step: pytest.fail("computed again"))["number"].tolist() == list(range(N))


def test_an_array_is_placed_once_until_it_is_released(tmp_path, monkeypatch):
    placed = []
    monkeypatch.setattr(rows, "_place", None)
    rows.place_by(lambda file, device: placed.append(file) or rows.place(file, device))
    arrays = cached(tmp_path)
    assert arrays["short"][2] == -5
    assert placed == []
    for _ in range(2):
        arrays.rows("short", np.array([1, 2]))
    assert placed == [tmp_path / "kind" / "key" / "short.npy"]
    arrays.release()
    assert arrays.rows("short", np.array([2])).item() == -5
    assert len(placed) == 2


def test_no_process_can_change_what_is_cached(tmp_path):
    arrays = cached(tmp_path)
    file = tmp_path / "kind" / "key" / "number.npy"
    mine = rows.place(file, torch.device("cpu"))
    mine[:] = 99
    assert arrays.rows("number", np.arange(N)).tolist() == list(range(N))
    assert np.load(file).tolist() == list(range(N))


def test_a_ragged_entry_has_a_number_of_rows_an_array(tmp_path):
    def compute():
        for count in (2, 0, 3):
            yield {"counts": torch.tensor([count]), "things": torch.full((count, 4), float(count))}

    arrays = CachedRows(site(tmp_path), "kind", "key", compute)
    assert arrays["counts"].tolist() == [2, 0, 3]
    assert arrays["things"].shape == (5, 4)
    assert arrays["things"][:, 0].tolist() == [2, 2, 3, 3, 3]
