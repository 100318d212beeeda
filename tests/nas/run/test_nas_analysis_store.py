"""What format 2 of the store added: diagnostics and promotions, and format 1 as it goes on."""

import math
import shutil
from pathlib import Path

import pytest
from fake_tasks import TOY, ToyController, ToyTask

from nas.analysis import analyse
from nas.run.directory import RunRecord, write_record
from nas.run.store import RunStore
from nas.searching.engines import in_process
from nas.searching.evaluation import Outcome
from nas.searching.loop import SearchLoop
from nas.settings import SearchSettings
from proxy_tasks import TaskOptions

FORMAT_1 = Path(__file__).parent / "data" / "trials_format_1.db"


@pytest.fixture
def old(tmp_path):
    """A run of the toy space, 11 of 12 trials proposed and one of them running, by a version that wrote format 1."""
    shutil.copyfile(FORMAT_1, tmp_path / "trials.db")
    write_record(tmp_path, RunRecord(SearchSettings(space="fake_tasks:TOY", trials=(12,), preset="demo")))
    return tmp_path


def version(store):
    return store._db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()[0]


def test_format_1_is_read_as_it_is(old):
    store = RunStore(old / "trials.db", read_only=True)
    assert (len(store.trials()), store.diagnostics(), store.promotions()) == (11, [], [])
    tables = analyse(old).tables
    assert tables["statuses"].set_index("status")["count"].to_dict() == {
        "done": 6,
        "duplicate": 3,
        "diverged": 1,
        "running": 1,
    }
    assert tables["controller"].empty
    assert version(store) == "1"


def test_format_1_is_brought_up_to_date_where_it_is_written_and_goes_on(old):
    before = RunStore(old / "trials.db", read_only=True).trials()
    store = RunStore(old / "trials.db")
    assert version(store) == "2"
    assert store.trials() == before
    loop = SearchLoop(store, "toy", 12, ToyController(TOY))
    in_process.run(loop, ToyTask(TOY, TaskOptions()))
    rows = store.trials()
    assert [row.status == "running" for row in rows] == [False] * 12
    assert rows[:10] == before[:10]
    # ten trials were told before, so the controller's own count goes on with the eleventh
    assert [(d.trial, d.name, d.value) for d in store.diagnostics()] == [(11, "told", 11), (12, "told", 12)]
    store.record_promotion(rows[0].key, "f" * 16, "1x", status="done", metrics={"ap": 0.5}, place="promoted")
    reopened = RunStore(old / "trials.db", read_only=True)
    assert [(p.key, p.metrics) for p in reopened.promotions()] == [(rows[0].key, {"ap": 0.5})]


def test_two_writers_may_bring_a_store_up_to_date(old):
    first = RunStore(old / "trials.db")
    second = RunStore(old / "trials.db")
    second._format = 1  # as if both had looked before either wrote
    second._migrate()
    assert version(first) == "2"
    assert len(first.trials()) == 11


class Updating(ToyController):
    """Updates at every third reward."""

    def diagnostics(self):
        updates = len(self.told) // 3
        return {"updates": float(updates), "explained_variance": math.nan} if updates else {}


def test_diagnostics_are_kept_once_an_update_in_the_outcomes_transaction(store):
    events = []
    for stop in (5, 8):  # the second loop goes on in a fresh controller
        loop = SearchLoop(store, "toy", 8, Updating(TOY), events.append)
        while len(store.trials()) < stop and (trial := loop.next_trial()) is not None:
            loop.record(trial, Outcome("done", float(trial.id)))
    updates = [(d.value, d.stage) for d in store.diagnostics() if d.name == "updates"]
    assert updates == [(1.0, "toy"), (2.0, "toy")]
    assert [d.trial for d in store.diagnostics() if math.isnan(d.value)] == sorted(
        {d.trial for d in store.diagnostics()}
    )
    assert [event.trial.id for event in events if event.diagnostics] == sorted({d.trial for d in store.diagnostics()})


def test_a_promotion_replaces_an_earlier_one_by_the_same_recipe(store):
    for recipe, ap in (("1x", 0.1), ("3x", 0.3), ("1x", math.nan)):
        store.record_promotion("k", recipe, recipe, status="done", metrics={"ap": ap}, place=Path("promoted/k"))
    first, second = store.promotions()
    assert (first.recipe, second.recipe) == ("3x", "1x")
    assert math.isnan(second.metrics["ap"])
    assert second.place == "promoted/k"
    assert 0 <= second.finished - first.finished < 60


def test_what_is_read_together_is_of_one_moment(store):
    reader = RunStore(store.path, read_only=True)
    with reader.one_moment():
        assert reader.promotions() == []
        store.record_promotion("k", "f" * 16, "1x", status="done", metrics={}, place="")
        assert reader.promotions() == []
    assert len(reader.promotions()) == 1
