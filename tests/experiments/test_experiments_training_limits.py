"""The training loop's validation, its limit of time, and how often it saves."""

import pytest
from walk import Walk, quiet

from experiments import training
from experiments.training import Validation, read_checkpoint, run


def merits(kept, walk):
    """A validation every five steps whose figure rises to step 20 and falls then."""
    return Validation(5, lambda: -abs(walk.walked[-1] - 19), lambda: kept.append(walk.walked[-1] + 1))


def test_the_best_weights_along_the_way_are_kept(tmp_path):
    (tmp_path / "calm").mkdir()
    calm = Walk()
    run(calm, tmp_path / "calm", quiet)
    kept, walk = [], Walk()
    assert run(walk, tmp_path, quiet, merits(kept, walk)) == 34
    assert kept == [5, 10, 15, 20]
    lines = (tmp_path / "validation.csv").read_text().splitlines()
    assert lines == ["step,validation", *(f"{n},{-abs(n - 20):.1f}" for n in (5, 10, 15, 20, 25, 30, 34))]
    assert walk.weight.tolist() == calm.weight.tolist()
    assert (tmp_path / "log.csv").read_text() == (tmp_path / "calm" / "log.csv").read_text()


def test_a_resumed_training_knows_what_was_best(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)

    def fails():
        raise RuntimeError("a bad moment")

    kept, walk = [], Walk(at={27: fails})
    with pytest.raises(RuntimeError, match="a bad moment"):
        run(walk, tmp_path, quiet, merits(kept, walk))
    walk = Walk()
    run(walk, tmp_path, quiet, merits(kept, walk))
    assert walk.walked[0] == 27
    assert kept == [5, 10, 15, 20]


def test_the_hours_end_it_early_those_before_an_interruption_included(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])

    def minute():
        clock[0] += 60

    def fails():
        raise RuntimeError("a bad moment")

    always = dict.fromkeys(range(34), minute)
    with pytest.raises(RuntimeError, match="a bad moment"):
        run(Walk(at=always | {4: fails}), tmp_path, quiet, hours=0.1)
    walk = Walk(at=always)
    assert run(walk, tmp_path, quiet, hours=0.1) == 6
    content = read_checkpoint(tmp_path / "checkpoint.pt")
    assert (content["step"], content["log"][-1][0], content["seconds"]) == (6, 6, 360)


def test_costly_checkpoints_are_rarer(tmp_path, monkeypatch):
    clock, saved = [0.0], []
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])

    def minute():
        clock[0] += 61

    def save(folder, walk, record):
        clock[0] += 10
        saved.append(record.step)

    monkeypatch.setattr(training, "_save", save)
    run(Walk(at=dict.fromkeys(range(34), minute)), tmp_path, quiet)
    assert saved == [1, 10, 19, 28, 34]  # 10 s are 2 % of 500 s, which are nine steps
