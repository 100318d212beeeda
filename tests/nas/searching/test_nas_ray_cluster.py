"""A search on a cluster of several nodes, of which one is lost and one joins while it runs."""

import os
import subprocess
import sys
import time
from collections import Counter

import pytest
from fake_tasks import WIDE, reward_of

import nas

NODES, TRIALS = 4, 120


@pytest.fixture
def cluster(monkeypatch):
    """A head node and more, of one processor each; processes start as the project's own do."""
    from ray.cluster_utils import Cluster

    from nas.ray_workers.cluster import ENVIRONMENT

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import this folder's fakes
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(NODES - 1):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def waited(condition, process):
    while not condition():
        assert process.poll() is None, "the search ended too early"
        time.sleep(0.1)


def test_a_lost_node_loses_and_doubles_no_row_and_a_node_that_joins_is_used(cluster, tmp_path):
    log, hurry = tmp_path / "log", tmp_path / "hurry"

    def evaluations():
        return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()

    given = {"space": "fake_tasks:WIDE", "controller": "random", "device": "cpu", "confirm": 0, "trials": TRIALS}
    given |= {"workers": NODES, "ray-address": cluster.address, "out": tmp_path / "run"}
    command = [sys.executable, "-m", "nas.cli.search", *(f"--{name}={value}" for name, value in given.items())]
    command += ["--no-early-stopping", "--set", "sleep=1", f"log={log}", f"hurry={hurry}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        waited(lambda: len(evaluations()) == NODES, process)
        cluster.remove_node(next(node for node in cluster.list_all_nodes() if not node.head), allow_graceful=False)
        lost = evaluations()
        waited(lambda: sum(evaluations()[worker] > lost[worker] + 2 for worker in lost) == NODES - 1, process)
        cluster.add_node(num_cpus=1)
        waited(lambda: len(evaluations()) == NODES + 1, process)
        hurry.touch()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors

    rows = nas.load_run(tmp_path / "run").contents().trials
    assert [row.number for row in rows] == list(range(1, TRIALS + 1))
    assert {row.status for row in rows} <= {"done", "duplicate"}
    assert all(row.reward == reward_of(WIDE.from_named(row.choices)) for row in rows)
    again = sum(row.attempts == 2 for row in rows)
    assert again <= 1  # what the lost node had
    done = [row.key for row in rows if row.status == "done"]
    assert len(done) == len(set(done))
    assert evaluations().total() - len(done) in (0, again)
