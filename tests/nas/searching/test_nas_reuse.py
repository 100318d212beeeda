"""Scores of other runs: taken over where all that they depend on is the same, refused in one sentence where not."""

import re
import shutil

import pandas
import pytest
from fake_tasks import ToyTask
from toy_runs import FLAGS, TOYS, Stop

import nas
import proxy_tasks
from nas.analysis import analyse
from nas.cli import search as search_command
from nas.run.directory import read_record, write_record
from nas.run.rows import scored
from search_spaces import InputError


def reusing(run, tmp_path, name="second", **settings):
    return nas.search(**{**TOYS, "seed": run.settings.seed, **settings}, out=tmp_path / name, reuse=[run.path])


def networks(frame, status="done"):
    return set(frame.key[frame.status == status])


def test_a_known_network_is_a_duplicate_of_the_other_run_s_trial_and_is_not_evaluated(run, tmp_path):
    other = run.trials.set_index("trial")
    second = reusing(run, tmp_path, trials=40, controller="random", task=run.settings.task)
    frame = second.trials
    assert networks(frame).isdisjoint(networks(other))
    known = frame[frame.reason.fillna("").str.endswith(" of run")]
    assert len(known) > 5
    for row in known.itertuples():
        (number,) = re.fullmatch(r"same network as trial (\d+) of run", row.reason).groups()
        original = other.loc[int(number)]
        assert (row.status, row.key, row.reward, row.params) == (
            "duplicate",
            original.key,
            original.reward,
            original.params,
        )
        assert original.status == "done"


def test_what_is_taken_over_counts_among_the_best_and_in_the_statistics(run, tmp_path):
    second = reusing(run, tmp_path, trials=40, controller="random")
    frame = second.trials
    best = frame.reward.max()
    assert second.ranked()["toy"][0].reward == best
    found = scored(second.contents().trials)
    assert len({row.key for row in found}) == len(found) == len(set(frame.key))
    tables = analyse(second).tables
    assert tables["rewards"].best_so_far.iloc[-1] == best
    assert len(tables["pareto"]) == len(found)


def test_a_search_of_which_everything_is_known_trains_nothing_and_has_a_winner(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ToyTask, "evaluate", lambda *_: pytest.fail("it is evaluated"))
    second = reusing(run, tmp_path, trials=20)  # the same controller and seed
    assert set(second.trials.status) == {"duplicate"}
    assert second.best()[0] == run.best()[0]
    assert second.contents().stages[0].finished


def test_what_is_taken_over_is_confirmed_too(run, tmp_path):
    second = reusing(run, tmp_path, trials=20, confirm=None)
    assert set(second.trials.status) == {"duplicate"}
    assert len(second.confirmed) == 2  # the least: no trial of this search took any time
    assert second.best()[0].key == second.confirmed.key[0]


def test_scores_of_a_run_that_reused_some_itself_are_taken_over_too(run, tmp_path, monkeypatch):
    second = reusing(run, tmp_path, trials=20)
    monkeypatch.setattr(ToyTask, "evaluate", lambda *_: pytest.fail("it is evaluated"))
    third = reusing(second, tmp_path, "third", trials=20)
    assert set(third.trials.reason) <= {f"same network as trial {n} of second" for n in range(1, 21)}


def test_the_other_run_s_target_is_not_taken_over(tmp_path):
    costly = {**TOYS, "space": "costly_toys:COSTLY", "trials": 20}
    first = nas.search(**costly, target={"params": 500}, out=tmp_path / "first")
    plain = nas.search(**costly, reuse=str(first.path), out=tmp_path / "plain")
    assert "metric.told" not in plain.trials
    other = nas.search(**costly, reuse=str(first.path), target={"params": 200}, out=tmp_path / "other")
    fresh = nas.search(**costly, target={"params": 200}, out=tmp_path / "fresh")
    same = ["key", "reward", "metric.told"]
    pandas.testing.assert_frame_equal(other.trials[same], fresh.trials[same])


def test_scores_without_a_cost_that_has_a_target_are_not_taken_over(tmp_path):
    costly = {**TOYS, "space": "costly_toys:COSTLY", "trials": 6}
    first = nas.search(**costly, out=tmp_path / "first")
    with pytest.raises(InputError, match="the device of its stage costly have the fingerprint none"):
        nas.search(**costly, reuse=str(first.path), target="latency_ms=9", out=tmp_path / "timed")
    assert not (tmp_path / "timed").exists()


# Resuming


def test_a_killed_search_goes_on_without_the_other_run_s_folder(run, tmp_path, monkeypatch):
    calm = reusing(run, tmp_path, "calm", trials=30, controller="random").trials.drop(columns="seconds")
    evaluate, count = ToyTask.evaluate, []

    def dying(self, architecture):
        count.append(architecture)
        if len(count) == 3:
            raise Stop
        return evaluate(self, architecture)

    monkeypatch.setattr(ToyTask, "evaluate", dying)
    with pytest.raises(Stop):
        reusing(run, tmp_path, "killed", trials=30, controller="random")
    shutil.rmtree(run.path)
    resumed = nas.resume(tmp_path / "killed").trials.drop(columns="seconds")
    pandas.testing.assert_frame_equal(resumed, calm)


# Runs that do not fit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 3}, "it has seed = 0, this search has 3"),
        ({"reward": "metric"}, "it has reward = 'loss', this search has 'metric'"),
        ({"task": {"nap": 1.0}}, "it has task = {}, this search has {'nap': 1.0}"),
        ({"backbone": "tiny"}, "it has backbone = None, this search has 'tiny'"),
        ({"space": "fake_tasks:MOODY"}, "its stages are toy, those of this search moody"),
    ],
)
def test_a_run_with_another_setting_is_refused_before_anything_is_written(run, tmp_path, settings, message):
    with pytest.raises(InputError, match=re.escape(f"the run {run.path} cannot be reused: {message}")):
        reusing(run, tmp_path, trials=2, **settings)
    assert not (tmp_path / "second").exists()


def test_other_fingerprints_are_refused_by_the_first_that_differs_and_leave_nothing(run, tmp_path):
    record = read_record(run.path)
    record.fingerprints["toy"]["data"] = "other toys"
    write_record(run.path, record)
    flags = [*FLAGS, "--trials", "2", "--out", str(tmp_path / "second"), "--reuse", str(run.path)]
    assert search_command.main(flags) == 2
    assert not (tmp_path / "second").exists()


def test_a_folder_that_is_no_run_is_one_sentence_and_exit_status_2(run, tmp_path, capsys):
    flags = [*FLAGS, "--out", str(tmp_path / "second"), "--reuse", f"{run.path},{tmp_path}"]
    assert search_command.main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"nas-search: {tmp_path} is not a run: it has no run.yaml"
    assert not (tmp_path / "second").exists()


def test_other_data_are_refused_before_they_are_prepared(voc, run, monkeypatch):
    monkeypatch.setattr(ToyTask, "prepare", lambda *_: pytest.fail("it is prepared"))
    with pytest.raises(InputError, match="the data of its stage toy have the fingerprint toys, those of this search "):
        nas.search(**TOYS, data=voc.data, trials=2, out=voc.root / "other", reuse=[run.path])


class Heads(ToyTask):
    """A later stage's scores depend on the winner of the stage before."""

    def __init__(self, space, options, previous=None):
        super().__init__(space, options, previous)
        self.previous = previous

    def fingerprints(self):
        return {"data": "toys", **({"features": self.previous.key} if self.previous else {})}


def test_a_later_stage_takes_over_what_was_found_with_the_same_winner_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(proxy_tasks.PROXY_TASKS._entries, "fcos", Heads)
    shared = {"space": "fcos_decoder", "controller": "random", "device": "cpu", "trials": (2, 3)}
    first = nas.search(**shared, out=tmp_path / "first")
    capsys.readouterr()
    nas.search(**shared, reuse=str(first.path), out=tmp_path / "same")
    assert "fcos_head: 3 scores are taken over from first" in capsys.readouterr().out
    more = nas.search(**{**shared, "trials": (9, 3)}, reuse=str(first.path), out=tmp_path / "more")
    assert more.best()[0] != first.best()[0]
    shown = capsys.readouterr().out
    assert "fcos_fpn: 2 scores are taken over from first" in shown
    assert re.search(r"Nothing is taken over from first for fcos_head: the features of its stage fcos_head have", shown)
    assert dict(more.trials.groupby("stage").status.value_counts()) == {
        ("fcos_fpn", "done"): 7,
        ("fcos_fpn", "duplicate"): 2,
        ("fcos_head", "done"): 3,
    }
