import os
import sys

import pytest
import trees
from places import Place
from toy_runs import TOYS

import nas
from nas.run.store import RunStore
from nas.searching.engines.pool import pool
from nas.searching.engines.processes import Processes


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


@pytest.fixture(scope="module", params=["processes", "ray"])
def hired(request):
    """``hired(n)``: a pool of so many workers, of each kind; on Ray one cluster serves a module's tests.

    ``WORKERS`` is the module's: how many it has at most.
    """
    if request.param == "processes":
        yield lambda workers: pool(Processes(workers), workers)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import this folder's fakes
        from nas.searching.engines.ray_actors import RayActors, connected

        with connected(request.module.WORKERS, None):
            yield lambda workers: pool(RayActors(workers, None, "cpu"), workers)
