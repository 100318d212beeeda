"""The training loop under kills, Ctrl-C, NaN and damaged files, with a training that costs nothing."""

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from processes import CONTEXT
from walk import Walk, quiet

from experiments import training
from experiments.training import read_checkpoint, run
from proxy_tasks.task import Diverged
from search_spaces import InputError
from search_spaces.files import write_whole


def ended(folder, walk):
    """All that a training leaves: weights, checkpoint, log."""
    content = read_checkpoint(folder / "checkpoint.pt")
    return walk.weight.tolist(), content["step"], content["log"], (folder / "log.csv").read_text()


@pytest.fixture
def calm(tmp_path):
    """An undisturbed training."""
    walk, folder = Walk(), tmp_path / "calm"
    folder.mkdir()
    run(walk, folder, quiet)
    return ended(folder, walk)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_step():
    return Walk(at={12: die})


def while_writing(name, nth):
    """The nth write of this file stops halfway."""

    def arm():
        count, whole = [0], os.fsync

        def fsync(file):
            count[0] += os.readlink(f"/proc/self/fd/{file}").split("/")[-1].startswith(f".{name}")
            if count[0] == nth:
                os.ftruncate(file, os.fstat(file).st_size // 2)
                die()
            whole(file)

        os.fsync = fsync
        return Walk()

    return arm


def between_checkpoint_and_log():
    replace = Path.replace

    def then_die(self, target):
        replace(self, target)
        die()

    Path.replace = then_die
    return Walk()


MOMENTS = [
    in_a_step,
    while_writing("checkpoint.pt", 1),
    while_writing("checkpoint.pt", 5),
    while_writing("log.csv", 3),
    between_checkpoint_and_log,
]


def train(folder, number):
    training.SAVE_EVERY = -1.0  # after every step
    run(MOMENTS[number](), folder, quiet)


def killed(folder, number):
    """Runs the training in a process of its own, which kills itself at some moment."""
    child = CONTEXT.Process(target=train, args=(folder, number))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("number", range(len(MOMENTS)))
def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path, calm, monkeypatch, number):
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)  # after every step
    killed(tmp_path, number)
    walk = Walk()
    run(walk, tmp_path, quiet)
    assert ended(tmp_path, walk) == calm


def test_killed_again_and_again(tmp_path, calm, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    for number in [*range(len(MOMENTS)), MOMENTS.index(between_checkpoint_and_log)]:
        killed(tmp_path, number)
    walk = Walk()
    run(walk, tmp_path, quiet)
    assert ended(tmp_path, walk) == calm
    assert 0 < len(walk.walked) < 34


def test_the_log_and_the_progress_have_every_tenth_step_and_the_last(tmp_path):
    seen = []
    walk = Walk()
    run(walk, tmp_path, lambda *figures: seen.append(figures))
    assert [(done, total) for done, total, _ in seen] == [(10, 34), (20, 34), (30, 34), (34, 34)]
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines == ["step,loss", *(f"{done},{loss}" for done, _, loss in seen)]
    assert seen[-1][2] == float(walk.weight.sum())


def test_a_finished_training_is_not_trained_again(tmp_path):
    run(Walk(), tmp_path, quiet)
    again = Walk()
    run(again, tmp_path, lambda *_: pytest.fail("nothing is left to do"))
    assert again.walked == []


def test_slow_steps_are_saved_one_by_one(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])

    def minute():
        clock[0] += 61

    def fails():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run(Walk(at={0: minute, 1: minute, 2: minute, 5: fails}), tmp_path, quiet)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3
    assert read_checkpoint(tmp_path / "checkpoint.pt")["log"] == []


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_the_first_ctrl_c_is_saved(tmp_path, calm):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(Walk(at={16: lambda: signal.raise_signal(signal.SIGINT)}), tmp_path, quiet)
    assert signal.getsignal(signal.SIGINT) is handler
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 17
    walk = Walk()
    run(walk, tmp_path, quiet)
    assert walk.walked[0] == 17
    assert ended(tmp_path, walk) == calm


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_the_second_ctrl_c_is_at_once(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the step goes on")

    with pytest.raises(KeyboardInterrupt):
        run(Walk(at={16: twice}), tmp_path, quiet)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_in_another_thread(tmp_path, calm):
    walk = Walk()
    thread = threading.Thread(target=run, args=(walk, tmp_path, quiet))
    thread.start()
    thread.join(60)
    assert ended(tmp_path, walk) == calm


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("number", "told"), [(29, 30), (33, 34)])
def test_a_loss_that_is_not_finite_ends_it_and_spoils_nothing(tmp_path, monkeypatch, value, number, told):
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    with pytest.raises(Diverged, match=rf"the training loss is {value} at step {told} of 34"):
        run(Walk(at={number: lambda: value}), tmp_path, quiet)
    content = read_checkpoint(tmp_path / "checkpoint.pt")
    assert content["step"] == number
    assert torch.isfinite(content["training"]["weight"]).all()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    run(Walk(), tmp_path, quiet)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"the checkpoint .*checkpoint.pt cannot be read: \w.+") as caught:
            run(Walk(), tmp_path, quiet)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 2, "step": 3}, r"checkpoint.pt is of format 2, newer than this version reads \(1\)"),
        ({"step": 3}, r"checkpoint.pt is no checkpoint: it has no format"),
        ([1], r"checkpoint.pt is no checkpoint"),
        ({"format": 1, "step": 3, "training": {"bias": 1.0}, "log": []}, r"checkpoint.pt is of another training"),
        ({"format": 1, "training": Walk().state_dict(), "log": []}, r"checkpoint.pt is of another training: 'step'"),
    ],
)
def test_another_checkpoint_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "checkpoint.pt")
    walk = Walk()
    with pytest.raises(InputError, match=message):
        run(walk, tmp_path, quiet)
    assert walk.walked == []


def test_a_checkpoint_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"format": 1, "trap": Trap()}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="cannot be read"):
        run(Walk(), tmp_path, quiet)
    assert not (tmp_path / "trapped").exists()


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(file):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
