import os
import sys

import pytest
import trees
from places import Place
from toy_runs import TOYS

import nas
from nas.run.store import RunStore


@pytest.fixture
def place(tmp_path, capsys):
    return Place(tmp_path, capsys)


@pytest.fixture
def voc(place):
    trees.write_voc(place.data, n=6, n_test=2)
    return place


@pytest.fixture
def coco(place):
    trees.write_coco(place.data, n=6, n_test=2)
    return place


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "trials.db", create=True)
    store.add_stage("toy", 0, 100)
    yield store
    store.close()


@pytest.fixture
def run(tmp_path):
    """A finished run of the toy space."""
    return nas.search(**TOYS, trials=20, out=tmp_path / "run")


@pytest.fixture(scope="module")
def engine(request):
    """The engine of Ray workers with a cluster of its own, which serves a module's tests; ``WORKERS`` is theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import this folder's fakes
        from nas.searching.engines import ray_pool

        with ray_pool.connected(request.module.WORKERS, None):
            yield ray_pool
