"""Statistics of a confirmation, beside scipy's, and what they say in words."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from nas.run.confirmed import difference, standings
from nas.run.frames import confirmed_frame
from nas.run.rows import Contender, ScoreRow
from nas.run.verdict import measures, verdicts
from nas.settings.targets import Targets

SEEDS = (1000, 1001, 1002)
NAMED = measures("loss", "ap")


def contender(name):
    return Contender("", name, "toy", {}, (7,)) if name.startswith("k") else Contender(name)


def rows(**scores):
    """Rows of contenders by name, seed by seed: a reward, a dict of figures or, as a text, the reason of a failure."""
    made = []
    for name, own in scores.items():
        for seed, score in zip(SEEDS, own, strict=False):
            figures = {"reward": score} if isinstance(score, float) else score
            failed = isinstance(score, str)
            reward = None if failed else figures["reward"]
            metrics = {} if failed else {"loss": -reward, **{n: v for n, v in figures.items() if n != "reward"}}
            status, reason = ("diverged", score) if failed else ("done", None)
            made.append(
                ScoreRow(len(made), "confirmation", contender(name), seed, status, reward, reason, metrics, 1, 2.0)
            )
    return made


def of(by="reward", targets=None, **scores):
    return standings(rows(**scores), SEEDS, "ap", by, targets)


def order(found):
    return [standing.contender.name or standing.contender.key for standing in found]


@pytest.mark.parametrize("seed", range(20))
def test_the_chance_is_that_of_the_paired_t_test(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 9))
    one, other = rng.normal(size=(2, count)) + np.array([[rng.normal()], [0]])
    found = difference(list(one), list(other))
    expected = ttest_rel(one, other, alternative="greater")
    assert found.chance == pytest.approx(1 - expected.pvalue)
    assert found.mean == pytest.approx((one - other).mean())
    assert found.mean / found.error == pytest.approx(expected.statistic)
    assert difference(list(other), list(one)).chance == pytest.approx(1 - found.chance)


def test_chances_at_their_ends():
    assert vars(difference([1.0, 2.0], [0.5, 1.5])) == {"mean": 0.5, "error": 0.0, "chance": 1.0}
    assert difference([0.0, 1.0], [0.5, 1.5]).chance == 0.0
    assert difference([1.0, 2.0], [1.0, 2.0]).chance == 0.5
    one = difference([1.0], [0.5])  # one seed says nothing of chance
    assert one.mean == 0.5
    assert math.isnan(one.error)
    assert math.isnan(one.chance)
    assert math.isnan(difference([1.0, math.nan], [0.5, 0.5]).chance)


def test_the_order_is_that_of_means_then_macs_then_the_plan():
    found = of(
        k1=[1.0, 2.0, 3.0],
        base=[4.0, 4.0, 4.0],
        k2=[{"reward": 2.0, "macs": 5.0}] * 3,
        k3=[{"reward": 2.0, "macs": 3.0}] * 3,
        k4=[2.0, 2.0, 2.0],
    )
    assert order(found) == ["base", "k3", "k2", "k1", "k4"]
    assert (found[3].mean("reward"), found[3].deviation("reward")) == (2.0, 1.0)


def test_what_is_not_done_from_every_seed_comes_last_with_its_reason():
    found = of(k1=[9.0, "loss is nan", 9.0], k2=[1.0, 1.0, 1.0], k3=[9.0, 9.0], base=["broken"] * 3)
    assert order(found) == ["k2", "k1", "k3", "base"]
    assert [standing.reason for standing in found] == [
        *("", "seed 1001: loss is nan", "scored from 2 of 3 seeds", "seed 1000: broken"),
    ]
    assert verdicts(found, NAMED) == ["The winner cannot be compared with base: seed 1000: broken."]


def test_other_seeds_do_not_count():
    found = standings(rows(k1=[1.0, 2.0, 30.0]), SEEDS[:2], "ap", "reward")
    assert found[0].values("reward") == [1.0, 2.0]


def test_by_another_measure_the_order_is_its_own():
    scores = {"k1": [{"reward": 1.0, "ap": 0.1}] * 3, "k2": [{"reward": 0.5, "ap": 0.2}] * 3, "k3": [2.0] * 3}
    assert order(of(**scores)) == ["k3", "k1", "k2"]
    found = of("metric", **scores)
    assert order(found) == ["k2", "k1", "k3"]
    assert found[2].reason == "its scores have no metric"
    assert order(of("loss", **scores)) == ["k3", "k1", "k2"]


def test_a_verdict_is_one_sentence_for_each_reference_in_every_measure():
    found = of(
        k1=[{"reward": r, "ap": a, "macs": 9e6} for r, a in ((1.0, 0.30), (1.2, 0.31), (1.1, 0.32))],
        base=[{"reward": r, "ap": a, "macs": 1e7} for r, a in ((0.9, 0.35), (1.0, 0.37), (1.1, 0.33))],
        free=[{"reward": 2.0, "ap": 0.30, "macs": 0.0}] * 3,
    )
    free, base = verdicts(found, NAMED)
    assert base == (
        "The winner is above base by 0.1000 ± 0.0577 (chance of being above 0.89) in reward and below it by"
        " 0.0400 ± 0.0153 (chance of being above 0.06) in ap, at 0.90 of its MACs."
    )
    assert free.startswith("The winner is below free by 0.9000 ± 0.0577 (chance of being above < 0.01) in reward and")
    assert free.endswith(", which takes no MACs.")


def test_a_verdict_from_one_seed_claims_no_chance():
    found = standings(rows(k1=[1.0], base=[0.5], same=[1.00001]), SEEDS[:1], "", "reward")
    assert verdicts(found, measures("loss", "")) == [
        "The winner is level with same in reward.",
        "The winner is above base by 0.5000 (from one seed) in reward.",
    ]


def test_measures_are_the_reward_and_what_it_is_not():
    assert measures("loss", "ap") == {"reward": "reward", "metric": "ap"}
    assert measures("metric", "score") == {"reward": "reward", "loss": "negative loss"}
    assert measures("ranked", "ap") == {"reward": "reward", "loss": "negative loss", "metric": "ap"}
    assert measures("loss", "") == {"reward": "reward"}


def test_the_frame_has_a_row_for_each_contender_and_ranks_what_was_found():
    frame = confirmed_frame(of(base=[4.0, 4.0, 4.0], k1=[1.0, 2.0, 3.0], k2=[{"reward": 0.0, "ap": 0.5}] * 3, k3=["x"]))
    assert list(frame["rank"].astype(object).where(frame["rank"].notna(), None)) == [None, 1, 2, None]
    assert list(frame.name) == ["base", "", "", ""]
    assert (frame.reward[1], frame.reward_deviation[1], frame.loss[1], frame.loss_deviation[1]) == (2.0, 1.0, -2.0, 1.0)
    assert list(frame.metric.isna()) == [True, True, False, True]
    assert list(frame.seeds) == [3, 3, 3, 0]
    assert frame.reason[3] == "seed 1000: x"
    assert list(confirmed_frame([]).columns) == list(frame.columns)


@pytest.mark.parametrize("by", ["reward", "loss", "metric"])
def test_under_a_target_the_order_is_of_what_it_leaves_of_every_seed_s_score(by):
    targets = Targets({"macs": 10.0})
    scores = {
        "k1": [{"reward": r, "ap": 0.5 + 0.1 * r, "macs": 12.0} for r in (-1.0, -1.2, -1.1)],
        "k2": [{"reward": r, "ap": 0.5 + 0.1 * r, "macs": 10.0} for r in (-1.4, -1.5, -1.3)],
        "base": [{"reward": -1.3, "ap": 0.37, "macs": 20.0}] * 3,
    }
    assert order(of(by, **scores)) == ["k1", "base", "k2"]
    found = of(by, targets, **scores)
    assert order(found) == ["k2", "k1", "base"]
    for standing in found:
        metrics = standing.rows[0].metrics
        told = [targets.told(value, metrics) for value in standing.values(by)]
        assert standing.told == pytest.approx(np.mean(told))
    assert list(confirmed_frame(found).told) == [standing.told for standing in found]
    assert [verdict.split(" by ")[0] for verdict in verdicts(found, NAMED)] == ["The winner is below base"]


def test_without_the_cost_that_has_a_target_nothing_wins_and_a_reference_is_held_against_all_the_same():
    found = of(
        targets=Targets({"latency_ms": 5.0}),
        k1=[3.0, 3.0, 3.0],
        base=[4.0, 4.0, 4.0],
        k2=[{"reward": r, "latency_ms": 4.0 + r} for r in (1.0, 2.0, 3.0)],
    )
    assert order(found) == ["k2", "base", "k1"]
    assert found[0].cost("latency_ms") == 6.0
    reason = "its scores lack the cost that has a target: latency_ms=5"
    assert [standing.reason for standing in found] == ["", "", reason]
    (sentence,) = verdicts(found, NAMED)
    assert sentence.startswith("The winner is below base by 2.0000")
