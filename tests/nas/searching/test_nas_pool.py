"""Trials on workers, which are processes of this machine or Ray's: what they share."""

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from fake_tasks import MOODS, MOODY, TOY, ToyController, ToyTask, reward_of
from stopped_rows import assert_stopped_by_rank

import nas
from nas.errors import SearchFailed
from nas.run.rows import Outcome
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from nas.searching.limits import NO_LIMITS, Limits
from nas.searching.loop import SearchLoop
from nas.settings.targets import Targets
from proxy_tasks import TaskOptions
from proxy_tasks.cpus import usable_cpus
from search_spaces import InputError

WORKERS = 2
TOYS = {"space": "fake_tasks:TOY", "controller": "fake_tasks:ToyController", "device": "cpu", "confirm": "0"}


class Each(ToyController):
    """Proposes every option of a space of one choice in turn."""

    def ask(self):
        proposal = super().ask()
        return type(proposal)(proposal.id, (proposal.id % len(self.space.choices[0].options),), proposal.log_prob)


def search(
    hired, store, space, controller, trials, fingerprints=None, stopping=None, limits=NO_LIMITS, told=None, **overrides
):
    own = told or {}
    loop = SearchLoop(store, "toy", trials, controller, stopping=stopping, limits=limits, isolated=True, **own)
    make_task = partial(ToyTask, space, TaskOptions(overrides=overrides))
    with hired(WORKERS) as pool:
        pool.run(loop, make_task, make_task().fingerprints() if fingerprints is None else fingerprints)
    return store.trials()


def test_a_whole_run_on_workers_of_which_one_is_killed(hired, tmp_path, capsys):
    log, victim = tmp_path / "log", tmp_path / "victim"
    task = {"log": str(log), "victim": str(victim)}
    run = nas.search(**TOYS, trials=30, workers=WORKERS, task=task, out=tmp_path / "run", early_stopping=False)
    assert victim.exists()
    shown = capsys.readouterr().out
    assert "toy: trial 30 of 30" in shown

    rows = RunStore(run.path / "trials.db").trials()
    assert [row.number for row in rows] == list(range(1, 31))
    assert sorted(row.attempts for row in rows)[-2:] == [1, 2]
    assert {row.status for row in rows} == {"done", "duplicate"}
    assert all(row.reward == reward_of(TOY.from_named(row.choices)) for row in rows)
    done = [row.key for row in rows if row.status == "done"]
    evaluated = [line.split() for line in log.read_text().splitlines()]
    assert len(done) == len(set(done)) == len({key for _, key, _ in evaluated}) == len(evaluated) - 1
    assert len({process for process, _, _ in evaluated}) <= WORKERS + 1  # each is used again and again
    assert {threads for _, _, threads in evaluated} == {str(max(1, usable_cpus() // WORKERS))}


def test_targets_and_the_scores_of_another_run_hold_with_workers_too(hired, store, tmp_path):
    score = "trial 7 of first", Outcome("done", -0.25, metrics={"macs": 6e9})
    known = {TOY.architecture((left, right, 0)).key: score for left in range(4) for right in range(4)}
    told = {"targets": Targets({"macs": 4e9}), "known": known}
    rows = search(hired, store, TOY, ToyController(TOY), 20, told=told, log=str(tmp_path / "log"))
    reused = [row for row in rows if row.key in known]
    assert {(row.status, row.reason, row.told) for row in reused} == {
        ("duplicate", "same network as trial 7 of first", -0.25 * 6)
    }
    for row in rows:
        assert row.told == told["targets"].told(row.reward, row.metrics)
    assert len(Path(tmp_path / "log").read_text().splitlines()) == len({row.key for row in rows} - known.keys())


def test_every_mood_is_a_row_and_a_dying_worker_is_tried_twice(hired, store, tmp_path):
    rows = search(hired, store, MOODY, Each(MOODY), len(MOODS) + 2, log=str(tmp_path / "log"))
    status = {row.choices["mood"]: row.status for row in rows[: len(MOODS)]}
    assert status == {
        "fine": "done",
        "fine too": "done",
        "nan": "diverged",
        "diverges": "diverged",
        "raises": "failed",
        "memory": "failed",
        "text": "failed",
        "nothing": "failed",
        "dies": "failed",
        "sleeps": "done",
    }
    (dead,) = (row for row in rows if row.choices["mood"] == "dies")
    assert (dead.reward, dead.reason.split(": ")[0], dead.attempts) == (None, "its process ended twice", 2)
    evaluated = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert evaluated.count(dead.key) == 2
    assert [row.status for row in rows[len(MOODS) :]] == ["duplicate", "duplicate"]


def test_stopped_trials_free_their_worker_for_the_next(hired, store, tmp_path):
    files = {name: str(tmp_path / name) for name in ("log", "closed")}
    rows = search(hired, store, TOY, ToyController(TOY), 60, stopping=StoppingRule(0), **files)
    assert_stopped_by_rank(store, StoppingRule(0))
    stopped = {row.key for row in rows if row.status == "stopped"}
    evaluated = [line.split() for line in Path(files["log"]).read_text().splitlines()]
    assert len(evaluated) == len({row.key for row in rows})  # none is evaluated twice
    assert len({process for process, _, _ in evaluated}) <= WORKERS
    closed = set(Path(files["closed"]).read_text().split())
    assert closed <= stopped
    assert len(stopped - closed) < WORKERS  # a worker's last trial ends with its process


def test_a_worker_that_cannot_prepare_ends_the_search_with_its_sentence(hired, store):
    with pytest.raises(InputError, match=r"toys.xml, line 3: the toy is broken"):
        search(hired, store, TOY, ToyController(TOY), 8, bad=True)
    assert all(row.status in ("running", "duplicate") for row in store.trials())


def test_what_recording_a_trial_raises_ends_the_search_as_itself(hired, store, tmp_path):
    def full(event):
        raise OSError(errno.ENOSPC, "the disk is full")

    loop = SearchLoop(store, "toy", 8, Each(MOODY), full, isolated=True)
    make_task = partial(ToyTask, MOODY, TaskOptions(overrides={"log": str(tmp_path / "log")}))
    begin = time.monotonic()
    with pytest.raises(OSError, match="the disk is full"), hired(WORKERS) as pool:
        pool.run(loop, make_task, make_task().fingerprints())
    assert time.monotonic() - begin < 60
    assert len(store.trials()) < 8


class Homeless:
    """Makes a task where it was made itself, and nowhere else."""

    def __init__(self):
        self.home = os.getpid()

    def __call__(self):
        if os.getpid() != self.home:
            raise ModuleNotFoundError("No module named 'nowhere'")
        return ToyTask(TOY, TaskOptions())


def test_workers_that_cannot_start_end_the_search_with_the_cause_and_no_trial_fails(hired, store):
    loop = SearchLoop(store, "toy", 8, ToyController(TOY), isolated=True)
    cause = r"^3 workers in a row could not start; the last one because of .*No module named 'nowhere'$"
    with pytest.raises(SearchFailed, match=cause), hired(WORKERS) as pool:
        pool.run(loop, Homeless(), {})
    assert store.trials() == []


def test_a_worker_that_hangs_is_replaced_and_its_trial_failed_for_the_moment(hired, store, tmp_path):
    log = tmp_path / "log"
    number = MOODS.index("sleeps")
    begin = time.monotonic()
    limits = Limits(trial_timeout=3.0)
    rows = search(hired, store, MOODY, Each(MOODY), number + 3, limits=limits, log=str(log), nap=600.0)
    assert time.monotonic() - begin < 120
    late = rows[number]
    assert (late.status, late.reason, late.transient) == ("failed", "timed out after 3 s", True)
    assert [row.status for row in rows[number + 1 :]] == ["duplicate", "duplicate"]


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize("ray", [[], ["--gpus-per-worker", "0"]])
def test_ctrl_c_stops_the_workers_and_says_how_to_resume(tmp_path, ray):
    path, log = tmp_path / "run", tmp_path / "log"
    flags = [f"--{name}={value}" for name, value in TOYS.items()]
    command = [
        sys.executable,
        "-m",
        "nas.cli.search",
        *flags,
        *ray,
        "--workers",
        "2",
        "--set",
        "sleep=60",
        f"log={log}",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, "--out", str(path)], env=environment, **pipes)
    while not log.exists() or len(log.read_text().splitlines()) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    begin = time.perf_counter()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert time.perf_counter() - begin < 20
    assert process.returncode == 130, errors
    assert errors == f"nas-search: interrupted; go on with nas-search --resume {path}\n"
    assert set(nas.load_run(path).trials.status) <= {"running", "duplicate"}


def test_a_worker_with_another_backbone_may_not_score(hired, store):
    message = r"a worker on .* has another backbone than the driver \(fingerprint None, the driver's is beef\)"
    with pytest.raises(InputError, match=message):
        search(hired, store, TOY, ToyController(TOY), 4, fingerprints={"backbone": "beef"})
    assert all(row.reward is None for row in store.trials())
