"""A search with a target: what is told, what wins, what is stopped, and that it goes on as if nothing had happened."""

import re

import pytest
from costly_toys import COSTLY, CostlyTask, params_of
from fake_tasks import TOY, ToyController, ToyTask, reward_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_nas_search_loop import Dying, Killed, rows
from toy_runs import FLAGS, TOYS

import nas
from nas.analysis import analyse
from nas.cli import search as search_command
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from nas.searching.engines import in_process
from nas.searching.loop import SearchLoop
from nas.settings.targets import Targets
from proxy_tasks import TaskOptions
from search_spaces import InputError

COSTLY_TOYS = {**TOYS, "space": "costly_toys:COSTLY"}
TARGETS = Targets({"params": 500.0})


def architecture_of(row):
    return COSTLY.from_named({choice.name: row[choice.name] for choice in COSTLY.choices})


@pytest.fixture
def run(tmp_path):
    return nas.search(**COSTLY_TOYS, trials=40, target={"params": "0.5k"}, out=tmp_path / "run")


def test_the_row_keeps_the_reward_and_the_controller_is_told_what_the_target_leaves(run):
    told = {}
    for _, row in run.trials.iterrows():
        architecture = architecture_of(row)
        assert (row.reward, row.params) == (reward_of(architecture), params_of(architecture))
        assert row["metric.told"] == TARGETS.told(row.reward, {"params": row.params})
        told[row.trial - 1] = row["metric.told"]
    with RunStore(run.path / "trials.db", read_only=True).one_moment():
        state = RunStore(run.path / "trials.db", read_only=True).controller_state("costly")
    assert {number: reward for number, _, reward in state["told"]} == told
    assert (run.trials.params > 500).any()


def test_the_winner_is_the_best_by_what_was_told(run):
    done = run.trials[run.trials.status == "done"]
    best = done.loc[done["metric.told"].idxmax()]
    assert run.best()[0].key == best.key
    assert best.reward < done.reward.max()
    assert best.key != done.loc[done.reward.idxmax()].key
    told = [item.told for item in run.ranked()["costly"]]
    assert told == sorted(told, reverse=True)


def test_tables_show_reward_told_cost_and_whether_the_target_is_met(tmp_path, capsys):
    flags = [*FLAGS, "--trials", "20", "--workers", "0", "--out", str(tmp_path / "run"), "--target", "params=500"]
    flags[flags.index("fake_tasks:TOY")] = "costly_toys:COSTLY"
    assert search_command.main(flags) == 0
    shown = capsys.readouterr().out
    assert "costly: the best 5 under params=500" in shown
    assert re.search(r"rank.*reward.*told.*met.*params", shown)
    first = nas.load_run(tmp_path / "run").ranked()["costly"][0]
    assert re.search(rf"1.*{first.reward:.4f}.*{first.told:.4f}.*(yes|no)", shown)
    analysis = analyse(tmp_path / "run")
    assert analysis.settings[1].endswith("; under params=500")
    frame = analysis.tables["rewards"]
    assert frame.best_so_far.max() == first.told


def test_resume_keeps_the_target(run, capsys):
    assert len(nas.resume(run.path, trials=45).trials) == 45
    assert search_command.main(["--resume", str(run.path), "--target", "params=800"]) == 2
    assert re.search(r"has target = .'params': 500.0., but .'params': 800.0. is asked for", capsys.readouterr().err)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), kills=st.lists(st.integers(4, 25), max_size=6))
def test_a_search_killed_between_any_two_transactions_ends_as_an_undisturbed_one(tmp_path_factory, seed, kills):
    def search(kills):
        store = RunStore(tmp_path_factory.mktemp("run") / "trials.db", create=True)
        store.add_stage("toy", 0, 12)
        for budget in [*kills, 10**9]:
            controller = ToyController(COSTLY, seed)
            try:
                rule = StoppingRule(seed, earlier_trials=2)
                loop = SearchLoop(Dying(store, budget), "toy", 12, controller, stopping=rule, targets=TARGETS)
                in_process.run(loop, CostlyTask(COSTLY, TaskOptions()))
            except Killed:
                continue
            return rows(store), [store.interim(row.number) for row in store.trials()], controller.state_dict()
        raise AssertionError

    assert search(kills) == search([])


# Early stopping


def test_trials_are_compared_along_the_way_by_what_would_be_told(store):
    rule = StoppingRule(1, earlier_trials=3, chance=0.0)
    loop = SearchLoop(store, "toy", 60, ToyController(COSTLY, 1), stopping=rule, targets=TARGETS)
    in_process.run(loop, CostlyTask(COSTLY, TaskOptions()))
    earlier, stopped = [], 0
    for row in (row for row in store.trials() if row.status != "duplicate"):
        own = reward_of(COSTLY.from_named(row.choices)) - 1
        compared = TARGETS.told(own, row.metrics)
        assert store.interim(row.number) == [(1, 2, compared)]
        better = sum(score > compared for score in earlier)
        assert (row.status == "stopped") == (len(earlier) >= 3 and better > len(earlier) / 2)
        if row.status == "stopped":
            stopped += 1
            assert (row.reward, row.told) == (own, compared)
        earlier.append(compared)
    assert stopped > 3


class Silent(CostlyTask):
    """Does not know the cost along the way."""

    def evaluate(self, architecture):
        for item in super().evaluate(architecture):
            if hasattr(item, "step"):
                item.metrics.clear()
            yield item


def test_a_trial_whose_cost_is_not_known_along_the_way_is_not_stopped(store):
    rule = StoppingRule(1, earlier_trials=1, chance=0.0)
    in_process.run(SearchLoop(store, "toy", 12, ToyController(COSTLY), stopping=rule, targets=TARGETS),
                   Silent(COSTLY, TaskOptions()))  # fmt: skip
    assert {row.status for row in store.trials()} <= {"done", "duplicate"}
    assert all(row.told == TARGETS.told(row.reward, row.metrics) for row in store.trials())


# Costs that a task does not give


def test_a_score_without_the_cost_is_a_failed_row_with_its_reason(store):
    controller = ToyController(TOY)
    loop = SearchLoop(store, "toy", 3, controller, targets=Targets({"latency_ms": 5.0}))
    in_process.run(loop, ToyTask(TOY, TaskOptions()))
    first = store.trials()[0]
    reason = "there is a target for latency_ms, but the proxy task's metrics have no such figure"
    assert (first.status, first.reward, first.reason) == ("failed", None, reason)
    assert first.metrics["macs"] == 5e9
    assert {reward for _, _, reward in controller.told} == {None}


def test_a_task_whose_networks_cannot_be_timed_is_refused_before_anything_is_written(tmp_path, capsys):
    assert search_command.main([*FLAGS, "--out", str(tmp_path / "run"), "--target", "latency_ms=5"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a target for latency_ms needs a proxy task that says how its networks run" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["flops=1", "macs=0", "macs=1G macs=2G", "macs"])
def test_a_bad_target_is_one_sentence_and_exit_status_2(tmp_path, capsys, text):
    assert search_command.main([*FLAGS, "--out", str(tmp_path / "run"), "--target", *text.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nas-search: ")
    assert not (tmp_path / "run").exists()


# Latency


def test_latency_is_measured_in_the_trial_where_it_is_asked_for(tmp_path, monkeypatch):
    timed = []
    monkeypatch.setattr("nas.searching.timed.median_milliseconds", lambda run, *_: timed.append(run()) or 4.0)
    run = nas.search(**COSTLY_TOYS, trials=6, target={"latency_ms": 2}, out=tmp_path / "run")
    frame = run.trials
    assert len(timed) == (frame.status == "done").sum()
    assert set(frame["metric.latency_ms"]) == {4.0}
    assert [row.told for row in run.contents().trials] == [Targets({"x": 1}).told(r, {"x": 2}) for r in frame.reward]
    assert run.record.fingerprints["costly"].keys() == {"data", "device"}


def test_latency_of_another_device_is_refused_when_the_run_goes_on(tmp_path, monkeypatch):
    nas.search(**COSTLY_TOYS, trials=2, target={"latency_ms": 1000}, out=tmp_path / "run")
    monkeypatch.setattr("nas.searching.timed.device_name", lambda device: "a toaster, 2 threads")
    with pytest.raises(InputError, match=r"the device of the run .*: its fingerprint is a toaster, was "):
        nas.resume(tmp_path / "run", trials=4)


# Confirmation


def test_candidates_and_the_confirmed_are_in_the_order_of_what_the_target_leaves(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nas.searching.confirming.SHARE", 1e9)  # toys take no time
    run = nas.search(
        **COSTLY_TOYS | {"confirm": (4, 3)}, trials=40, target={"params": 500}, pareto="macs", out=tmp_path / "run"
    )
    ranked, means = run.ranked()["costly"], {}
    rows = run.contents().scores
    assert [row.contender.key for row in rows[:4]] == [item.key for item in ranked[:4]]
    for row in rows:
        own = reward_of(COSTLY.from_named(row.contender.choices), row.seed)
        assert row.reward == own
        means.setdefault(row.contender.key, []).append(TARGETS.told(own, row.metrics))
    order = sorted(means, key=lambda key: -sum(means[key]))
    assert [architecture.key for architecture in run.best(4)] == list(run.confirmed.key) == order
    assert run.front("macs").trial.isin([item.number for item in ranked]).all()
    shown = capsys.readouterr().out
    assert "confirmed, means and deviations from 3 seeds under params=500" in shown
    assert "the front of reward against MACs: " in shown
    frame = analyse(run).tables["confirmed"]
    assert list(frame.told) == pytest.approx([sum(means[key]) / 3 for key in order])
