"""Stores of former formats: each is read as it is, and goes on where it is written."""

import shutil
from pathlib import Path

import pytest
from fake_tasks import TOY, ToyController, ToyTask, reward_of

import controllers
import nas
from controllers.policy import TokenPolicy
from nas.analysis import analyse
from nas.run.directory import RunRecord, write_record
from nas.run.schema import STORE_FORMAT
from nas.run.store import RunStore
from nas.searching.engines import in_process
from nas.searching.loop import SearchLoop
from nas.settings import SearchSettings
from proxy_tasks import TaskOptions

DATA = Path(__file__).parent / "data"
# All were written by the versions of their time. Of format 1: 11 trials of 12, one of them running. Of format 2: 17 of
# 20 by lstm-ppo of 4 hidden units, two of them running and twice interrupted, two failed (out of memory, dead worker),
# and one architecture promoted by two recipes. Of format 3: 18 of 20 with early stopping, one running, one timed out,
# and one architecture promoted by two jobs.
FORMATS = {1: 12, 2: 20, 3: 20}


@pytest.fixture(params=FORMATS)
def old(request, tmp_path):
    """Format and folder of a run of the toy space."""
    shutil.copyfile(DATA / f"trials_format_{request.param}.db", tmp_path / "trials.db")
    settings = SearchSettings(space="fake_tasks:TOY", trials=(FORMATS[request.param],), preset="demo", device="cpu")
    write_record(tmp_path, RunRecord(settings))
    return request.param, tmp_path


@pytest.fixture
def small_policy(monkeypatch):
    monkeypatch.setattr(TokenPolicy.__init__, "__defaults__", (4,))


def controller_of(version):
    return ToyController(TOY) if version != 2 else controllers.make("lstm-ppo", TOY, seed=3, rollouts=4)


def version_of(store):
    return int(store._db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()[0])


def test_an_old_store_is_read_as_it_is(old):
    version, run = old
    before = (run / "trials.db").read_bytes()
    contents = nas.load_run(run).contents()
    statuses = analyse(run).tables["statuses"].set_index("status")["count"].to_dict()
    if version == 1:
        assert statuses == {"done": 6, "duplicate": 3, "diverged": 1, "running": 1}
        assert (len(contents.trials), contents.diagnostics, contents.promotions) == (11, [], [])
    elif version == 3:
        assert statuses == {"done": 8, "stopped": 2, "failed": 1, "duplicate": 6, "running": 1}
        assert [row.number for row in contents.trials if row.transient] == [3]
        assert [(row.job, row.recipe, row.reason) for row in contents.promotions] == [
            ("a" * 16, "1x", None),
            ("b" * 16, "3x", "out of memory"),
        ]
        assert sum(map(len, contents.interim.values())) == 10
    else:
        assert statuses == {"done": 8, "failed": 2, "duplicate": 4, "diverged": 1, "running": 2}
        assert [row.number for row in contents.trials if row.transient] == [3, 5]
        assert [(row.job, row.recipe, row.reason) for row in contents.promotions] == [
            ("", "1x", None),
            ("", "3x", None),
        ]
        assert {row.name for row in contents.diagnostics} > {"entropy", "approx_kl"}
        assert sum(map(len, contents.interim.values())) == 11
    assert (contents.scores, nas.load_run(run).standings()) == ([], [])
    assert len(nas.load_run(run).best(9)) == statuses["done"]
    assert sum(row.cached for row in contents.trials) == statuses["duplicate"]
    assert (run / "trials.db").read_bytes() == before


def test_an_old_store_is_brought_up_to_date_where_it_is_written(old):
    version, run = old
    reader = RunStore(run / "trials.db", read_only=True)
    before = reader.trials(), reader.interim_scores(), reader.diagnostics(), reader.promotions()
    store = RunStore(run / "trials.db")
    assert version_of(store) == STORE_FORMAT
    rows = [{**vars(row), "attempts": 1} if row.status == "running" else vars(row) for row in before[0]]
    assert [vars(row) for row in store.trials()] == rows  # interruptions do not count as deaths
    assert (store.interim_scores(), store.diagnostics(), store.promotions()) == before[1:]
    assert reader.trials() == store.trials()  # also by one who looked before
    fresh = RunStore(run / "fresh.db", create=True)
    tables = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    assert store._db.execute(tables).fetchall() == fresh._db.execute(tables).fetchall() or version == 1
    for number in range(2):  # the rows of an unknown job stay two, those of one job are one
        store.record_promotion("k", "a" * 16, "1x", status="done", metrics={"ap": number}, place="promoted")
    assert [row.metrics for row in store.promotions()[len(before[3]) :]] == [{"ap": 1}]


def test_two_writers_may_bring_a_store_up_to_date(old):
    version, run = old
    first, second = RunStore(run / "trials.db"), RunStore(run / "trials.db")
    second._format = version  # as if both had looked before either wrote
    second._upgrade()
    assert version_of(first) == STORE_FORMAT
    assert len(first.trials()) == len(second.trials()) > 10


@pytest.mark.usefixtures("small_policy")
def test_an_old_run_goes_on_with_its_controller_and_its_running_trials(old):
    version, run = old
    before = RunStore(run / "trials.db", read_only=True).trials()
    store = RunStore(run / "trials.db")
    controller = controller_of(version)
    controller.load_state_dict(store.controller_state("toy"))
    told = controller.diagnostics()
    loop = SearchLoop(store, "toy", FORMATS[version], controller_of(version))
    assert loop._controller.diagnostics() == told
    in_process.run(loop, ToyTask(TOY, TaskOptions()))
    assert loop.finished
    rows = store.trials()
    assert len(rows) == FORMATS[version]
    settled = [row.number for row in before if row.status != "running"]
    assert [rows[trial - 1] for trial in settled] == [before[trial - 1] for trial in settled]
    for row in rows[len(settled) :]:
        reward = None if row.reason == "same network as trial 6" else reward_of(TOY.from_named(row.choices))
        if (row.reason or "").endswith("stopped early"):
            reward -= 1  # the interim score
        assert (row.reward, row.status in ("done", "duplicate")) == (reward, True)
    if version == 1:  # ten trials were told before, so the controller's own count goes on with the eleventh
        assert [(d.trial, d.name, d.value) for d in store.diagnostics()] == [(11, "told", 11), (12, "told", 12)]
    elif (
        version == 2
    ):  # running rows are evaluated under their own number before new ones are drawn from the restored policy
        assert rows[17].choices == TOY.architecture(controller.ask().tokens).named
        assert store.controller_state("toy").keys() >= {"policy", "generator"}
