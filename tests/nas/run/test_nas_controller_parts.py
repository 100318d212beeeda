"""A controller's state in the store: each part by itself, only what changed, and cheap queries beside it."""

import torch

from controllers.base import WHOLE
from nas.run.rows import Outcome
from nas.run.store import RunStore


def propose(store, number, parts):
    return store.record_proposal("toy", {"left": "a"}, f"{number:016x}", number, 0.0, parts)


def test_only_what_changed_is_written_and_a_part_may_go(store):
    policy = torch.arange(1000.0)
    trial = propose(store, 0, {"policy": policy, "random": 1, "rollouts 0": [1.0]})
    stored = "SELECT part, rowid, state FROM controller_state ORDER BY part"
    before = store._db.execute(stored).fetchall()
    store.record_outcome(trial, "toy", Outcome("done", 1.0), {"random": 2, "rollouts 0": None, "rollouts 1": []})
    state = RunStore(store.path, read_only=True).controller_state("toy")
    assert torch.equal(state.pop("policy"), policy)
    assert state == {"random": 2, "rollouts 1": []}
    assert store._db.execute(stored).fetchall()[0] == before[0]


def test_stages_have_states_of_their_own(store):
    store.add_stage("second", 1, 5)
    propose(store, 0, {"random": 1})
    store.record_proposal("second", {}, "f" * 16, 0, 0.0, {"random": 2})
    assert (store.controller_state("toy"), store.controller_state("second")) == ({"random": 1}, {"random": 2})


def test_a_whole_state_of_an_older_version_gives_way_to_the_parts(store):
    propose(store, 0, {WHOLE: {"asked": 1, "policy": [2.0]}})
    assert store.controller_state("toy") == {"asked": 1, "policy": [2.0]}
    propose(store, 1, {})
    assert store.controller_state("toy") == {"asked": 1, "policy": [2.0]}
    propose(store, 2, {"asked": 3, "policy": [4.0]})
    assert store.controller_state("toy") == {"asked": 3, "policy": [4.0]}


def test_interim_scores_are_had_by_stage(store):
    store.add_stage("second", 1, 5)
    for number, (stage, step, reward) in enumerate(
        [("toy", 1, -1.0), ("toy", 1, 0.5), ("toy", 2, 9.0), ("second", 1, 9.0)], start=1
    ):
        store.record_interim(number, stage, step, 3, reward)
    assert store.interim_rewards("toy") == [(1, -1.0), (1, 0.5), (2, 9.0)]
    assert store.interim_scores()[4] == [(1, 3, 9.0)]


def test_one_row_is_that_of_all(store):
    for number in range(3):
        propose(store, number, {})
    assert [store.trial(number) for number in (1, 2, 3)] == store.trials()
