"""What winners are held against: declared by every family, scored before the search, confirmed with the best."""

import os
import re
import sys

import pytest
from fake_tasks import HELD, HeldTask, reward_of
from toy_runs import TOYS, Stop

import nas
from experiments import families, published
from nas.analysis import analyse
from nas.analysis.tables import TABLES
from nas.run.store import RunStore
from nas.searching.references import references
from proxy_tasks.task import TaskOptions
from search_spaces import SPACES, Architecture

SEARCH = {**TOYS, "space": "fake_tasks:HELD", "confirm": (2, 2)}
STANDARD = Architecture.of("fpn_fcos")


@pytest.fixture(scope="module", autouse=True)
def family():
    """Of `HELD`, in this module's tests alone."""
    own = families.Family(HELD.proxy_task, ("held",), references=("calm", "fpn_fcos", "wild"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.FAMILIES._entries, own.name, own)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return nas.search(**SEARCH, trials=20, out=tmp_path_factory.mktemp("held") / "run")


def test_every_family_that_is_built_in_names_references_and_each_can_be_scored():
    for name in ("fcos", "video"):
        family = families.FAMILIES.get(name)
        assert family.references
        assert family.measure
    assert set(families.FAMILIES.get("fcos").references) <= set(published.names())
    assert families.family_of(SPACES.get("fake_tasks:TOY")).references == ()


def test_references_that_a_task_does_not_take_are_left_out():
    task = HeldTask(HELD, TaskOptions())
    task.takes = lambda architecture: False
    assert [reference.name for reference in references(HELD, task)] == ["calm", "wild"]


def test_references_are_scored_before_the_search_from_its_seed_and_a_failure_is_a_row(run):
    found = run.references.set_index("name")
    assert list(found.index) == ["calm", "fpn_fcos", "wild"]
    assert list(found.status) == ["done", "done", "diverged"]
    assert found.reward["calm"] == 0.5
    assert found.reward["fpn_fcos"] == reward_of(STANDARD, 0)
    assert (found.reason["wild"], found.key["fpn_fcos"]) == ("loss is nan from seed 0", STANDARD.key)
    assert list(found.macs[:2]) == [1e9, 5e9]
    assert (run.trials.status != "failed").all()


def test_references_are_confirmed_with_the_best_and_a_failing_one_is_told(run):
    frame = run.confirmed
    assert set(frame.name) == {"", "calm", "fpn_fcos", "wild"}
    calm = frame[frame.name == "calm"].iloc[0]
    assert (calm.reward, calm.seeds) == (1.0005, 2)
    assert list(frame[frame.name == "wild"].reason) == ["seed 1000: loss is nan from seed 1000"]
    assert list(frame["rank"].dropna()) == [1, 2]
    assert all(architecture.space.name == "held" for architecture in run.best(100))


def test_the_closing_table_has_the_references_and_a_sentence_on_each(run, capsys):
    nas.resume(run.path)
    shown = capsys.readouterr().out
    assert re.search(r"0\.5000 │ +0\.002 M │ +1\.000 G │ +│ calm ", shown)
    assert re.search(
        r"The winner is below calm by \d\.\d{4} ± \S+ \(chance of being above \S.*\) in reward, at 5\.00 of", shown
    )
    assert "The winner cannot be compared with wild: seed 1000: loss is nan from seed 1000." in shown


def test_the_report_has_them_as_tables_lines_and_sentences(run, tmp_path):
    from nas.analysis import report

    analysis = analyse(run)
    assert analysis.tables.keys() == TABLES.keys()
    assert list(analysis.tables["references"].name) == ["calm", "fpn_fcos", "wild"]
    versus = analysis.tables["against_references"].set_index("reference")
    assert set(versus.index) == {"calm", "fpn_fcos"}
    assert versus.macs_ratio["calm"] == 5.0
    assert set(analysis.tables["confirmed_scores"].seed) == {1000, 1001}
    report.write([analysis], tmp_path)
    page = (tmp_path / "report.html").read_text()
    for sentence in analysis.verdicts:
        assert sentence.replace("<", "&lt;") in page.replace("&#39;", "'")
    for plot in ("reward-held", "pareto-held"):
        assert "calm" in (tmp_path / "plots" / f"{plot}.svg").read_text()
    assert (tmp_path / "plots" / "confirmed.svg").exists()


def test_a_search_that_is_killed_at_a_reference_goes_on_with_it(run, tmp_path, monkeypatch):
    score = HeldTask.score_reference

    def dying(self, name, seed=None):
        if name == "wild":
            raise Stop
        return score(self, name, seed)

    with monkeypatch.context() as patch:
        patch.setattr(HeldTask, "score_reference", dying)
        with pytest.raises(Stop):
            nas.search(**SEARCH, trials=20, out=tmp_path / "run")
    half = nas.load_run(tmp_path / "run")
    assert [row.status for row in half.contents().scores] == ["done", "done", "waiting"]
    assert half.trials.empty
    resumed = nas.resume(half.path)
    columns = [name for name in run.trials.columns if name != "seconds"]
    assert resumed.trials[columns].equals(run.trials[columns])
    drop = ["seconds"]
    assert resumed.references.drop(columns=drop).equals(run.references.drop(columns=drop))
    assert resumed.confirmed.equals(run.confirmed)


def test_a_run_is_not_lost_where_references_cannot_be_prepared(tmp_path, capsys):
    path = tmp_path / "run"
    with pytest.raises(nas.run.reading.InputError, match="the toy is broken"):
        nas.search(**{**SEARCH, "task": {"bad": True}}, trials=2, out=path)
    assert not path.exists()


def test_a_plan_keeps_what_is_settled_and_drops_what_is_wanted_no_more(tmp_path):
    from nas.run.rows import Contender, Outcome

    store = RunStore(tmp_path / "trials.db", create=True)
    one, two = Contender("one"), Contender("", "k2", "held", {"left": "a"}, (3, 4))
    store.record_plan("confirmation", [(one, 5), (two, 5), (two, 6)])
    store.record_score(1, Outcome("failed", reason="why", seconds=1.0))
    store.record_score_attempts(2, 1)
    store.record_plan("confirmation", [(two, 6), (two, 7)])
    found = store.scores("confirmation")
    assert [(row.contender, row.seed, row.status) for row in found] == [
        (one, 5, "failed"),
        (two, 6, "waiting"),
        (two, 7, "waiting"),
    ]
    assert store.scores("reference") == []
    store.close()


def test_workers_score_references_and_confirm_alike(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import this folder's fakes
    log = tmp_path / "log"
    found = nas.search(**SEARCH, trials=20, workers=2, task={"log": str(log)}, out=tmp_path / "run")
    scored = {line.split()[1] for line in log.read_text().splitlines()}
    assert {"calm", "wild", STANDARD.key} < scored
    drop = ["seconds"]
    assert found.references.drop(columns=drop).equals(run.references.drop(columns=drop))
    assert len(found.contents().scores) == len(run.contents().scores)
    columns = ["reward", "reward_deviation", "macs", "reason"]
    mine, other = (one.confirmed.query("name != ''").set_index("name")[columns] for one in (found, run))
    assert mine.equals(other)
    assert str(os.getpid()) not in {line.split()[0] for line in log.read_text().splitlines()}
