"""Ray Train's workers: they train as one process does; one that dies is replaced, what it raises ends the command."""

import os
import signal
import sys

import pytest
import torch
from torch import nn

from experiments import training
from nas.errors import SearchFailed
from nas.ray_workers import training as ray_train
from proxy_tasks import ranks
from search_spaces import InputError

STEPS = 25


class Line:
    """A straight line through points, whose batch norm and loss need the whole batch."""

    steps = STEPS

    def __init__(self, at):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.1, momentum=0.9)
        self.at = at

    def batches(self, start):
        for number in range(start, STEPS):
            points = torch.randn(5, 2, generator=torch.Generator().manual_seed(number))
            yield points[ranks.rows()]

    def loss(self, number, batch):
        self.at(number)
        wrong = (self.network(batch)[:, 0] - batch.sum(dim=1)).square().sum()
        return wrong / ranks.summed(torch.tensor(float(len(batch))))

    def update(self, number):
        self.optimizer.step()

    def state_dict(self):
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def work_with(at):
    """A job's work: ``at(folder, number)`` is called in every step of every process."""

    def work(folder, resume, say):
        training.SAVE_EVERY = -1.0  # after every step
        folder.mkdir(exist_ok=True)
        line = Line(lambda number: at(folder, number))
        training.run(line, folder, lambda *n: say("training", *n))
        return {}

    return work


def nothing(folder, number):
    """An undisturbed step."""


def dies_once(folder, number):
    if number == 12 and ranks.rows().start == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def dies_always(folder, number):
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(folder, number):
    if number == 3 and ranks.rows().start == 1:
        raise InputError("the image 7 cannot be decoded")


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import this file
        with ray_train.connected(2, None):
            yield


def ended(folder):
    content = training.read_checkpoint(folder / "checkpoint.pt")
    return content["step"], content["log"], content["training"]["network"]


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_is_replaced_and_the_training_ends_as_that_of_one_process(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    work_with(nothing)(one, False, lambda *_: None)
    seen = []
    ray_train.train(work_with(dies_once), two, False, lambda *what: seen.append(what), workers=2, device="cpu")
    assert (two / "died").exists()
    assert [what[:3] for what in seen] == [("training", done, STEPS) for done in (10, 20, 25)]
    (steps, log, weights), (same_steps, same_log, others) = ended(one), ended(two)
    assert steps == same_steps == STEPS
    assert [loss for _, loss in same_log] == pytest.approx([loss for _, loss in log], rel=1e-4)
    assert log[-1][1] < 0.5 * log[0][1]
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in two.iterdir()) == ["checkpoint.pt", "died", "log.csv"]


@pytest.mark.usefixtures("cluster")
def test_what_a_worker_raises_ends_it_at_once(tmp_path):
    with pytest.raises(InputError, match=r"^the image 7 cannot be decoded$"):
        ray_train.train(work_with(refuses), tmp_path / "a", False, print, workers=2, device="cpu")
    with pytest.raises(InputError, match="3 workers need 3 CPUs, but the Ray cluster has 2"):
        ray_train.train(work_with(nothing), tmp_path / "b", False, print, workers=3, device="cpu")


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_always_dies(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_train, "RETRIES", 0)
    with pytest.raises(SearchFailed, match=r"a worker died, and 0 more starts did not help: \w"):
        ray_train.train(work_with(dies_always), tmp_path / "a", False, print, workers=2, device="cpu")
