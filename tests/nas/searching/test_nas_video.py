"""`nas-search --space video_cell` from end to end, in this process."""

import json
import re
import statistics

import numpy as np
import pytest
import torch
import trees

import nas
from nas.cli import search as search_command
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from proxy_tasks.video import task
from proxy_tasks.video.network import VideoSegmenter, build_segmenter
from search_spaces import Architecture

TINY = [
    *("--backbone", "tiny"),
    *("--set", "long_side=64", "crop_height=32", "crop_width=48", "width=8", "batch_size=4", "epochs=1"),
    *("pretrain_iterations=2", "pretrain_batch_size=4"),
]
TRIALS = 14
METRICS = {"score", "miou", "fwiou", "macc", "loss"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("video")
    trees.write_camvid(root / "data", n=18, size=(64, 48))
    return root


def flags(place, out, *more):
    return [
        *("--space", "video_cell", "--device", "cpu", "--controller", "random", "--trials", str(TRIALS), "--seed", "5"),
        *("--workers", "0"),
        *(
            "--confirm",
            "1,2",
            "--data",
            str(place / "data"),
            "--cache-dir",
            str(place / "cache"),
            "--out",
            str(out),
            *TINY,
            *more,
        ),
    ]


@pytest.fixture(scope="module")
def run(place):
    assert search_command.main(flags(place, place / "run")) == 0
    return nas.load_run(place / "run")


def test_every_trial_is_a_row_with_the_metrics_of_video(run, place):
    frame = run.trials
    assert len(frame) == TRIALS
    assert set(frame.status) <= {"done", "stopped", "duplicate"}
    assert {name.removeprefix("metric.") for name in frame.columns if name.startswith("metric.")} == METRICS
    np.testing.assert_array_equal(frame.reward, frame["metric.score"])  # the metric is video's default reward
    np.testing.assert_allclose(
        frame.reward, (frame["metric.miou"] * frame["metric.fwiou"] * frame["metric.macc"]) ** (1 / 3)
    )
    assert ((frame.reward >= 0) & (frame.reward < 1)).all()
    assert frame.reward.max() > 0
    assert run.settings.reward == "metric"
    assert set(run.best(3)[0].named) == {column for column in frame.columns if column.startswith("cell.")}


def test_trials_below_the_median_halfway_are_stopped(run):
    """Replays the rule by the median of the earlier scores instead of by ranks."""
    rule, store = StoppingRule(seed=5), RunStore(run.path / "trials.db")
    earlier, stopped = [], set()
    for trial in range(1, TRIALS + 1):
        interims = store.interim(trial)
        if not interims:  # a network that was scored before
            continue
        ((step, steps, reward),) = interims
        assert step == steps // 2 > 0
        low = len(earlier) >= rule.earlier_trials and reward < statistics.median_low(earlier)
        if low and np.random.default_rng([5, trial]).random() >= rule.chance:
            stopped.add(trial)
        earlier.append(reward)
    store.close()
    frame = run.trials.set_index("trial")
    assert stopped == set(frame.index[frame.status == "stopped"])
    assert stopped
    for trial in stopped:
        assert re.fullmatch(r"stopped after step \d+ of \d+: rank \d+ of \d+", frame.reason[trial])
    best = {architecture.key for architecture in run.best(TRIALS)}
    assert best.isdisjoint(frame.key[sorted(stopped)])


class Stop(BaseException):
    """Stands for a kill: no engine may catch it."""


def test_a_killed_search_ends_as_an_undisturbed_one(run, place, monkeypatch):
    training, steps = task.train_cell, 0

    def stopping(*given):
        nonlocal steps
        for item in training(*given):
            steps += 1
            if steps == 15:  # in the middle of a trial
                raise Stop
            yield item

    monkeypatch.setattr(task, "train_cell", stopping)
    with pytest.raises(Stop):
        search_command.main(flags(place, place / "killed"))
    monkeypatch.undo()
    half = nas.load_run(place / "killed").trials
    assert 0 < (half.status != "running").sum() < TRIALS
    assert search_command.main(["--resume", str(place / "killed")]) == 0
    columns = [name for name in run.trials.columns if name != "seconds"]
    assert nas.load_run(place / "killed").trials[columns].equals(run.trials[columns])


def test_cells_are_held_against_the_static_network_and_its_labels_copied(run):
    found = run.references.set_index("name")
    assert list(found.status) == ["done", "done"]
    assert found.macs["previous_labels"] == 0 < found.macs["static"]
    assert found.params["static"] == found.params["previous_labels"] < run.trials.params.min()
    confirmed = run.confirmed.set_index("name")
    assert list(confirmed.seeds) == [2, 2, 2]
    for name in ("static", "previous_labels"):  # which no seed changes
        assert (confirmed.reward[name], confirmed.reward_deviation[name]) == (found.reward[name], 0)
    assert confirmed.metric[""] == confirmed.reward[""]
    assert confirmed.loss.notna().all()
    assert run.best()[0].key == confirmed.key[""]


def test_the_best_cell_is_built_with_its_network(run):
    (best,) = run.best(1)
    network = nas.build(best, backbone="tiny", num_classes=11, width=8)
    assert isinstance(network, VideoSegmenter)
    assert network.eval()(torch.randn(1, 3, 3, 32, 48)).shape == (1, 3, 11, 4, 6)
    row = run.trials.set_index("key").loc[best.key]
    assert sum(parameter.numel() for parameter in network.parameters()) == row.params


def test_cells_around_a_trained_static_network(run, place, capsys):
    network = build_segmenter(Architecture.of("arch2", ()), "tiny", num_classes=11, width=8)
    torch.save(network.state_dict(), place / "static.pth")
    more = ["--static", str(place / "static.pth"), "--trials", "2", "--reward", "loss", "--confirm", "0"]
    assert search_command.main(flags(place, place / "static", *more)) == 0
    assert "training the static network" not in capsys.readouterr().out
    frame = nas.load_run(place / "static").trials
    np.testing.assert_allclose(frame.reward, -frame["metric.loss"])
    static, trained = (nas.load_run(place / name) for name in ("static", "run"))
    prints = [json.dumps(found) for found in (fingerprints(static), fingerprints(trained))]
    assert prints[0] != prints[1]
    assert fingerprints(static)["data"] == fingerprints(trained)["data"]


def fingerprints(run):
    from nas.run.directory import read_record

    return read_record(run.path).fingerprints["video_cell"]


def test_the_cell_of_four_layers_on_the_built_in_clips(place):
    small = ["--set", "long_side=32", "crop_height=32", "crop_width=32", "width=8", "epochs=1", "pretrain_iterations=2"]
    arguments = [
        "--space",
        "video_cell_4",
        "--device",
        "cpu",
        "--trials",
        "1",
        "--confirm",
        "0",
        "--cache-dir",
        str(place / "cache"),
    ]
    assert search_command.main([*arguments, "--out", str(place / "shapes"), *small]) == 0
    run = nas.load_run(place / "shapes")
    assert list(run.trials.status) == ["done"]
    assert len(run.best(1)[0].tokens) == 20
