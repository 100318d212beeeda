"""Targets of a search: how they are given, and what they leave of a reward."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.settings import SearchSettings
from nas.settings.targets import COSTS, WEIGHT, Targets, amount, parse_targets
from search_spaces import InputError

REWARDS = st.floats(-1e3, 1e3)
AMOUNTS = st.floats(1e-3, 1e12)


# As they are given


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["macs=0.1G"], {"macs": 1e8}),
        (["params=200k", "latency_ms=12"], {"params": 2e5, "latency_ms": 12.0}),
        ("macs=25M, params=1e5", {"macs": 25e6, "params": 1e5}),
        ({"macs": 5, "params": "0.5T"}, {"macs": 5.0, "params": 5e11}),
        ({}, {}),
    ],
)
def test_units_and_forms(given, expected):
    assert parse_targets(given) == pytest.approx(expected)


@given(AMOUNTS)
def test_an_amount_is_read_back_as_it_is_written(value):
    assert parse_targets([f"macs={amount(value)}"])["macs"] == pytest.approx(value, rel=1e-11)


def test_amounts_are_short():
    assert [amount(value) for value in (1e8, 2e5, 12.0, 25e6, 2.5e9, 1234.0)] == [
        *("100M", "200k", "12", "25M", "2.5G", "1.234k")
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["flops=1G"], "^there is no cost 'flops' to give a target for; known: params, macs, latency_ms$"),
        (["macs=1G", "macs=2G"], "^the target of macs is given twice$"),
        (["macs"], "^a target is COST=VALUE, as in macs=0.1G, got 'macs'$"),
        (["macs="], "^a target is COST=VALUE, as in macs=0.1G, got 'macs='$"),
        *[
            ([f"macs={text}"], "^the target of macs must be a number above 0, as in 200k, 25M or 0.1G, got '")
            for text in ("0", "-1G", "nan", "inf", "1e400", "G", "fast", "1 000", "0.1g", "5m", "12ms", "1e308G")
        ],
        ({"macs": True}, "^the target of macs must be a number above 0, .* got True$"),
        ({"macs": None}, "^the target of macs must be a number above 0, .* got None$"),
        ({"macs": [1]}, "^the target of macs must be a number above 0"),
        (5, "^setting 'target' must be COST=VALUE, as in macs=0.1G, got 5$"),
        ([5], "^setting 'target' must be COST=VALUE, as in macs=0.1G, got"),
    ],
)
def test_bad_targets_are_one_sentence(given, message):
    with pytest.raises(InputError, match=message):
        SearchSettings(target=given)


# What they leave of a reward


def test_what_is_told_in_figures():
    targets = Targets({"macs": 100.0, "params": 10.0})
    met = {"macs": 100.0, "params": 9.0}
    double = {"macs": 200.0, "params": 5.0}
    both = {"macs": 200.0, "params": 30.0}
    assert [targets.told(0.5, metrics) for metrics in (met, double, both)] == pytest.approx([0.5, 0.5 / 11, 0.5 / 231])
    assert [targets.told(-1.5, metrics) for metrics in (met, double, both)] == pytest.approx([-1.5, -16.5, -346.5])
    assert targets.told(-1.5, {"macs": 101.0, "params": 1.0}) == pytest.approx(-1.65)
    assert [targets.met(metrics) for metrics in (met, double, both)] == [True, False, False]


def test_near_the_target_positive_rewards_are_told_as_in_mnasnet():
    """Tan et al. 2019, eq. 2 and 3 with alpha = 0 and beta = -WEIGHT."""
    for cost in (50.0, 100.0, 100.1, 100.5):
        weight = 0.0 if cost <= 100 else -WEIGHT
        told = Targets({"macs": 100.0}).told(0.75, {"macs": cost})
        assert told == pytest.approx(0.75 * (cost / 100.0) ** weight, rel=2e-3)


@given(REWARDS, REWARDS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_better_reward_or_a_lower_cost_is_never_told_as_worse(one, other, cheap, dear, limit):
    worse, better = sorted([one, other])
    cheap, dear = sorted([cheap, dear])
    targets = Targets({"macs": limit})
    told = [[targets.told(reward, {"macs": cost}) for cost in (cheap, dear)] for reward in (worse, better)]
    assert told[0][0] <= told[1][0]
    assert told[0][1] <= told[1][1]
    for reward, (of_cheap, of_dear) in zip((worse, better), told, strict=True):
        assert of_dear <= of_cheap <= reward
        assert (of_cheap == reward) or cheap > limit


@given(st.sampled_from([-1.0, 1.0]), st.floats(0.1, 100), st.floats(1.01, 50), st.floats(0.01, 100))
def test_the_share_that_is_lost_depends_neither_on_the_sign_nor_on_the_scale(sign, size, over, scale):
    targets = Targets({"params": 7.0})
    factors = []
    for reward in (sign * size, sign * size * scale):
        told = targets.told(reward, {"params": 7.0 * over})
        factors.append(reward / told if sign > 0 else told / reward)
    assert factors == pytest.approx([1 + WEIGHT * (over - 1)] * 2)


def test_costs_that_are_missing_are_named():
    targets = Targets({"macs": 1.0, "latency_ms": 1.0})
    assert targets.missing({"macs": 2.0, "latency_ms": 3.0}) is None
    assert targets.missing({"macs": 2.0}) == "latency_ms"
    assert targets.missing({"macs": math.nan, "latency_ms": 1.0}) == "macs"
    assert not Targets()
    assert Targets().told(-0.3, {}) == -0.3
    assert str(targets) == "macs=1, latency_ms=1"
    assert set(COSTS) == {"params", "macs", "latency_ms"}
