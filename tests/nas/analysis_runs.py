"""Runs written straight into a store, for the tests of their statistics."""

from nas.run.directory import RunRecord, write_record
from nas.run.rows import Outcome
from nas.run.store import RunStore
from nas.settings import SearchSettings
from search_spaces import SPACES

TOY = "fake_tasks:TOY"


def row(
    tokens, status="done", reward=None, reason=None, seconds=1.0, started=0.0, diagnostics=None, interim=None, **metrics
):
    """One trial; a number as its only status is its reward. ``interim`` is its score after step 1 of 2."""
    if not isinstance(status, str):
        status, reward = "done", status
    if status == "stopped":
        interim = reward
    return locals()


def write_run(run, rows, space=TOY, promotions=(), finished=False, **settings):
    """A run of one stage at the path ``run``, its trials numbered from 1; returns the path."""
    return write_stages(run, {space: rows}, space, promotions, finished, **settings)


def write_stages(run, stages, space, promotions=(), finished=True, **settings):
    """A run of ``space`` whose stages are ``{space: rows}``."""
    trials = tuple(max(1, len(rows)) for rows in stages.values())
    own = {"controller": "random", "device": "cpu", "preset": "demo", **settings}
    run.mkdir(parents=True)
    write_record(run, RunRecord(SearchSettings.of({"space": space, "trials": trials, **own})))
    store = RunStore(run / "trials.db", create=True)
    store._db.execute("PRAGMA synchronous = OFF")
    for position, (name, rows) in enumerate(stages.items()):
        definition = SPACES.get(name)
        store.add_stage(definition.name, position, len(rows))
        for number, item in enumerate(rows):
            write_trial(store, definition, number, **item)
        if finished:
            store.finish_stage(definition.name)
    for promotion in promotions:
        store.record_promotion(**{"job": "", "recipe": "1x", "status": "done", "place": "promoted", **promotion})
    store.close()
    return run


def write_trial(store, space, number, tokens, status, reward, reason, seconds, started, diagnostics, interim, metrics):
    architecture = space.architecture(tokens)
    trial = store.record_proposal(space.name, architecture.named, architecture.key, number, 0.0, {})
    store._db.execute("UPDATE trials SET started = ? WHERE trial = ?", (started, trial))
    if interim is not None:
        store.record_interim(trial, space.name, 1, 2, interim)
    if status != "running":
        outcome = Outcome(status, reward, reason, metrics, seconds)
        store.record_outcome(trial, space.name, outcome, {}, diagnostics)
