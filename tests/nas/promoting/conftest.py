"""A static network trained on a small tree, a search of two cells around it, and the command that promotes them."""

import shutil

import pytest
import trees
from promoting_parts import SEARCH, TINY, run, the

from nas.cli import promote as promote_command
from nas.cli import search as search_command


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    monkeypatch.setattr("experiments.video.evaluation.median_milliseconds", lambda run, device: 12.34)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A tree, a static network trained on it, and a run of two cells around it."""
    root = tmp_path_factory.mktemp("home")
    data = trees.write_camvid(root / "data", n=8, n_test=4, size=(48, 40))
    rates = ["encoder_learning_rate=1e-3", "decoder_learning_rate=1e-3"]  # the recipe's are for batches of 32
    static = ["arch2", "--recipe", "camvid_static", "--data", data, "--iterations", "2", *TINY, *rates]
    run(promote_command.main, *static, "--out", root / "static")
    weights = the(root / "static", "arch2-camvid_static-*") / "weights.safetensors"
    where = ["--data", data, "--cache-dir", root / "cache"]
    run(search_command.main, *SEARCH, *where, "--out", root / "run", "--static", weights)
    return root


@pytest.fixture
def cells(home, tmp_path):
    """A copy of the run, for a test to promote from."""
    return shutil.copytree(home / "run", tmp_path / "run")
