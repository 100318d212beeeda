"""Confirmation on toys: who is confirmed, from which seeds, in what order, and how it goes on."""

import math
import re

import pytest
from fake_tasks import TOY, ToyTask, reward_of
from toy_runs import FLAGS, TOYS, Stop

import nas
import proxy_tasks
from nas.cli import search as search_command
from nas.run.confirmed import confirmation_seeds
from nas.run.store import RunStore
from nas.searching.limits import Limits

SEEDS = (1000, 1001, 1002)
CONFIRMED = {**TOYS, "confirm": "4,3", "task": {"sleep": 0.002}}


@pytest.fixture
def without_limit(monkeypatch):
    """Toys take no time, so that a fifth of it is none: all that are asked for are confirmed."""
    monkeypatch.setattr("nas.searching.confirming.SHARE", 1e9)


@pytest.fixture
def confirmed(tmp_path, without_limit):
    return nas.search(**CONFIRMED, trials=20, out=tmp_path / "run")


def scores(run):
    """All that must not depend on interruptions."""
    rows = run.contents().scores
    return [(r.purpose, r.contender, r.seed, r.status, r.reward, r.reason, r.metrics) for r in rows]


def test_the_seeds_of_a_confirmation_are_no_search_s():
    assert confirmation_seeds(0, 3) == SEEDS
    assert confirmation_seeds(7, 2) == (8000, 8001)
    assert all(0 <= seed < 2**63 for seed in confirmation_seeds(2**62, 3))


def test_the_best_are_trained_from_every_seed_and_ordered_by_their_means(confirmed, capsys):
    by_reward = sorted(confirmed.trials.query("status == 'done'").reward, reverse=True)
    rows = confirmed.contents().scores
    assert {row.purpose for row in rows} == {"confirmation"}
    assert [row.seed for row in rows] == [seed for seed in SEEDS for _ in range(4)]
    candidates = [row.contender for row in rows[:4]]
    trials = confirmed.trials.set_index("trial")
    assert [trials.reward[contender.trials[0]] for contender in candidates] == by_reward[:4]
    means = {}
    for row in rows:
        architecture = TOY.from_named(row.contender.choices)
        assert (row.status, row.reward) == ("done", reward_of(architecture, row.seed))
        means.setdefault(architecture.key, []).append(row.reward)
    order = sorted(means, key=lambda key: -math.fsum(means[key]))
    assert [architecture.key for architecture in confirmed.best(4)] == order
    rest = [architecture.key for architecture in confirmed.best(100)][4:]
    assert [trials.reward[trials.key == key].iloc[0] for key in rest] == by_reward[4:]


def test_so_many_are_confirmed_as_are_asked_for_and_without_that_as_fit_into_a_fifth_of_the_time(tmp_path):
    asked = nas.search(**TOYS | {"confirm": (3, 2)}, trials=20, out=tmp_path / "asked")
    assert len(scores(asked)) == 3 * 2
    free = nas.search(**TOYS | {"confirm": None}, trials=20, out=tmp_path / "free")
    assert len(scores(free)) == 2 * 2  # toys take no time, and two candidates from two seeds are the least
    assert [(len(standing.rows), standing.reason) for standing in free.standings()] == [(2, "")] * 2


def test_a_run_without_confirmation_is_ordered_by_its_trials(tmp_path):
    run = nas.search(**TOYS, trials=20, out=tmp_path / "run")
    assert run.contents().scores == []
    assert run.standings() == []
    assert reward_of(run.best()[0]) == run.trials.reward.max()


def test_a_finished_run_is_confirmed_when_it_is_resumed_and_only_once(tmp_path, without_limit, monkeypatch, confirmed):
    other = nas.search(**{**CONFIRMED, "confirm": 0}, trials=20, out=tmp_path / "other")
    assert scores(nas.resume(other.path, confirm=(4, 3))) == scores(confirmed)
    monkeypatch.setattr(ToyTask, "evaluate", lambda *_: pytest.fail("it is scored anew"))
    monkeypatch.setattr(ToyTask, "prepare", lambda *_: pytest.fail("it is prepared anew"))
    before = scores(confirmed)
    assert scores(nas.resume(confirmed.path)) == before


def test_more_seeds_and_other_candidates_are_added_to_what_is_there(confirmed):
    before = scores(confirmed)
    after = nas.resume(confirmed.path, confirm="5,4")
    assert scores(after)[:12] == before
    assert len(scores(after)) == 20
    assert [len(standing.rows) for standing in after.standings()] == [4] * 5
    fewer = nas.resume(confirmed.path, confirm="2,2")  # what is scored stays, and counts on from these seeds
    assert [len(standing.rows) for standing in fewer.standings()] == [2] * 5
    assert nas.resume(confirmed.path, confirm="0").standings() == []


@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_an_interrupted_confirmation_ends_with_the_rows_of_an_undisturbed_one(tmp_path, confirmed, monkeypatch, count):
    evaluate, seen = ToyTask.evaluate, []

    def stopping(self, architecture, seed=None):
        seen.append(seed)
        if len(seen) - seen.count(None) == count:
            raise Stop
        return evaluate(self, architecture, seed)

    with monkeypatch.context() as patch:
        patch.setattr(ToyTask, "evaluate", stopping)
        with pytest.raises(Stop):
            nas.search(**CONFIRMED, trials=20, out=tmp_path / "killed")
    half = nas.load_run(tmp_path / "killed")
    assert [row.status for row in half.contents().scores].count("done") == count - 1
    assert half.standings() == []  # a part of the seeds says nothing yet
    assert scores(nas.resume(half.path)) == scores(confirmed)


def test_ctrl_c_in_the_confirmation_takes_no_life_and_says_how_to_go_on(tmp_path, without_limit, monkeypatch, capsys):
    evaluate = ToyTask.evaluate

    def interrupted(self, architecture, seed=None):
        if seed is not None:
            raise KeyboardInterrupt
        return evaluate(self, architecture)

    monkeypatch.setattr(ToyTask, "evaluate", interrupted)
    path = tmp_path / "run"
    assert search_command.main([*FLAGS, "--trials", "9", "--confirm", "2,2", "--out", str(path)]) == 130
    for _ in range(3):
        assert search_command.main(["--resume", str(path)]) == 130
    assert f"interrupted; go on with nas-search --resume {path}" in capsys.readouterr().err
    assert {row.status for row in nas.load_run(path).contents().scores} == {"waiting"}
    monkeypatch.undo()
    assert search_command.main(["--resume", str(path)]) == 0
    assert {row.status for row in nas.load_run(path).contents().scores} == {"done"}


def test_what_fails_or_diverges_from_one_seed_is_no_winner_and_a_row_with_its_reason(
    tmp_path, without_limit, monkeypatch
):
    evaluate, first = ToyTask.evaluate, []

    def failing(self, architecture, seed=None):
        first.append(architecture.key) if seed == 1000 else None
        if seed == 1001 and architecture.key == first[0]:
            raise ZeroDivisionError("by nought")
        for item in evaluate(self, architecture, seed):
            worse = seed == 1002 and architecture.key == first[1]
            yield type(item)(**{**vars(item), "reward": math.nan}) if worse else item

    monkeypatch.setattr(ToyTask, "evaluate", failing)
    run = nas.search(**CONFIRMED, trials=20, out=tmp_path / "run")
    assert [row.status for row in run.contents().scores].count("done") == 10
    found = run.standings()
    failed, diverged = sorted(standing.reason for standing in found[2:])
    assert re.fullmatch(r"seed 1001: ZeroDivisionError: by nought \(\S+:\d+\)", failed)
    assert diverged == "seed 1002: the reward is nan at step 1 of 2"
    assert [a.key for a in run.best(2)] == [standing.contender.key for standing in found[:2]]
    assert {standing.contender.key for standing in found[2:]} == set(first[:2])


def test_where_no_candidate_is_confirmed_the_order_is_the_search_s(tmp_path, monkeypatch, capsys):
    def once(self, architecture):  # a task that takes no seed
        return ToyTask.once(self, architecture)

    monkeypatch.setattr(ToyTask, "once", ToyTask.evaluate, raising=False)
    monkeypatch.setattr(ToyTask, "evaluate", once)
    run = nas.search(**CONFIRMED, trials=20, out=tmp_path / "run")
    assert reward_of(run.best()[0]) == run.trials.reward.max()
    assert "No winner is confirmed: seed 1000: TypeError: " in capsys.readouterr().out


def test_time_that_is_over_leaves_the_confirmation_for_later(tmp_path, without_limit, capsys, monkeypatch):
    finish, over = RunStore.finish_stage, []
    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "finish_stage", lambda self, stage: (finish(self, stage), over.append(stage)))
        patch.setattr(Limits, "over", property(lambda self: bool(over)))
        run = nas.search(**CONFIRMED, trials=8, hours=2, out=tmp_path / "run")
    assert (run.contents().stages[0].finished, run.standings()) == (True, [])
    assert "The 2 hours are over before the search is; go on with" in capsys.readouterr().out
    assert len(nas.resume(run.path).standings()) == 4


def test_fewer_candidates_than_asked_for_are_told_in_one_line(tmp_path, capsys):
    run = nas.search(**CONFIRMED | {"confirm": None}, trials=20, out=tmp_path / "run")
    assert len(run.standings()) == 2
    shown = capsys.readouterr().out
    assert shown.count("Confirming 2 of 5 candidates and 0 of 0 references from 2 of 3 seeds each: more would") == 1
    nas.resume(run.path)
    assert "Confirming" not in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0,3", "-1", "a,b", "5,0", "5", "1,2,3", "5,-3", "1.5,2", ""])
def test_what_is_no_number_of_candidates_and_seeds_is_told(tmp_path, capsys, value):
    path = tmp_path / "run"
    assert search_command.main([*FLAGS, "--out", str(path), "--confirm", value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    rule = "must be two whole numbers of at least 1, as in 5,3, or 0, got"
    assert line == f"nas-search: setting 'confirm' {rule} {value!r}"
    assert not path.exists()


def test_a_metric_that_no_family_names_is_refused_before_the_search(tmp_path, capsys):
    path = tmp_path / "run"
    assert search_command.main([*FLAGS, "--out", str(path), "--confirm", "2,2", "--confirm-by", "metric"]) == 2
    assert "setting 'confirm_by' is 'metric', but the family " in capsys.readouterr().err
    assert not path.exists()


def test_a_task_that_refuses_the_whole_space_is_told_before_the_search(tmp_path, monkeypatch):
    class Stages(ToyTask):
        def __init__(self, space, options, previous=None):
            if space.name == "fcos_decoder":
                raise nas.run.reading.InputError("one stage at a time")
            super().__init__(space, options, previous)

    monkeypatch.setitem(proxy_tasks.PROXY_TASKS._entries, "fcos", Stages)
    with pytest.raises(nas.run.reading.InputError, match="one stage at a time"):
        nas.search("fcos_decoder", trials=2, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_start_is_confirmed_however_far_behind_it_is(tmp_path, without_limit):
    worst = nas.search(**TOYS, trials=20, out=tmp_path / "first").ranked()[TOY.name][-1]
    start = TOY.from_named(worst.choices)
    changed = {"controller": "random", "start_from": (start,), "confirm": "2,3"}
    run = nas.search(**CONFIRMED | changed, trials=20, out=tmp_path / "run")
    assert {standing.contender.trials for standing in run.standings()} > {(1,)}
