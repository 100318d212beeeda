"""Several loops that an engine runs as one: references beside a stage's trials."""

import numpy as np
import pytest
from fake_tasks import TOY, ToyController

from nas.run.rows import Contender, Outcome
from nas.searching.in_turn import InTurn
from nas.searching.limits import Limits
from nas.searching.loop import SearchLoop
from nas.searching.scoring import ScoringLoop
from proxy_tasks.task import Interim

REFERENCES, TRIALS = 3, 12


@pytest.fixture
def loops(store):
    plan = [(Contender(f"reference {i}"), 0) for i in range(REFERENCES)]
    store.record_plan("references", plan)
    scoring = ScoringLoop(store, "references", lambda contender: contender.name, isolated=True)
    return scoring, SearchLoop(store, "toy", TRIALS, ToyController(TOY), isolated=True)


def test_the_next_loop_begins_where_the_first_has_none_left_and_before_it_is_finished(loops, store):
    both = InTurn(*loops)
    taken = [both.next_trial() for _ in range(REFERENCES + 1)]
    assert [trial.subject for trial in taken[:REFERENCES]] == [f"reference {i}" for i in range(REFERENCES)]
    assert taken[REFERENCES].subject == store_architecture(store)
    assert [trial.id for trial in taken] == [1, 2, 3, 1]  # the loops number their trials alike
    both.record(taken[REFERENCES], Outcome("done", 0.5))
    both.record(taken[0], Outcome("done", -0.5))
    assert store.trials()[0].reward == 0.5
    assert [row.reward for row in store.scores("references")] == [-0.5, None, None]
    assert not both.finished


def store_architecture(store):
    return TOY.from_named(store.trials()[0].choices)


@pytest.mark.parametrize("seed", range(8))
def test_every_row_is_settled_once_whatever_happens_to_its_trials(loops, store, seed):
    """Deaths, time limits and scores along the way, at random, four in flight."""
    rng, both, flying = np.random.default_rng(seed), InTurn(*loops), []
    while True:
        while len(flying) < 4 and (trial := both.next_trial()) is not None:
            assert both.time_limit(trial) > 0
            flying.append(trial)
        if not flying:
            break
        trial = flying.pop(rng.integers(len(flying)))
        event = rng.choice(["done", "interim", "lost", "late"], p=[0.5, 0.2, 0.2, 0.1])
        if event == "interim":
            assert both.record(trial, Interim(1, 2, 0.1, {}))
            flying.append(trial)
        elif event == "done":
            assert not both.record(trial, Outcome("done", float(trial.id), seconds=1.0))
        elif event == "lost":
            both.lost(trial)
        else:
            both.timed_out(trial, 3.0)
    assert both.finished
    assert all(loop.finished for loop in loops)
    assert len(store.trials()) == TRIALS
    rows = [*store.trials(), *store.scores("references")]
    assert {row.status for row in rows} <= {"done", "failed", "duplicate"}
    for row in rows:
        if row.status == "done":
            assert row.reward == row.number


def test_an_interruption_gives_back_what_every_loop_has_in_flight(loops, store):
    both = InTurn(*loops)
    for _ in range(REFERENCES + 2):
        both.next_trial()
    with pytest.raises(KeyboardInterrupt), both.given_back():
        raise KeyboardInterrupt
    assert [row.attempts for row in store.scores("references")] == [0, 0, 0]
    assert [row.attempts for row in store.trials()] == [0, 0]


def test_no_trial_of_any_loop_begins_when_time_is_up(store):
    store.record_plan("references", [(Contender("one"), 0)])
    over = Limits(deadline=0.0)
    scoring = ScoringLoop(store, "references", lambda contender: contender.name, limits=over)
    both = InTurn(scoring, SearchLoop(store, "toy", 2, ToyController(TOY), limits=over))
    assert both.next_trial() is None
    assert not both.finished
