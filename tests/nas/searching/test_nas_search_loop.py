import random

import pytest
from fake_tasks import MOODS, MOODY, TOY, ToyController, ToyTask, reward_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controllers.base import Proposal
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from nas.searching.engines import in_process
from nas.searching.evaluation import Outcome
from nas.searching.loop import SearchLoop
from proxy_tasks import TaskOptions


class Dictated(ToyController):
    """Proposes what it is told to."""

    def __init__(self, space, sequence):
        super().__init__(space)
        self.sequence = sequence

    def ask(self):
        proposal = Proposal(self.asked, tuple(self.sequence[self.asked]))
        self.asked += 1
        return proposal


def rows(store):
    """All that must not depend on interruptions."""
    free = ("attempts", "started", "seconds")
    return [{k: v for k, v in vars(row).items() if k not in free} for row in store.trials()]


def told(controller):
    return [(number, reward) for number, _, reward in controller.told]


def test_a_known_network_costs_nothing_and_teaches_its_reward(store):
    controller = Dictated(TOY, [(0, 1, 0), (1, 0, 0), (0, 1, 1), (0, 1, 0)])
    loop = SearchLoop(store, "toy", 4, controller)
    evaluated = []
    while (trial := loop.next_trial()) is not None:
        evaluated.append(trial.id)
        loop.record(trial, Outcome("done", float(trial.id), metrics={"params": 7.0}, seconds=1.0))
    assert evaluated == [1, 3]
    assert told(controller) == [(0, 1.0), (1, 1.0), (2, 3.0), (3, 1.0)]
    second, last = store.trials()[1], store.trials()[3]
    assert (second.status, second.cached, second.reward, second.seconds) == ("duplicate", True, 1.0, 0.0)
    assert second.reason == "same network as trial 1" == last.reason
    assert second.metrics == {"params": 7.0}


@pytest.mark.parametrize("status", ["failed", "diverged", "stopped"])
def test_a_duplicate_of_a_trial_without_reward_teaches_nothing(store, status):
    controller = Dictated(TOY, [(0, 1, 0), (1, 0, 0)])
    loop = SearchLoop(store, "toy", 2, controller)
    loop.record(loop.next_trial(), Outcome(status, reason="why"))
    assert loop.next_trial() is None
    assert told(controller) == [(0, None), (1, None)]
    assert [row.status for row in store.trials()] == [status, "duplicate"]


def test_a_duplicate_of_a_trial_in_flight_waits_for_it(store):
    controller = Dictated(TOY, [(0, 1, 0), (1, 0, 0), (2, 2, 0)])
    loop = SearchLoop(store, "toy", 3, controller)
    first, third = loop.next_trial(), loop.next_trial()
    assert (first.id, third.id) == (1, 3)
    assert [row.status for row in store.trials()] == ["running"] * 3
    assert loop.next_trial() is None
    loop.record(third, Outcome("done", 0.5))
    loop.record(first, Outcome("done", 0.25))
    assert told(controller) == [(2, 0.5), (0, 0.25), (1, 0.25)]
    assert store.trials()[1].reason == "same network as trial 1"


def test_running_rows_are_evaluated_again_under_their_own_number(store):
    sequence = [(0, 1, 0), (1, 0, 0), (2, 2, 0), (3, 3, 1)]
    loop = SearchLoop(store, "toy", 4, Dictated(TOY, sequence))
    loop.next_trial(), loop.next_trial()

    controller = Dictated(TOY, sequence)
    again = SearchLoop(store, "toy", 4, controller)
    assert controller.asked == 3
    trials = [again.next_trial() for _ in range(3)]
    assert [(t.id, t.proposal.id, t.proposal.tokens) for t in trials] == [
        (1, 0, (0, 1, 0)),
        (3, 2, (2, 2, 0)),
        (4, 3, (3, 3, 1)),
    ]
    assert [row.attempts for row in store.trials()] == [2, 1, 2, 1]
    for trial in trials:
        again.record(trial, Outcome("done", 1.0))
    assert [row.status for row in store.trials()] == ["done", "duplicate", "done", "done"]


def test_every_mood_of_a_task_is_a_row(store):
    moods = [m for m in MOODS if m not in ("dies", "sleeps")]
    controller = Dictated(MOODY, [(MOODS.index(m),) for m in moods])
    task = ToyTask(MOODY, TaskOptions())
    seen = []
    in_process.run(SearchLoop(store, "toy", len(moods), controller, seen.append), task)
    status = {row.choices["mood"]: row.status for row in store.trials()}
    assert status == {
        "fine": "done",
        "fine too": "done",
        "nan": "diverged",
        "diverges": "diverged",
        "raises": "failed",
        "memory": "failed",
        "text": "failed",
        "nothing": "failed",
    }
    assert [event.status for event in seen] == [row.status for row in store.trials()]
    assert store.interim(1) == [(1, 2, pytest.approx(store.trials()[0].reward - 1))]
    assert all((row.reward is None) == (row.status != "done") for row in store.trials())


class Killed(BaseException):
    """Stands for a kill at a point between two transactions."""


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), kills=st.lists(st.integers(4, 25), max_size=6))
def test_a_loop_killed_between_any_two_transactions_ends_with_the_undisturbed_rows(tmp_path_factory, seed, kills):
    def search(kills):
        store = RunStore(tmp_path_factory.mktemp("run") / "trials.db", create=True)
        store.add_stage("toy", 0, 12)
        for budget in [*kills, 10**9]:
            controller = ToyController(TOY, seed)
            try:
                rule = StoppingRule(seed, earlier_trials=2)
                loop = SearchLoop(Dying(store, budget), "toy", 12, controller, stopping=rule)
                in_process.run(loop, ToyTask(TOY, TaskOptions()))
            except Killed:
                continue
            return rows(store), [store.interim(row.number) for row in store.trials()], controller.state_dict()
        raise AssertionError

    assert search(kills) == search([])


class Dying:
    """A store whose process dies after so many writes."""

    def __init__(self, store, budget):
        self._store, self._budget = store, budget

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if not name.startswith("record_"):
            return method
        self._budget -= 1
        if self._budget < 0:
            raise Killed
        return method


def test_outcomes_in_any_order_settle_every_row_once(store):
    controller = ToyController(TOY, 3)
    loop = SearchLoop(store, "toy", 60, controller)
    shuffle = random.Random(0)
    flying = []
    while True:
        while len(flying) < 5 and (trial := loop.next_trial()) is not None:
            flying.append(trial)
        if not flying:
            break
        trial = flying.pop(shuffle.randrange(len(flying)))
        loop.record(trial, Outcome("done", reward_of(trial.architecture)))
    assert sorted(number for number, _ in told(controller)) == list(range(60))
    table = store.trials()
    assert {row.status for row in table} == {"done", "duplicate"}
    done = [row.key for row in table if row.status == "done"]
    assert len(done) == len(set(done))
    assert all(row.reward == reward_of(TOY.from_named(row.choices)) for row in table)
