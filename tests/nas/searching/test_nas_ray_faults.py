"""The pool of Ray workers when workers die, hang or cannot start at awkward moments, and when the driver is held up."""

import os
import threading
import time
from functools import partial

import pytest
from fake_tasks import MOODY, WIDE, ToyController, ToyTask

from nas.ray_workers import cluster
from nas.searching.limits import Limits
from nas.searching.loop import SearchLoop
from proxy_tasks import TaskOptions
from search_spaces import InputError

WORKERS = 3


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
    from ray import get

    return [get(seat.worker.__ray_call__.remote(lambda self: os.getpid())) for seat in pool.seats]


def killed(numbers):
    for number in numbers:
        os.kill(number, 9)


def evaluations(log):
    return log.read_text().splitlines() if log.exists() else []


def test_workers_that_die_together_before_their_first_trial_are_replaced(engine, store):
    with engine.pool(WORKERS, None, "cpu") as pool:
        killed(processes(pool))
        time.sleep(0.5)
        run(pool, loop_of(store, 5), toys())
    assert [(row.status, row.attempts) for row in store.trials()] == [("done", 1)] * 5


def test_the_death_of_idle_workers_costs_no_trial_a_life(engine, store, tmp_path):
    log = tmp_path / "log"
    with engine.pool(WORKERS, None, "cpu") as pool:
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


def test_trials_that_workers_cannot_make_of_what_they_are_told_fail(engine, store):
    """Their space is not the task's, and registered nowhere."""
    with engine.pool(WORKERS, None, "cpu") as pool:
        run(pool, loop_of(store, 1, space=WIDE), toys(MOODY))
    assert [(row.status, row.reason) for row in store.trials()] == [("failed", "its process died twice")]


def test_where_one_worker_can_start_the_search_goes_on_without_the_others(engine, store, tmp_path):
    make_task = partial(Stubborn, WIDE, TaskOptions(overrides={"sleep": 1.0}), str(tmp_path / "first"))
    with engine.pool(2, None, "cpu") as pool:
        run(pool, loop_of(store, 8), make_task)
    assert [row.status for row in store.trials()] == ["done"] * 8


def test_time_is_up_for_workers_that_never_start(engine, store):
    from ray import get, kill, remote

    other = remote(num_cpus=WORKERS)(ToyController).remote(WIDE)  # takes all processors
    get(other.diagnostics.remote())
    begin = time.monotonic()
    with engine.pool(WORKERS, None, "cpu") as pool:
        run(pool, loop_of(store, 4, deadline=begin + 2), toys())
    assert time.monotonic() - begin < 30
    kill(other)
    assert store.trials() == []


def test_trials_are_not_late_because_the_driver_was(engine, store):
    held_up = []

    def slow(event):
        if not held_up:
            held_up.append(time.sleep(5))

    loop = SearchLoop(store, "toy", 6, ToyController(WIDE), slow, limits=Limits(trial_timeout=4.0), isolated=True)
    with engine.pool(WORKERS, None, "cpu") as pool:
        run(pool, loop, toys(sleep=1))
    assert [row.status for row in store.trials()] == ["done"] * 6


def test_a_worker_that_does_not_leave_its_task_is_replaced(engine, store, monkeypatch):
    monkeypatch.setattr(engine, "LEAVE", 1.0)
    with engine.pool(1, None, "cpu") as pool:
        options = TaskOptions()
        run(pool, loop_of(store, 2), partial(Stubborn, WIDE, options, "", leaves=False))
        run(pool, loop_of(store, 2, space=MOODY, deadline=time.monotonic() + 60), toys(MOODY))
    assert len(store.trials("wide")) == len(store.trials("moody")) == 2


class Found:
    """What a cluster has, in place of Ray's own answers."""

    def __init__(self, monkeypatch, **nodes):
        totals = {kind: sum(counts) for kind, counts in nodes.items()}
        monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: totals)
        alive = [{"Alive": True, "Resources": {"CPU": count}} for count in nodes["CPU"]]
        monkeypatch.setattr(cluster.ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 64}}])


@pytest.mark.parametrize(
    ("gpus", "workers", "share"), [((1,), 1, 1), ((1,), 4, 0.25), ((2,), 3, 0.5), ((4, 4), 3, 1), ((1, 1), 7, 0.25)]
)
def test_a_worker_s_share_of_a_gpu_has_room_on_one(monkeypatch, gpus, workers, share):
    Found(monkeypatch, CPU=(32, 32), GPU=gpus)
    assert cluster.gpus_each(workers, None, "cuda") == share


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [((8,), 2, 4), ((5, 5), 3, 2), ((5, 5), 2, 5), ((1, 1), 2, 1), ((2,), 5, 1)]
)
def test_workers_threads_have_room_on_the_machines(monkeypatch, cores, workers, threads):
    Found(monkeypatch, CPU=cores)
    assert cluster.threads_each(workers) == threads


def test_more_workers_than_processors_are_refused(monkeypatch):
    Found(monkeypatch, CPU=(2, 1))
    with pytest.raises(InputError, match=r"^4 workers need 4 CPUs, but the Ray cluster has 3$"):
        cluster.gpus_each(4, None, "cpu")
