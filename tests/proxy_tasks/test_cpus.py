"""How many processors a process may use."""

import os

import pytest

from proxy_tasks.cpus import usable_cpus
from proxy_tasks.data import decoding


@pytest.fixture
def eight(monkeypatch, tmp_path):
    """A machine of which this process may use eight processors; returns a way to ask with files of control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "own" / "job").mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/own/job\n")

    def count(**quotas):
        for name, text in quotas.items():
            folder = {"root": tmp_path, "own": tmp_path / "own", "job": tmp_path / "own" / "job"}[name]
            (folder / "cpu.max").write_text(text)
        return usable_cpus(tmp_path / "cgroup", tmp_path)

    return count


def test_affinity_counts_and_not_what_the_machine_has(eight):
    assert eight() == 8


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({"job": "max 100000\n"}, 8),
        ({"job": "200000 100000\n"}, 2),
        ({"job": "150000 100000\n"}, 2),
        ({"job": "10000 100000\n"}, 1),
        ({"job": "max 100000\n", "own": "300000 100000\n"}, 3),
        ({"job": "6400000 100000\n"}, 8),
    ],
)
def test_the_tightest_quota_of_the_control_groups_counts(eight, quotas, expected):
    assert eight(**quotas) == expected


def test_an_older_kernel_without_such_groups_has_no_quota(eight, tmp_path):
    (tmp_path / "cgroup").write_text("4:cpu:/own\n")
    assert eight() == 8
    assert usable_cpus(tmp_path / "none", tmp_path) == 8


def test_slurm_counts_by_task_before_by_node(eight, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "6")
    assert eight() == 6
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert eight() == 4
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "16")
    assert eight() == 8


def test_images_are_decoded_by_as_many_threads(monkeypatch):
    asked = []
    pool = decoding.ThreadPoolExecutor
    monkeypatch.setattr(decoding, "usable_cpus", lambda: 3)
    monkeypatch.setattr(decoding, "ThreadPoolExecutor", lambda threads: asked.append(threads) or pool(threads))
    assert decoding.in_threads(abs, [-1, 2]) == [1, 2]
    assert asked == [3]
