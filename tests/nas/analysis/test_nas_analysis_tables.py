import itertools
import math

import numpy as np
import pandas as pd
import pytest
from analysis_runs import row, write_run, write_stages
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from nas.analysis import analyse
from nas.analysis.analysing import names_apart
from nas.analysis.tables import TABLES, random_baseline, write_tables
from nas.run.front import on_front
from search_spaces import InputError
from search_spaces.fcos.choices import join

A, B, C, D = range(4)
SUM, CAT = range(2)
BY_HAND = [
    row((A, A, SUM), 1.0, started=0.0, seconds=10.0, interim=0.5, params=10, macs=5),
    row((A, B, SUM), 2.0, started=12.0, seconds=10.0, interim=1.0, params=20, macs=4, ap=math.nan),
    row((B, A, SUM), "duplicate", 2.0, "same network as trial 2", started=22.0, seconds=0.0, params=20, macs=4),
    row((C, C, CAT), "diverged", None, "the loss is nan at iteration 3 of 60", started=23.0, seconds=4.0, interim=0.1),
    row((C, D, CAT), "diverged", None, "the loss is nan at iteration 14 of 60", started=27.0, seconds=5.0),
    row((B, B, CAT), "stopped", 9.0, "bad", started=32.0, seconds=2.0, diagnostics={"entropy": 2.5, "kl": math.nan}),
    row((D, D, CAT), 3.0, started=35.0, seconds=15.0, interim=1.5, params=15, macs=6),
    row((A, D, SUM), "running", started=51.0, interim=0.2),
]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    return analyse(write_run(tmp_path_factory.mktemp("hand") / "run", BY_HAND, workers=2))


def values(table, *columns, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    return [tuple(row) for row in table[list(columns)].itertuples(index=False)]


def test_every_table_has_its_columns_and_is_written(by_hand, tmp_path):
    assert {name: tuple(table.columns) for name, table in by_hand.tables.items()} == TABLES
    write_tables([by_hand], tmp_path)
    for name, table in by_hand.tables.items():
        back = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        assert list(back.columns) == ["run", *TABLES[name]]
        assert len(back) == len(table)


def test_rewards_by_hand(by_hand):
    third = 5 / 3
    rewards = by_hand.tables["rewards"]
    assert list(rewards.number) == list(rewards.trial) == [1, 2, 3, 4, 5, 6, 7]
    assert rewards.reward.tolist() == pytest.approx([1, 2, 2, math.nan, math.nan, 9, 3], nan_ok=True)
    assert rewards.running_mean.tolist() == pytest.approx([1, 1.5, third, third, third, third, 2])
    assert rewards.best_so_far.tolist() == [1, 2, 2, 2, 2, 2, 3]
    assert values(by_hand.tables["metrics"], "number", "value", metric="params") == [(1, 10), (2, 20), (3, 20), (7, 15)]
    assert values(by_hand.tables["metrics"], "value", metric="ap") == []


def test_sampling_by_hand(by_hand):
    proportions = by_hand.tables["proportions"]
    assert values(proportions, "option", "count", "share", "expected", kind="op") == [
        ("a", 5, 5 / 16, 0.25),
        ("b", 4, 4 / 16, 0.25),
        ("c", 3, 3 / 16, 0.25),
        ("d", 4, 4 / 16, 0.25),
    ]
    assert values(proportions, "option", "count", kind="agg") == [("sum", 4), ("cat", 4)]
    over_time = by_hand.tables["proportions_over_time"]
    assert values(over_time, "first", "last", "count", option="a") == [
        (number, number, sum(token == A for token in item["tokens"][:2])) for number, item in enumerate(BY_HAND, 1)
    ]


def test_effects_by_hand(by_hand):
    columns = ("option", "used", "not_used", "mean_with", "mean_without", "difference")
    ops = values(by_hand.tables["effects"], *columns, kind="op")
    # of the interim scores of the three done trials and the stopped one; diverged and running trials do not count
    assert ops[0] == pytest.approx(("a", 3, 5, 2 / 3, 4.4, 2 / 3 - 4.4))
    assert ops[1] == pytest.approx(("b", 3, 5, 19 / 3, 1, 16 / 3))
    assert ops[2] == pytest.approx(("c", 0, 8, math.nan, 3, math.nan), nan_ok=True)
    left = values(by_hand.tables["effects_by_choice"], *columns, choice="left")
    assert left[0] == pytest.approx(("a", 2, 2, 0.75, 5.25, -4.5))
    assert set(by_hand.tables["effects"].score) == set(by_hand.tables["effects_by_choice"].score) == {"step 1 of 2"}
    assert by_hand.tables["effects"][["low", "high", "p", "p_holm"]].isna().all(axis=None)
    assert "its effects are of the interim scores at step 1 of 2" in by_hand.notes["effects"]
    assert "6 of 6 options have no interval" in by_hand.notes["effects"]


def test_fronts_failures_and_time_by_hand(by_hand):
    pareto = by_hand.tables["pareto"]
    assert values(pareto, "trial", "params_front", "macs_front") == [
        (1, True, False),
        (2, False, True),
        (7, True, True),
    ]
    (failure,) = values(by_hand.tables["failures"], "status", "reason", "count")
    assert failure == ("diverged", "the loss is nan at iteration 3 of 60", 2)
    # two workers for the 51 s from the first proposal to the last one's
    assert dict(values(by_hand.tables["wall_time"], "part", "seconds")) == {
        "inside trials: done": 35,
        "inside trials: diverged": 9,
        "inside trials: stopped": 2,
        "between trials": 56,
        "total": 102,
    }
    assert dict(values(by_hand.tables["statuses"], "status", "count"))["diverged"] == 2
    assert values(by_hand.tables["controller"], "trial", "number", "name", "value") == [(6, 6, "entropy", 2.5)]
    assert [best.trials[0].number for best in by_hand.best] == [7, 2, 1]
    assert by_hand.settings[2].startswith("8 of 8 trials: 3 done, 2 diverged, 1 duplicate, 1 stopped, 1 running; begun")


points = st.tuples(st.integers(0, 4), st.integers(0, 4) | st.just(math.nan))


@given(st.lists(points, max_size=12))
def test_a_front_is_what_nothing_dominates(drawn):
    def dominated(reward, cost):
        return any(r >= reward and c <= cost and (r, c) != (reward, cost) for r, c in drawn)

    expected = [not math.isnan(cost) and not dominated(reward, cost) for reward, cost in drawn]
    reward, cost = np.array(drawn, dtype=float).reshape(-1, 2).T
    assert on_front(reward, cost).tolist() == expected


@pytest.mark.parametrize("count", [1, 30, 777])
def test_windows_over_time_add_up_to_the_whole(tmp_path, count):
    rng = np.random.default_rng(count)
    tokens = rng.integers(0, (4, 4, 2), size=(count, 3)).tolist()
    tables = analyse(write_run(tmp_path / "run", [row(t, float(i)) for i, t in enumerate(tokens)])).tables
    over_time = tables["proportions_over_time"]
    summed = over_time.groupby(["kind", "option"])["count"].sum()
    whole = tables["proportions"].set_index(["kind", "option"])["count"]
    assert summed.to_dict() == whole.to_dict()
    starts = sorted(set(over_time["first"]))
    assert starts == list(range(1, count + 1, min(50, math.ceil(count / 10))))
    assert over_time["last"].max() == count
    left = [sum(t == k for pair in tokens for t in pair[:2]) for k in range(4)]
    assert [whole["op", option] for option in "abcd"] == left


def test_inputs_of_a_growing_pool_are_compared_with_what_uniform_draws_expect(tmp_path):
    space = search_spaces.get("fcos_fpn")
    rng = np.random.default_rng(0)
    rows = [row(space.sample(rng).tokens, float(i)) for i in range(300)]
    proportions = analyse(write_run(tmp_path / "run", rows, space="fcos_fpn")).tables["proportions"]
    inputs = proportions[proportions.kind == "input"].set_index("option")
    # block t of 7 has a pool of 2 + t maps and takes two of them; b6 is in block 7's pool alone
    assert inputs.expected["C3"] == pytest.approx(sum(1 / (2 + t) for t in range(1, 8)) / 7)
    assert inputs.expected["b6"] == pytest.approx(1 / 9 / 7)
    assert inputs.share.to_numpy() == pytest.approx(inputs.expected.to_numpy(), abs=0.02)
    assert inputs[["share", "expected"]].sum().tolist() == pytest.approx([1, 1])


def test_fully_shared_heads_are_counted_by_their_network(tmp_path):
    head = search_spaces.get("fcos_head")
    skip, conv = head.choices[0].token("skip"), head.choices[0].token("conv3x3")
    shared = row((conv,) * 6 + (0,), 1.0)
    skips_before = row((skip, skip, conv, conv, conv, conv, 2), 1.0)
    per_level = row((skip, conv, conv, conv, conv, conv, 2), 1.0)
    rows = [per_level] * 40 + [skips_before] * 10 + [shared] * 50 + [per_level, shared]
    sharing = analyse(write_run(tmp_path / "run", rows, space="fcos_head")).tables["weight_sharing"]
    assert values(sharing, "first", "last", "count", "fully_shared", "share") == [
        (1, 50, 50, 10, 0.2),
        (51, 100, 50, 50, 1.0),
        (101, 102, 2, 1, 0.5),
    ]


def test_a_promoted_decoder_is_found_by_the_stages_it_is_joined_from(tmp_path):
    fpn, head = (search_spaces.get(name) for name in ("fcos_fpn", "fcos_head"))
    rng = np.random.default_rng(0)
    fpns = [fpn.sample(rng) for _ in range(2)]
    heads = [head.sample(rng) for _ in range(2)]
    stages = {
        "fcos_fpn": [row(fpns[0].tokens, 1.0, started=0.0), row(fpns[1].tokens, 2.0, started=1.0)],
        "fcos_head": [row(heads[0].tokens, 4.0, started=7.0), row(heads[1].tokens, 3.0, started=8.0)],
    }
    promotions = [{"key": join(fpns[1], heads[1]).key, "metrics": {"ap": 0.3}}]
    analysis = analyse(write_stages(tmp_path / "run", stages, "fcos_decoder", promotions))
    assert values(analysis.tables["promoted"], "stage", "trial", "reward", "value") == [("fcos_head", 4, 3.0, 0.3)]
    assert [[trial.number for trial in best.trials] for best in analysis.best] == [[2, 3], [2, 4]]
    assert dict(values(analysis.tables["wall_time"], "part", "seconds", stage="fcos_head"))["before the stage"] == 5
    assert list(analysis.tables["rewards"].number) == [1, 2, 1, 2]


def test_runs_are_told_apart_and_the_random_one_is_the_baseline(tmp_path):
    paths = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "other"]
    for path, controller in zip(paths, ("lstm-ppo", "random", "evolution"), strict=True):
        write_run(path, BY_HAND, controller=controller)
    names = names_apart(paths)
    assert names == ["x/run", "y/run", "other"]
    with pytest.raises(InputError, match=r"the run .*/other/\. is given twice|the run .*/other is given twice"):
        names_apart([paths[2], f"{paths[2]}/."])
    ppo, baseline, evolution = analyses = [analyse(p, name) for p, name in zip(paths, names, strict=True)]
    assert random_baseline(ppo, analyses) is random_baseline(evolution, analyses) is baseline
    assert random_baseline(baseline, analyses) is None
    write_tables(analyses, tmp_path)
    rewards = pd.read_csv(tmp_path / "tables" / "rewards.csv")
    assert [(name, len(list(group))) for name, group in itertools.groupby(rewards.run)] == [(n, 7) for n in names]
