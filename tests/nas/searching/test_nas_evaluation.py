import math
import re

import numpy as np
import pytest
import torch
from fake_tasks import MOODS, MOODY, ToyTask, reward_of

from nas.cli.errors import exit_status
from nas.searching.evaluation import Outcome, evaluate
from proxy_tasks import TaskOptions
from proxy_tasks.task import Diverged, Interim, Score

EXPECTED = {
    "fine": ("done", None),
    "nan": ("diverged", r"the reward is nan"),
    "diverges": ("diverged", r"loss is nan at iteration 7"),
    "raises": ("failed", r"ZeroDivisionError: by nought \(nas/fake_tasks.py:\d+\)"),
    "memory": ("failed", r"out of memory: tried to allocate 4 TiB"),
    "text": ("failed", r"the proxy task's reward must be a float, got 'high'"),
    "nothing": ("failed", r"the proxy task ended without a score"),
}


@pytest.mark.parametrize("mood", EXPECTED)
def test_whatever_a_task_does_becomes_an_outcome(mood):
    architecture = MOODY.from_named({"mood": mood})
    *interim, outcome = evaluate(ToyTask(MOODY, TaskOptions()), architecture)
    assert interim == [Interim(1, 2, reward_of(architecture) - 1, {"params": 1000.0 + reward_of(architecture)})]
    assert 0 < interim[0].seconds <= outcome.seconds
    status, reason = EXPECTED[mood]
    assert outcome.status == status
    assert outcome.seconds > 0
    if status == "done":
        assert outcome.reward == reward_of(architecture)
        assert outcome.metrics["loss"] == 0.25
    else:
        assert outcome.reward is None
        assert re.fullmatch(reason, outcome.reason)
    assert mood in MOODS


class Scripted:
    """A task that raises or yields what it is given, and notes that it was closed."""

    space = MOODY
    closed = False

    def __init__(self, *items):
        self.items = items

    def evaluate(self, architecture):
        try:
            for item in self.items:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.closed = True


def outcome_of(*items):
    *_, last = evaluate(Scripted(*items), MOODY.architecture([0]))
    assert isinstance(last, Outcome)
    return last


class Speechless(Exception):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("item", "status", "reason"),
    [
        (MemoryError(), "failed", "out of memory: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte"), "failed", "out of memory: .*1 byte"),
        (OSError("cannot open '\udcff.jpg'"), "failed", r"OSError: cannot open '\\udcff.jpg'"),
        (Diverged("\udcff"), "diverged", r"\\udcff"),
        (Speechless(), "failed", "Speechless: it does not say what"),
        (Interim("first", 2, 0.5), "failed", "TypeError: 'str' object cannot be interpreted as an integer"),
        (Score(math.inf), "diverged", "the reward is inf"),
        (Score(-math.inf), "diverged", "the reward is -inf"),
        (Score(True), "failed", "must be a float, got True"),
        (Score(None), "failed", "must be a float, got None"),
        (Score(torch.tensor(1.0)), "failed", r"must be a float, got tensor\(1.\)"),
        (Score(1.0, {"ap": "good"}), "failed", "metric 'ap' must be a number, got 'good'"),
        (Interim(5, 10, math.nan), "diverged", "the reward is nan at step 5 of 10"),
        (Interim(5, 10, -math.inf), "diverged", "the reward is -inf at step 5 of 10"),
        (Interim(5, 10, "high"), "failed", "must be a float, got 'high'"),
        (Interim(5, 10, 1.0, {"ap": None}), "failed", "metric 'ap' must be a number, got None"),
    ],
)
def test_hostile_scores_and_errors(item, status, reason):
    outcome = outcome_of(item)
    assert (outcome.status, outcome.reward) == (status, None)
    assert re.search(reason.rstrip(": "), outcome.reason)


def test_huge_and_whole_rewards_are_floats():
    assert outcome_of(Score(-1e300)).reward == -1e300
    assert type(outcome_of(Score(3)).reward) is float


def test_steps_are_plain_whole_numbers():
    first, _ = evaluate(Scripted(Interim(np.int64(1), torch.tensor(2), 0.5), Score(1.0)), MOODY.architecture([0]))
    assert (type(first.step), type(first.steps)) == (int, int)


def test_a_reason_is_no_longer_than_a_store_should_hold():
    assert len(outcome_of(OSError("x" * 10_000_000)).reason) < 3000


def test_only_the_first_score_counts_and_the_task_is_closed():
    task = Scripted(Score(1.0), Score(2.0))
    assert [item.reward for item in evaluate(task, MOODY.architecture([0]))] == [1.0]


def test_nothing_follows_a_bad_score_along_the_way_and_the_task_is_closed():
    task = Scripted(Interim(1, 4, 0), Interim(2, 4, math.nan), Interim(3, 4, 0.0), Score(1.0))
    first, last = evaluate(task, MOODY.architecture([0]))
    assert first == Interim(1, 4, 0.0)
    assert type(first.reward) is float
    assert last.status == "diverged"
    assert task.closed


def test_an_interruption_passes_through():
    with pytest.raises(KeyboardInterrupt):
        outcome_of(KeyboardInterrupt())


def test_closing_the_evaluation_closes_the_task():
    task = Scripted(Interim(1, 2, 0.0), Score(1.0))
    items = evaluate(task, MOODY.architecture([0]))
    next(items)
    items.close()
    assert task.closed


def test_a_torch_wheel_that_does_not_fit_is_told_in_one_sentence(capsys):
    def fails():
        raise RuntimeError("operator torchvision::nms does not exist")

    assert exit_status("nas-search", fails) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"nas-search: torch and torchvision do not fit together: .* pip install torch torchvision \(", line)
