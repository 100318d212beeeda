"""What the store keeps beside trials: the figures of the controllers' updates, and promotions."""

import math
from pathlib import Path

from fake_tasks import TOY, ToyController

from nas.run.store import RunStore
from nas.searching.evaluation import Outcome
from nas.searching.loop import SearchLoop


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


def test_a_promotion_replaces_an_earlier_one_of_the_same_job_alone(store):
    for job, ap in (("a" * 16, 0.1), ("b" * 16, 0.3), ("a" * 16, math.nan)):
        store.record_promotion("k", job, "1x", status="done", metrics={"ap": ap}, place=Path("promoted/k"))
    first, second = store.promotions()
    assert (first.job, second.job) == ("b" * 16, "a" * 16)
    assert (second.recipe, second.reason) == ("1x", None)
    assert math.isnan(second.metrics["ap"])
    assert second.place == "promoted/k"
    assert 0 <= second.finished - first.finished < 60


def test_what_is_read_together_is_of_one_moment(store):
    reader = RunStore(store.path, read_only=True)
    with reader.one_moment():
        assert reader.promotions() == []
        store.record_promotion("k", "a" * 16, "1x", status="failed", metrics={}, place="", reason="out of memory")
        assert reader.promotions() == []
    assert [row.reason for row in reader.promotions()] == ["out of memory"]
