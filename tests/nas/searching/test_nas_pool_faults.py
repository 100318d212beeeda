"""The pool of workers when workers die, hang or cannot start at awkward moments, and when the driver is held up."""

import dataclasses
import os
import threading
import time
from functools import partial

from fake_tasks import MOODY, WIDE, ToyController, ToyTask

from nas.searching.limits import Limits
from nas.searching.loop import SearchLoop
from proxy_tasks import TaskOptions
from search_spaces import InputError

WORKERS = 2


class Stubborn(ToyTask):
    """Cannot prepare, or does not leave, in processes that ``first`` names: a file that one process alone makes."""

    def __init__(self, space, options, first, leaves=True):
        super().__init__(space, options)
        self._first, self._leaves = first, leaves

    def prepare(self, progress):
        if self._leaves:
            with open(self._first, "x"):  # raises where it is there
                pass

    def release(self):
        if not self._leaves:
            time.sleep(1000)


class Slow(ToyTask):
    """Takes so many seconds to prepare; where ``first`` is a file, not in the process that makes it."""

    def __init__(self, seconds, space=WIDE, first=None, sleep=0.0):
        super().__init__(space, TaskOptions(overrides={"sleep": sleep}))
        self._seconds, self._first = seconds, first

    def prepare(self, progress):
        try:
            if self._first is not None:
                with open(self._first, "x"):
                    return
        except FileExistsError:
            pass
        time.sleep(self._seconds)


def loop_of(store, trials, space=WIDE, **limits):
    stage = space.name
    if stage not in {row.name for row in store.stages()}:
        store.add_stage(stage, 1, trials)
    return SearchLoop(store, stage, trials, ToyController(space), limits=Limits(**limits), isolated=True)


def toys(space=WIDE, **overrides):
    return partial(ToyTask, space, TaskOptions(overrides=overrides))


def run(pool, loop, make_task):
    pool.run(loop, make_task, {"data": "toys"})


def processes(pool):
    return [process_of(seat.worker) for seat in pool.seats]


def process_of(worker):
    if hasattr(worker, "process"):
        return worker.process.pid
    from ray import get

    return get(worker.actor.__ray_call__.remote(lambda self: os.getpid()))


def killed(numbers):
    for number in numbers:
        os.kill(number, 9)


def evaluations(log):
    return log.read_text().splitlines() if log.exists() else []


def test_workers_that_die_together_before_their_first_trial_are_replaced(hired, store):
    with hired(WORKERS) as pool:
        killed(processes(pool))
        time.sleep(0.5)
        run(pool, loop_of(store, 5), toys())
    assert [(row.status, row.attempts) for row in store.trials()] == [("done", 1)] * 5


def test_the_death_of_idle_workers_costs_no_trial_a_life(hired, store, tmp_path):
    log = tmp_path / "log"
    with hired(WORKERS) as pool:
        numbers = processes(pool)

        def kill_all():
            while not evaluations(log):
                time.sleep(0.05)
            time.sleep(1)
            killed(numbers)

        thread = threading.Thread(target=kill_all)
        thread.start()
        run(pool, loop_of(store, 1), toys(log=str(log), sleep=4))
        thread.join()
    assert [(row.status, row.attempts) for row in store.trials()] == [("done", 2)]
    assert len(evaluations(log)) == 2


def test_trials_that_workers_cannot_make_of_what_they_are_told_fail(hired, store):
    """Their space is not the task's, and registered nowhere."""
    with hired(WORKERS) as pool:
        run(pool, loop_of(store, 1, space=WIDE), toys(MOODY))
    (row,) = store.trials()
    assert row.status == "failed"
    assert row.reason.startswith("its process ended twice: ")
    assert "there is no search space 'wide'" in row.reason


def test_where_one_worker_can_start_the_search_goes_on_without_the_others(hired, store, tmp_path):
    make_task = partial(Stubborn, WIDE, TaskOptions(overrides={"sleep": 1.0}), str(tmp_path / "first"))
    with hired(2) as pool:
        run(pool, loop_of(store, 8), make_task)
    assert [row.status for row in store.trials()] == ["done"] * 8


def test_time_is_up_for_workers_that_never_start(hired, store):
    begin = time.monotonic()
    with hired(WORKERS) as pool:
        run(pool, loop_of(store, 4, deadline=begin + 2), partial(Slow, 1000.0))
    assert time.monotonic() - begin < 30
    assert store.trials() == []


def test_what_a_worker_still_says_of_the_task_before_is_no_answer(hired):
    with hired(1) as pool:
        (seat,) = pool.seats
        seat.worker.ask("take", partial(Slow, 1.0), {"data": "toys"})
        seat.worker.ask("take", toys(bad=True), {"data": "toys"})
        while seat.worker not in pool.backend.answered([seat.worker], 60):
            pass
        assert isinstance(seat.worker.answer(), InputError)


def test_a_worker_that_was_still_starting_takes_the_next_task(hired, store, tmp_path):
    first = tmp_path / "first"
    with hired(2) as pool:
        run(pool, loop_of(store, 3), partial(Slow, 2.0, WIDE, first))
        began = time.monotonic()
        other = dataclasses.replace(WIDE, name="other")
        run(pool, loop_of(store, 12, space=other), partial(Slow, 2.0, other, tmp_path / "second", sleep=0.3))
        assert 2 < time.monotonic() - began < 60
    assert [row.status for row in store.trials("wide")] == ["done"] * 3
    assert [(row.status, row.attempts) for row in store.trials("other")] == [("done", 1)] * 12


def test_trials_are_not_late_because_the_driver_was(hired, store):
    held_up = []

    def slow(event):
        if not held_up:
            held_up.append(time.sleep(5))

    loop = SearchLoop(store, "toy", 6, ToyController(WIDE), slow, limits=Limits(trial_timeout=4.0), isolated=True)
    with hired(WORKERS) as pool:
        run(pool, loop, toys(sleep=1))
    assert [row.status for row in store.trials()] == ["done"] * 6


def test_a_worker_that_does_not_leave_its_task_is_replaced(hired, store, monkeypatch):
    monkeypatch.setattr("nas.searching.engines.pool.LEAVE", 1.0)
    with hired(1) as pool:
        options = TaskOptions()
        run(pool, loop_of(store, 2), partial(Stubborn, WIDE, options, "", leaves=False))
        run(pool, loop_of(store, 2, space=MOODY, deadline=time.monotonic() + 60), toys(MOODY))
    assert len(store.trials("wide")) == len(store.trials("moody")) == 2
