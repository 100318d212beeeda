"""Effects and plots of runs in which trials were stopped early."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from analysis_runs import row, write_run

from nas.analysis import analyse
from nas.analysis.canvas import stylesheet
from nas.analysis.outcome_plots import effects
from nas.analysis.reward_plots import metrics
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from proxy_tasks.task import Interim

WORTH = np.array([-1.0, -0.5, 0.5, 1.0])  # of the operations of left and right; of the aggregations 0 and 1
SVG = "{http://www.w3.org/2000/svg}"


def stopped_search(trials, seed):
    """The rows of a random search whose final scores are sums of effects, and interim scores those less 5 and noisy."""
    rng, rule = np.random.default_rng(seed), StoppingRule(seed)
    earlier, rows = [], []
    for number in range(1, trials + 1):
        left, right, agg = (int(rng.integers(n)) for n in (4, 4, 2))
        final = WORTH[left] + WORTH[right] + agg + 0.3 * rng.normal()
        interim = float(final - 5 + 0.5 * rng.normal())
        better = sum(score > interim for score in earlier)
        reason = rule.reason_to_stop(number, Interim(1, 2, interim), len(earlier), better)
        ended = ("done", float(final)) if reason is None else ("stopped", interim)
        rows.append(row((left, right, agg), *ended, reason, interim=interim, score=ended[1]))
        earlier.append(interim)
    return rows


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return analyse(write_run(tmp_path_factory.mktemp("stopped") / "run", stopped_search(1000, 0)))


def test_effects_have_their_true_size_where_trials_were_stopped(stopped):
    statuses = stopped.tables["statuses"].set_index("status")["count"]
    assert statuses["stopped"] > 350
    true = WORTH - (WORTH.sum() - WORTH) / 3
    for side in ("left", "right"):
        found = stopped.tables["effects_by_choice"].query(f"choice == '{side}'").difference.to_numpy()
        assert found @ true / (true @ true) == pytest.approx(1, abs=0.1)
    found = stopped.tables["effects"].query("kind == 'op'").difference.to_numpy()
    assert found @ true / (true @ true) == pytest.approx(1, abs=0.07)
    (cat,) = stopped.tables["effects"].query("option == 'cat'").to_dict("records")
    assert cat["difference"] == pytest.approx(1, abs=0.15)
    assert (cat["used"] + cat["not_used"], cat["score"]) == (1000, "step 1 of 2")


def test_without_a_stopped_trial_effects_are_of_final_rewards(tmp_path):
    rows = [row((k % 4, k // 4 % 4, k % 2), float(k), interim=-float(k)) for k in range(40)]
    found = analyse(write_run(tmp_path / "run", rows)).tables["effects"]
    (cat,) = found.query("option == 'cat'").to_dict("records")
    assert (cat["score"], cat["difference"]) == ("final", 1.0)


def test_scores_are_compared_at_the_step_of_the_earliest_stop(tmp_path):
    """Two trials are stopped, one after step 2 and one after step 3 of 4: all four have a score at step 2."""
    run = write_run(tmp_path / "run", [row((k, k, k % 2), "stopped" if k < 2 else "done", 0.0) for k in range(4)])
    store = RunStore(run / "trials.db")
    store._db.execute("DELETE FROM interim")
    for trial, steps in ((1, 2), (2, 3), (3, 3), (4, 3)):
        for step in range(1, steps + 1):
            store.record_interim(trial, "toy", step, 4, float(10**step * trial))
    store.close()
    found = analyse(run).tables["effects"].query("kind == 'op'")
    assert found.mean_with.tolist() == [100, 200, 300, 400]
    assert set(found.score) == {"step 2 of 4"}


def test_the_plot_of_effects_says_which_score_they_are_of(stopped):
    with stylesheet():
        (plot,) = effects(stopped, [stopped])
    assert "interim score of all trials at step 1 of 2" in plot.caption
    assert "permutation test of the same difference" in plot.caption
    assert plot.axes[0].get_xlabel() == "difference of mean interim scores at step 1 of 2"


def test_metrics_of_stopped_trials_are_drawn_apart_and_not_averaged(tmp_path):
    rows = [row((k % 4, k // 4, 0), "stopped" if k % 3 else "done", float(k % 3), ap=float(k % 3)) for k in range(12)]
    analysis = analyse(write_run(tmp_path / "run", rows))
    with stylesheet():
        (plot,) = metrics(analysis, [analysis])
        (line,) = plot.axes[0].lines
        assert line.get_xdata().tolist() == [1, 4, 7, 10]
        assert line.get_ydata().tolist() == [0, 0, 0, 0]
        done, stopped = plot.axes[0].collections
        assert [len(marks.get_offsets()) for marks in (done, stopped)] == [4, 8]
        assert not np.array_equal(done.get_facecolor(), stopped.get_facecolor())
        plot.save(tmp_path)
    texts = {element.text.strip() for element in ET.parse(tmp_path / f"{plot.name}.svg").iter(f"{SVG}text")}
    assert {"done", "stopped"} <= texts
