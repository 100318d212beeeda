"""The stopping rule alone, in the search loop and in a whole search; on workers see ``test_nas_pool``."""

import math
import statistics
from dataclasses import replace
from itertools import product

import pytest
from fake_tasks import TOY, ToyController, ToyTask, reward_of
from hypothesis import given
from hypothesis import strategies as st
from stopped_rows import assert_stopped_by_rank

import nas
from nas.run.store import RunStore
from nas.searching.early_stopping import InterimRanks, StoppingRule
from nas.searching.engines import in_process
from nas.searching.evaluation import Outcome
from nas.searching.loop import SearchLoop
from proxy_tasks import TaskOptions
from proxy_tasks.task import Interim

SURE = StoppingRule(0, chance=0.0)
REWARDS = st.lists(st.integers(-50, 50), max_size=40)
INCREASING = [
    lambda x: x - 1000.0,
    lambda x: x + 1000.0,
    lambda x: float(x) ** 3,
    lambda x: math.exp(x / 10),
    lambda x: -math.exp(-x / 10),
    lambda x: x * 1e-300,
    lambda x: x * 1e300,
]


def stops(rule, reward, earlier, trial=1):
    better = sum(other > reward for other in earlier)
    return rule.reason_to_stop(trial, Interim(10, 20, reward), len(earlier), better)


@given(reward=st.integers(-50, 50), earlier=REWARDS)
def test_a_trial_below_the_median_of_eight_or_more_is_stopped_with_its_rank(reward, earlier):
    if len(earlier) >= 8 and reward < statistics.median_low(earlier):
        rank = sorted([*earlier, reward], reverse=True).index(reward) + 1
        expected = f"stopped after step 10 of 20: rank {rank} of {len(earlier) + 1}"
    else:
        expected = None
    assert stops(SURE, reward, earlier) == expected


@given(reward=st.integers(-50, 50), earlier=REWARDS, number=st.integers(0, len(INCREASING) - 1))
def test_only_the_order_of_the_rewards_counts(reward, earlier, number):
    mapped = INCREASING[number]
    assert stops(SURE, mapped(reward), list(map(mapped, earlier))) == stops(SURE, reward, earlier)


@pytest.mark.parametrize("value", [-1e300, -1.0, 0.0, 2.5])
def test_equal_rewards_never_stop_each_other(value):
    assert [stops(SURE, value, [value] * n) for n in range(50)] == [None] * 50
    assert stops(SURE, value, [value] * 20 + [1e301] * 20) is None
    assert stops(SURE, value, [value] * 20 + [1e301] * 21) is not None


def test_a_trial_alone_or_among_a_handful_goes_on():
    assert [stops(SURE, -9.0, [1.0] * n) is None for n in range(10)] == [True] * 8 + [False] * 2


def test_one_in_ten_goes_on_all_the_same_drawn_from_seed_and_trial():
    def spared(seed):
        return [stops(StoppingRule(seed), -1.0, [0.0] * 8, trial) is None for trial in range(1, 4001)]

    first = spared(7)
    assert first == spared(7)
    assert first != spared(8)
    for seed in (7, 8, 2**40):
        assert 340 < sum(spared(seed)) < 460  # 3 standard deviations of 4000 draws


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-5, 5).map(float)), max_size=40), st.data())
def test_a_standing_is_what_counting_gives(scores, data):
    known = data.draw(st.integers(0, len(scores)))
    ranks = InterimRanks(scores[:known])
    for step, reward in scores[known:]:
        ranks.add(step, reward)
    for step, reward in product((1, 2, 3), (-6.0, -1.0, 0.0, 5.0)):
        at = [other for where, other in scores if where == step]
        assert ranks.standing(step, reward) == (len(at), sum(other > reward for other in at))


def test_the_search_loop_tells_the_interim_score_of_a_stopped_trial_and_goes_on(store):
    controller = ToyController(TOY)
    loop = SearchLoop(store, "toy", 30, controller, stopping=SURE)
    trials = [loop.next_trial() for _ in range(9)]
    for number, trial in enumerate(trials[:8]):
        assert loop.record(trial, Interim(1, 2, float(number)))
        assert loop.record(trial, Interim(2, 3, -float(number)))
    last = trials[8]
    assert loop.record(last, Interim(3, 4, -99.0))  # no other trial has a score at that step
    assert not loop.record(last, Interim(1, 2, 2.5, {"params": 7.0}, 1.5))
    row = store.trials()[last.id - 1]
    assert (row.status, row.reward, row.metrics, row.seconds) == ("stopped", 2.5, {"params": 7.0}, 1.5)
    assert row.reason == "stopped after step 1 of 2: rank 6 of 9"
    assert {number: reward for number, _, reward in controller.told}[last.proposal.id] == 2.5
    assert store.interim(last.id) == [(3, 4, -99.0), (1, 2, 2.5)]


def test_an_outcome_ends_an_evaluation_and_another_stage_does_not_count(store):
    store.add_stage("other", 1, 9)
    others = SearchLoop(store, "other", 20, ToyController(TOY), stopping=SURE)
    for _ in range(9):
        trial = others.next_trial()
        others.record(trial, Interim(1, 2, 1.0))
        assert not others.record(trial, Outcome("done", 1.0))
    loop = SearchLoop(store, "toy", 1, ToyController(TOY), stopping=SURE)
    assert loop.record(loop.next_trial(), Interim(1, 2, -1.0))


def test_in_this_process_the_rule_decides_and_closes_what_it_stops(store, tmp_path):
    rule = StoppingRule(3)
    task = ToyTask(TOY, TaskOptions(overrides={"closed": str(tmp_path / "closed")}))
    in_process.run(SearchLoop(store, "toy", 80, ToyController(TOY), stopping=rule), task)
    assert_stopped_by_rank(store, rule)
    closed = (tmp_path / "closed").read_text().split()
    assert closed == [row.key for row in store.trials() if row.status == "stopped"]


def test_without_the_rule_none_is_stopped(store):
    in_process.run(SearchLoop(store, "toy", 60, ToyController(TOY)), ToyTask(TOY, TaskOptions()))
    assert {row.status for row in store.trials()} == {"done", "duplicate"}


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_the_chance_at_its_ends(store, chance):
    rule = replace(SURE, chance=chance)
    in_process.run(SearchLoop(store, "toy", 60, ToyController(TOY), stopping=rule), ToyTask(TOY, TaskOptions()))
    assert any(row.status == "stopped" for row in store.trials()) == (chance == 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    toys = {"space": "fake_tasks:TOY", "controller": "fake_tasks:ToyController", "device": "cpu"}
    return nas.search(**toys, trials=60, seed=3, confirm=0, out=tmp_path_factory.mktemp("stopped") / "run")


def test_a_whole_search_stops_by_default_and_never_ranks_a_stopped_trial(run):
    store = RunStore(run.path / "trials.db", read_only=True)
    assert_stopped_by_rank(store, StoppingRule(3))
    store.close()
    frame = run.trials
    done = frame[frame.status == "done"]
    assert len(done) < len(frame.key.unique())
    assert {ranked.number for ranked in run.ranked()["toy"]} == set(done.trial)
    assert [architecture.key for architecture in run.best(100)] == list(done.sort_values("reward").key[::-1])
    assert all(frame.params[frame.status == "stopped"] > 0)


def test_the_best_so_far_on_the_curves_is_of_done_trials(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    frame = run.trials
    curves = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert [event.value for event in curves.Scalars("toy/reward")] == pytest.approx(list(frame.reward))
    best = frame.reward.where(frame.status == "done").cummax().ffill()
    assert [event.value for event in curves.Scalars("toy/best")] == pytest.approx(list(best))


def test_the_closing_table_lists_no_stopped_trial(run, capsys):
    nas.resume(run.path)
    shown = capsys.readouterr().out
    frame = run.trials
    for key in frame.key[frame.status == "stopped"]:
        assert key not in shown
    assert f"{max(reward_of(architecture) for architecture in run.best(5)):.4f}" in shown
