"""Rank correlations of rewards with full training, and the plots of what full training gave."""

import dataclasses
import itertools
import math
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from analysis_runs import row, write_run
from scipy import stats

import search_spaces
from experiments.families import FAMILIES
from nas.analysis import analyse
from nas.analysis.canvas import stylesheet
from nas.analysis.outcome_plots import promoted
from nas.analysis.promoted import plotted
from nas.analysis.rank_correlation import rank_correlations
from nas.analysis.views import view

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = [f"iou class {number}" for number in range(19)]
COSTS = ["params", "macs_first", "macs_following", "ms_first", "ms_following"]


def by_enumeration(x, y, statistic):
    """The share of all orders whose correlation is as far from 0."""
    found = [abs(statistic(x, list(order)).statistic) for order in itertools.permutations(y)]
    return np.mean(np.array(found) >= abs(statistic(x, y).statistic) - 1e-9)


@pytest.mark.parametrize("values", [[1, 2, 3], [3, 1, 2, 4], [5, 1, 4, 2, 3], [1, 1, 2, 3, 3], [2, 2, 2, 2, 7, 9]])
def test_p_values_of_few_pairs_are_those_of_all_orders(values):
    x, y = np.arange(len(values), dtype=float), np.array(values, dtype=float)
    kendall, kendall_p, spearman, spearman_p = rank_correlations(x, y)
    assert kendall == pytest.approx(stats.kendalltau(x, y).statistic)
    assert spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert kendall_p == pytest.approx(by_enumeration(x, y, stats.kendalltau))
    assert spearman_p == pytest.approx(by_enumeration(x, y, stats.spearmanr))
    if len(set(values)) == len(values):
        assert kendall_p == pytest.approx(stats.kendalltau(x, y, method="exact").pvalue)


def test_three_pairs_in_order_prove_little():
    assert rank_correlations(np.arange(3.0), np.arange(3.0)) == pytest.approx((1, 1 / 3, 1, 1 / 3))


def test_p_values_of_many_pairs_are_near_those_of_scipy_and_never_0():
    rng = np.random.default_rng(0)
    x = rng.normal(size=25)
    y = x + 2.5 * rng.normal(size=25)
    _, kendall_p, _, spearman_p = rank_correlations(x, y)
    assert kendall_p == pytest.approx(stats.kendalltau(x, y, method="exact").pvalue, abs=0.01)
    assert spearman_p == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.01)
    assert rank_correlations(x, x) == pytest.approx((1, 1 / 10_001, 1, 1 / 10_001))


def test_correlations_by_hand(tmp_path):
    rows = [row((k, k, 0), float(k)) for k in range(4)]
    keys = [search_spaces.get("fake_tasks:TOY").architecture(item["tokens"]).key for item in rows]
    results = zip(keys, (0.1, 0.3, 0.2, 0.4), strict=True)
    promotions = [{"key": key, "metrics": {"ap": ap, "flat": 1.0}} for key, ap in results]
    promotions += [{"key": keys[0], "recipe": "3x", "metrics": {"ap": 0.5}}]
    promotions += [{"key": keys[1], "recipe": "3x", "status": "failed", "metrics": {}}]
    promotions += [{"key": "f" * 16, "recipe": "3x", "metrics": {"ap": 0.5}}]
    analysis = analyse(write_run(tmp_path / "run", rows, promotions=promotions))
    found = analysis.tables["correlations"].set_index(["recipe", "metric"])
    # one of six pairs is the other way round; the squares of the ranks' differences sum to 2
    assert found.kendall["1x", "ap"] == pytest.approx((5 - 1) / 6)
    assert found.spearman["1x", "ap"] == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found["count"].to_dict() == {("1x", "ap"): 4, ("1x", "flat"): 4, ("3x", "ap"): 1}
    # of the 24 orders, the sorted one, the three with one neighbouring pair swapped, and the reverse of these four
    assert found.kendall_p["1x", "ap"] == pytest.approx(8 / 24)
    assert found.spearman_p["1x", "ap"] == pytest.approx(8 / 24)
    assert math.isnan(found.kendall["1x", "flat"])
    assert math.isnan(found.spearman["3x", "ap"])
    table = analysis.tables["promoted"]
    first = table[table.recipe == "1x"].head(2)
    assert first[["trial", "reward"]].to_numpy().tolist() == [[1, 0.0], [1, 0.0]]
    assert dict(zip(first.metric, first.value, strict=True)) == {"ap": 0.1, "flat": 1.0}
    assert table[table.key == "f" * 16].trial.isna().all()
    assert table[table.status == "failed"].value.isna().all()
    assert analysis.notes["correlations"].startswith("2 of the correlations cannot be had")


def test_small_p_values_are_never_shown_as_0(tmp_path):
    analysis = analyse(write_run(tmp_path / "run", [row((0, 0, 0), 0.0)]))
    figures = {"recipe": "1x", "metric": "ap", "count": 30, "kendall": 1.0, "spearman": 1.0}
    table = pd.DataFrame([{**figures, "kendall_p": p, "spearman_p": p} for p in (1e-12, 9.9e-4, 0.0012, 1.0)])
    shown = view("correlations", dataclasses.replace(analysis, tables={**analysis.tables, "correlations": table}))
    columns = [column.name for column in shown.columns]
    for name in ("kendall p", "spearman p"):
        cells = [cells[columns.index(name)] for cells in shown.rows]
        assert [cell.text for cell in cells] == ["< 0.001", "< 0.001", "0.0012", "1"]
        assert [cell.value for cell in cells] == table.kendall_p.tolist()


def test_what_is_plotted_leaves_out_classes_and_costs():
    names = ["miou", *CLASSES, "iou a b", *COSTS, "tiou", "params_score"]
    assert plotted(names, ()) == ["miou", "tiou", "params_score"]
    assert plotted((f"m{number}" for number in range(100)), ()) == [f"m{number}" for number in range(6)]


def test_what_is_plotted_is_what_the_family_declares():
    names = ["miou", *CLASSES, *COSTS, "tiou"]
    assert plotted(names, FAMILIES.get("video").plotted) == ["miou", "tiou"]
    assert plotted(names, FAMILIES.get("fcos").plotted) == []


def test_a_promotion_with_many_classes_is_a_plot_that_can_be_read(tmp_path):
    rows = [row((k, k, 0), float(k), params=1e6 + k, macs=1e9) for k in range(4)]
    keys = [search_spaces.get("fake_tasks:TOY").architecture(item["tokens"]).key for item in rows]
    names = ["miou", "macc", "gacc", "tiou", *CLASSES, *COSTS]
    promotions = [{"key": key, "metrics": dict.fromkeys(names, k / 10)} for k, key in enumerate(keys)]
    analysis = analyse(write_run(tmp_path / "run", rows, promotions=promotions))
    with stylesheet():
        (plot,) = promoted(analysis, [analysis])
        assert len(plot.axes) == 4 * 3  # against reward, parameters and multiply-adds
        plot.save(tmp_path)
    assert "Figures not shown here: 24;" in plot.caption
    texts = [element.text.strip() for element in ET.parse(tmp_path / f"{plot.name}.svg").iter(f"{SVG}text")]
    assert [name for name in names if name in texts] == ["miou", "macc", "gacc", "tiou"]
    assert len(analysis.tables["correlations"]) == len(names)
