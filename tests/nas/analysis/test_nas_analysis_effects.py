import numpy as np
import pytest
from analysis_runs import row, write_run
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.analysis import analyse
from nas.analysis.effects import bootstrap_interval, contrasts, holm, permutation_p


def draw(n, k, slots, seed=0):
    rng = np.random.default_rng(seed)
    uses = rng.integers(0, slots + 1, size=(n, k))
    return rng.normal(5, 1, n) + 0.2 * uses[:, 0], uses, np.full(k, slots)


def difference(rewards, uses, slots):
    """As defined, use by use."""
    taken, others = [], []
    for reward, count in zip(rewards, uses, strict=True):
        taken += [reward] * int(count)
        others += [reward] * int(slots - count)
    return np.mean(taken) - np.mean(others)


@pytest.mark.parametrize("slots", [1, 4])
def test_intervals_equal_those_of_scipy(slots):
    rewards, uses, offered = draw(80, 3, slots)
    low, high = bootstrap_interval(rewards, uses, offered)
    for k in range(3):
        found = stats.bootstrap(
            (rewards, uses[:, k]),
            lambda r, u: difference(r, u, slots),
            paired=True,
            vectorized=False,
            n_resamples=4000,
            method="percentile",
            rng=1,
        )
        # two ends of quantiles of some thousand draws differ by a twentieth of the interval or so
        slack = 0.07 * (found.confidence_interval.high - found.confidence_interval.low)
        assert low[k] == pytest.approx(found.confidence_interval.low, abs=slack)
        assert high[k] == pytest.approx(found.confidence_interval.high, abs=slack)


def test_differences_are_those_of_the_definition():
    rewards, uses, slots = draw(40, 4, 3)
    found = contrasts(rewards, uses, slots)
    assert found.difference.to_numpy() == pytest.approx([difference(rewards, column, 3) for column in uses.T])
    assert found.used.tolist() == uses.sum(0).tolist()
    assert (found.used + found.not_used).tolist() == [120] * 4


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("outlier", [0.0, 1000.0])
def test_p_values_are_those_of_the_permutation_test_of_the_difference(slots, outlier):
    rewards, uses, _ = draw(30, 3, slots)
    rewards[uses[:, 2].argmax()] += outlier
    for p, column in zip(permutation_p(rewards, uses), uses.T, strict=True):
        reference = stats.permutation_test(
            (rewards,),
            lambda r, u=column: abs(difference(r, u, slots)),
            permutation_type="pairings",
            alternative="greater",
            n_resamples=3000,
            vectorized=False,
            rng=1,
        )
        assert p == pytest.approx(reference.pvalue, abs=0.02)  # four standard errors where p is a tenth


def test_p_values_are_exact_where_few_permutations_differ():
    rewards, taken = np.arange(8.0), (np.arange(8) >= 4).astype(int)[:, None]
    assert permutation_p(rewards, taken) == pytest.approx(2 / 70, abs=0.005)
    assert permutation_p(np.arange(40.0), (np.arange(40) >= 20).astype(int)[:, None]) == 1 / 10_001  # never 0


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    held = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        taken = rng.integers(0, 2, size=(100, 1))
        low, high = bootstrap_interval(rng.normal(0, 1, 100) + 0.5 * taken[:, 0], taken, np.ones(1, dtype=int))
        held.append(low[0] <= 0.5 <= high[0])
    assert stats.binomtest(sum(held), len(held), 0.95).pvalue > 0.01


def test_where_nothing_can_be_compared_nothing_is_claimed():
    rewards = np.arange(20.0)
    always, never, rarely, half = np.ones(20), np.zeros(20), rewards < 4, rewards < 5
    found = contrasts(rewards, np.column_stack([always, never, rarely, half]).astype(int), np.ones(4, dtype=int))
    assert found.difference.isna().tolist() == [True, True, False, False]
    assert found.mean_without.isna().tolist() == [True, False, False, False]
    assert found.p.isna().tolist() == found.low.isna().tolist() == [True, True, True, False]
    same = contrasts(np.ones(20), half.astype(int)[:, None], np.ones(1, dtype=int))
    assert same[["difference", "low", "high"]].to_numpy().tolist() == [[0, 0, 0]]
    assert same.p.isna().all()
    (lone,) = contrasts(np.ones(1), np.ones((1, 1), dtype=int), np.ones(1, dtype=int)).to_dict("records")
    assert (lone["used"], lone["not_used"], lone["mean_with"]) == (1, 0, 1)
    assert np.isnan([lone["difference"], lone["low"], lone["p"]]).all()


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(p, level):
    rejected = set()
    for step, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] > level / (len(p) - step):
            break
        rejected.add(i)
    corrected = holm(np.array(p, dtype=float))
    clear = abs(corrected - level) > 1e-9
    assert {i for i in np.flatnonzero(clear) if corrected[i] <= level} == {i for i in rejected if clear[i]}
    with_gaps = holm(np.array([np.nan, *p, np.nan], dtype=float))
    assert with_gaps[1:-1].tolist() == corrected.tolist()


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """A sampler that takes ``a`` three times in five where a quarter is fair; only ``cat`` has an effect, of 0.3."""
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(400):
        left, right = rng.choice(4, size=2, p=[0.6, 0.2, 0.1, 0.1])
        agg = rng.integers(2)
        rows.append(row((int(left), int(right), int(agg)), float(0.3 * agg + rng.normal(0, 0.5))))
    return analyse(write_run(tmp_path_factory.mktemp("biased") / "run", rows)).tables


def test_a_biased_sampler_shows(biased):
    ops = biased["proportions"].query("kind == 'op'")
    assert ops.share.tolist() == pytest.approx([0.6, 0.2, 0.1, 0.1], abs=0.04)
    assert stats.chisquare(ops["count"], ops.expected * ops["count"].sum()).pvalue < 1e-12
    aggregations = biased["proportions"].query("kind == 'agg'")
    assert stats.chisquare(aggregations["count"], aggregations.expected * 400).pvalue > 0.01


@pytest.mark.parametrize("name", ["effects", "effects_by_choice"])
def test_the_effect_that_is_there_is_found_and_no_other(biased, name):
    found = biased[name]
    significant = found[found.p_holm < 0.05]
    assert set(significant.option) == {"sum", "cat"}
    (cat,) = found[found.option == "cat"].to_dict("records")
    assert cat["low"] < 0.3 < cat["high"]
    assert cat["low"] > 0
    assert (found.low.le(found.difference) & found.difference.le(found.high)).all()
