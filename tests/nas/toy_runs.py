"""Searches of the toy space: their settings, and one that stops on its way."""

import pytest
from fake_tasks import ToyTask

import nas

TOYS = {
    "space": "fake_tasks:TOY",
    "controller": "fake_tasks:ToyController",
    "device": "cpu",
    "early_stopping": False,
    "confirm": 0,
}
FLAGS = [
    *("--space", "fake_tasks:TOY", "--controller", "fake_tasks:ToyController", "--device", "cpu"),
    *("--no-early-stopping", "--confirm", "0"),
]


class Stop(BaseException):
    """Stands for a kill: no engine may catch it."""


def half(tmp_path, trials, exception=Stop, **settings):
    """A run of 20 trials that stops in evaluation ``trials`` + 1."""
    count = 0
    evaluate = ToyTask.evaluate

    def stopping(self, architecture, *seed):
        nonlocal count
        count += 1
        if count > trials:
            raise exception
        return evaluate(self, architecture, *seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ToyTask, "evaluate", stopping)
        with pytest.raises(exception):
            nas.search(**{**TOYS, **settings}, trials=20, out=tmp_path / "run")
