"""What the search loop makes of failures, deaths, time limits and interruptions, and what it remembers of a network."""

import contextlib
import threading
import time

import pytest
from fake_tasks import MOODY, TOY, ToyController, ToyTask, reward_of

from controllers.base import Proposal
from nas.run.rows import Outcome
from nas.run.store import RunStore
from nas.searching.engines import in_process
from nas.searching.limits import Limits, TrialTimes
from nas.searching.loop import SearchLoop
from proxy_tasks import TaskOptions
from proxy_tasks.task import Interim

A, SAME_AS_A, B, C = (0, 1, 0), (1, 0, 0), (2, 2, 0), (3, 3, 1)
OUT_OF_MEMORY = Outcome("failed", reason="out of memory", transient=True)
BROKEN = Outcome("failed", reason="ZeroDivisionError")


class Dictated(ToyController):
    """Proposes what it is told to."""

    def __init__(self, space, sequence):
        super().__init__(space)
        self.sequence = sequence

    def ask(self):
        self.asked += 1
        return Proposal(self.asked - 1, tuple(self.sequence[self.asked - 1]))


def loop_of(store, *sequence, **options):
    return SearchLoop(store, "toy", len(sequence), Dictated(TOY, sequence), **options)


def statuses(store):
    return [(row.status, row.transient) for row in store.trials()]


# Failures of the moment, and of the network


def test_a_network_that_failed_for_the_moment_is_evaluated_when_it_is_proposed_again(store):
    for restart in (False, True):  # the second time in a loop that knows it from the store alone
        loop = loop_of(store, *[A, SAME_AS_A, A][: 3 if restart else 2])
        trial = loop.next_trial()
        loop.record(trial, OUT_OF_MEMORY)
        if not restart:
            again = loop.next_trial()
            assert again.id == 2
            loop.record(again, OUT_OF_MEMORY)
            assert loop.next_trial() is None
    assert [row.number for row in store.trials() if row.transient] == [1, 2, 3]
    loop = loop_of(store, A, A, A, A, A)
    loop.record(loop.next_trial(), Outcome("done", 0.5))
    assert loop.next_trial() is None
    assert [(row.status, row.reward) for row in store.trials()][3:] == [("done", 0.5), ("duplicate", 0.5)]


def test_what_waits_for_a_network_that_fails_for_the_moment_is_evaluated(store):
    loop = loop_of(store, A, SAME_AS_A, B, A)
    first, other = loop.next_trial(), loop.next_trial()
    assert (first.id, other.id) == (1, 3)
    assert loop.next_trial() is None  # the fourth waits too
    loop.record(first, OUT_OF_MEMORY)
    second = loop.next_trial()
    assert (second.id, loop.next_trial()) == (2, None)
    loop.record(second, Outcome("done", 0.5))
    loop.record(other, Outcome("done", 0.25))
    assert [row.status for row in store.trials()] == ["failed", "done", "done", "duplicate"]
    assert loop.finished


def test_a_network_that_failed_for_good_stays_known(store):
    loop = loop_of(store, A, SAME_AS_A)
    loop.record(loop.next_trial(), BROKEN)
    assert loop.next_trial() is None
    assert statuses(store) == [("failed", False), ("duplicate", False)]


# Deaths


def test_a_trial_that_kills_its_process_twice_is_failed_and_the_search_goes_on(store):
    for attempt in (1, 2):
        trial = loop_of(store, A, B).next_trial()  # and the process dies
        assert (trial.id, store.trials()[0].attempts) == (1, attempt)
    loop = loop_of(store, A, B)
    trial = loop.next_trial()
    assert trial.id == 2
    row = store.trials()[0]
    assert (row.status, row.reward, row.reason, row.transient) == ("failed", None, "its process ended twice", True)
    loop.record(trial, Outcome("done", 0.5))
    assert loop.finished


def test_a_trial_whose_worker_dies_is_evaluated_once_more(store):
    loop = loop_of(store, A, SAME_AS_A, B, isolated=True)
    first, other = loop.next_trial(), loop.next_trial()
    loop.record(first, Interim(1, 2, -2.5))
    loop.lost(first)
    again = loop.next_trial()
    assert (again, again.attempt, store.trials()[0].attempts) == (first, 2, 2)
    assert store.interim(1) == []
    loop.lost(again)
    assert store.trials()[0].reason == "its process ended twice"
    assert loop.next_trial().id == 2  # which had waited for it
    loop.record(other, Outcome("done", 0.5))
    assert not loop.finished


def test_orderly_interruptions_are_no_deaths_and_neither_is_the_driver_s_with_workers(store):
    for _ in range(5):
        loop = loop_of(store, A)
        trial = loop.next_trial()
        loop.give_back()
    for _ in range(5):
        trial = loop_of(store, A, isolated=True).next_trial()
    assert (trial.id, trial.attempt) == (1, 1)


def test_giving_back_leaves_what_is_settled_alone(store):
    def broken(event):
        raise ZeroDivisionError

    loop = loop_of(store, A, B, on_settled=broken)
    trial = loop.next_trial()
    loop.record(trial, Interim(1, 2, -2.5))
    with pytest.raises(ZeroDivisionError):
        loop.record(trial, Outcome("done", 0.5))
    loop.give_back()
    assert (store.trials()[0].attempts, store.interim(1)) == (1, [(1, 2, -2.5)])


def test_no_stage_finishes_while_a_trial_is_running(store):
    loop_of(store, A).next_trial()
    with pytest.raises(AssertionError, match="stage toy cannot finish: 1 of its trials are running"):
        store.finish_stage("toy")
    assert not store.stages()[0].finished


# Time


def test_the_time_limit_of_a_trial_is_generous_and_comes_from_the_median():
    times = TrialTimes(Limits())
    for seconds in (1.0, 100.0, 3.0, 1e6):
        times.add(seconds)
        assert times.limit() == 6 * 3600  # what hangs ends some time
    times.add(90.0)
    assert times.limit() == 20 * 90.0
    for _ in range(10):
        times.add(1.0)
    assert times.limit() == 600
    assert TrialTimes(Limits(trial_timeout=7.0)).limit() == 7


class Hanging(ToyTask):
    """Its first evaluation hangs in code that swallows every Exception."""

    hangs = True

    def evaluate(self, architecture):
        yield Interim(1, 2, 0.0)
        if self.hangs:
            self.hangs = False
            for _ in range(300):
                with contextlib.suppress(Exception):
                    time.sleep(0.1)
        yield from super().evaluate(architecture)


def test_a_trial_that_hangs_in_this_process_is_failed_for_the_moment(store):
    begin = time.monotonic()
    loop = loop_of(store, A, B, A, limits=Limits(trial_timeout=0.5))
    in_process.run(loop, Hanging(TOY, TaskOptions()))
    assert time.monotonic() - begin < 10
    first, *others = store.trials()
    assert (first.status, first.reason, first.transient, first.seconds) == (
        "failed",
        "timed out after 0.5 s",
        True,
        0.5,
    )
    assert [(row.status, row.reward) for row in others] == [
        ("done", reward_of(TOY.architecture(tokens))) for tokens in (B, A)
    ]


def test_outside_the_main_thread_trials_run_without_a_time_limit(store):
    def search():  # SQLite's objects belong to one thread
        own = RunStore(store.path)
        in_process.run(loop_of(own, A, limits=Limits(trial_timeout=1e-9)), ToyTask(TOY, TaskOptions()))
        own.close()

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert statuses(store) == [("done", False)]


def test_after_the_deadline_nothing_begins_and_what_is_in_flight_is_recorded(store):
    soon = time.monotonic() + 0.3
    loop = loop_of(store, A, SAME_AS_A, B, limits=Limits(deadline=soon))
    trial = loop.next_trial()
    time.sleep(0.4)
    assert loop.next_trial() is None
    loop.record(trial, Outcome("done", 0.5))
    assert [row.status for row in store.trials()] == ["done"]
    assert not loop.finished


def test_out_of_memory_is_of_the_moment_and_a_broken_network_is_not(store):
    moods = ("memory", "raises", "nothing", "text", "diverges")
    sequence = [(MOODY.choices[0].options.index(mood),) for mood in moods]
    in_process.run(SearchLoop(store, "toy", 5, Dictated(MOODY, sequence)), ToyTask(MOODY, TaskOptions()))
    assert [row.transient for row in store.trials()] == [True, False, False, False, False]
