"""What Ray alone has: a cluster with room for some workers, at an address, whose GPUs and processors are shared out."""

import os
import subprocess
import sys

import pytest

from nas.ray_workers import cluster as of_cluster
from nas.ray_workers.cluster import connected, ray
from nas.searching.engines.ray_actors import RayActors
from search_spaces import InputError

WORKERS = 2


@pytest.fixture(scope="module")
def cluster():
    with connected(WORKERS, None):
        yield


@pytest.mark.usefixtures("cluster")
def test_what_the_cluster_lacks_is_told():
    with pytest.raises(InputError, match=r"100 workers need 100 CPUs, but the Ray cluster has \d"):
        RayActors(100, None, "cpu")
    with pytest.raises(InputError, match=r"2 workers need 1 GPUs, but the Ray cluster has 0"):
        RayActors(WORKERS, 0.5, "cpu")
    with pytest.raises(InputError, match=r"device 'cuda' is asked for, but the Ray cluster has no GPU"):
        RayActors(WORKERS, None, "cuda")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"no Ray cluster answers at '127.0.0.1:1': .*refused"),
        ("ray://here:1", r"a Ray cluster's address is auto or HOST:PORT, got 'ray://here:1'"),
        ("here", r"a Ray cluster's address is auto or HOST:PORT, got 'here'"),
    ],
)
def test_no_cluster_at_an_address_is_told(monkeypatch, address, message):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(InputError, match=message), connected(1, address):
        pass


CLUSTER = """
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""


@pytest.fixture(scope="module")
def guarded():
    """The address of a cluster that has a token of its own."""
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 32 * "f"}
    process = subprocess.Popen([sys.executable, "-c", CLUSTER], stdin=-1, stdout=-1, text=True, env=environment)
    yield process.stdout.readline().strip()
    process.communicate("\n", timeout=60)


@pytest.mark.parametrize(
    "own",
    [
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": ""},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 32 * "0"},
    ],
    ids=["no token asked for", "no token", "another token"],
)
def test_a_cluster_that_wants_its_token_is_told(guarded, own, tmp_path):
    search = [sys.executable, "-m", "nas.cli.search", "--space", "video_cell", "--out", tmp_path / "run"]
    environment = os.environ | {"RAY_NUM_REDIS_GET_RETRIES": "1", "HOME": str(tmp_path)} | own
    command = [*search, "--workers", "1", "--ray-address", guarded]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    cure = "run with RAY_AUTH_MODE=token and its token in ~/.ray/auth_token"
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert (
        last == f"nas-search: the Ray cluster at {guarded!r} lets none in without its token: {cure} (docs/cluster.md)"
    )
    assert not (tmp_path / "run").exists()


class Found:
    """What a cluster has, in place of Ray's own answers."""

    def __init__(self, monkeypatch, **nodes):
        totals = {kind: sum(counts) for kind, counts in nodes.items()}
        monkeypatch.setattr(of_cluster.ray, "cluster_resources", lambda: totals)
        alive = [{"Alive": True, "Resources": {"CPU": count}} for count in nodes["CPU"]]
        monkeypatch.setattr(of_cluster.ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 64}}])


@pytest.mark.parametrize(
    ("gpus", "workers", "share"), [((1,), 1, 1), ((1,), 4, 0.25), ((2,), 3, 0.5), ((4, 4), 3, 1), ((1, 1), 7, 0.25)]
)
def test_a_worker_s_share_of_a_gpu_has_room_on_one(monkeypatch, gpus, workers, share):
    Found(monkeypatch, CPU=(32, 32), GPU=gpus)
    assert of_cluster.gpus_each(workers, None, "cuda") == share


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [((8,), 2, 4), ((5, 5), 3, 2), ((5, 5), 2, 5), ((1, 1), 2, 1), ((2,), 5, 1)]
)
def test_workers_threads_have_room_on_the_machines(monkeypatch, cores, workers, threads):
    Found(monkeypatch, CPU=cores)
    assert of_cluster.threads_each(workers) == threads


def test_more_workers_than_processors_are_refused(monkeypatch):
    Found(monkeypatch, CPU=(2, 1))
    with pytest.raises(InputError, match=r"^4 workers need 4 CPUs, but the Ray cluster has 3$"):
        of_cluster.gpus_each(4, None, "cpu")
