"""How worker processes of this machine end: with all that their trials have started, and never unnoticed."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
from fake_tasks import TOY, ToyController, ToyTask
from test_nas_processes import alive

from nas.errors import SearchFailed
from nas.searching.engines import processes
from nas.searching.engines.pool import WorkerLost, pool
from nas.searching.engines.processes import Processes
from nas.searching.loop import SearchLoop
from proxy_tasks import TaskOptions
from search_spaces import InputError


@pytest.fixture
def worker():
    made = Processes(1).hired()
    yield made
    made.end()


def answered(worker, seconds=60.0):
    """What a pool does until there is an answer."""
    until = time.monotonic() + seconds
    while not Processes(1).answered([worker], 1.0):
        assert time.monotonic() < until
    return worker.answer()


def gone(number, seconds=20.0):
    until = time.monotonic() + seconds
    while alive(number):
        assert time.monotonic() < until
        time.sleep(0.1)


def forks_and_dies(file):
    if os.fork() == 0:
        with open(file, "w") as written:
            print(os.getpid(), file=written)
        time.sleep(600)
    while not os.path.exists(file) or not os.path.getsize(file):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_noticed_though_a_child_of_its_holds_its_connection(worker, tmp_path):
    worker.ask("take", partial(forks_and_dies, tmp_path / "child"), {})
    with pytest.raises(WorkerLost, match=r"^Killed$"):
        answered(worker)
    gone(int((tmp_path / "child").read_text()))


def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(600,)).start()
    sys.exit(3)


def test_what_ends_a_worker_ends_it_whatever_threads_it_has(worker):
    worker.ask("take", leaves_a_thread, {})
    with pytest.raises(WorkerLost, match=r"^exit status 1: SystemExit: 3$"):
        answered(worker)


class Toys(ToyTask):
    """Starts a process of its own."""

    def prepare(self, progress):
        self.child = subprocess.Popen(["sleep", "600"])
        with open(self.overrides["log"], "w") as file:
            print(self.child.pid, file=file)


def test_what_a_task_has_started_ends_with_its_worker(worker, tmp_path):
    worker.ask("take", partial(Toys, TOY, TaskOptions(overrides={"log": str(tmp_path / "log")})), {"data": "toys"})
    assert answered(worker) is None
    child = int((tmp_path / "log").read_text())
    assert alive(child)
    worker.end()
    gone(child)


FORKED = """
import os, sys, time
from nas.searching.engines.processes import Processes

workers = Processes(2)
one = workers.hired()
if os.fork() == 0:  # it has the sockets too
    time.sleep(600)
print(one.process.pid, flush=True)
time.sleep(600)
"""


def test_workers_end_with_a_driver_of_which_a_child_lives():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FORKED]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as driver:
        worker = int(driver.stdout.readline())
        time.sleep(2)  # until the worker listens
        driver.kill()
        gone(worker)
        os.killpg(driver.pid, signal.SIGKILL)


class TwoWords(InputError):
    """Cannot be unpickled."""

    def __init__(self, place, fault):
        super().__init__(f"{place}: {fault}")


def refuses():
    raise TwoWords("toys.xml", "no toy")


class Unreadable:
    def __reduce__(self):
        return exec, ("raise RuntimeError('not here')",)


def unreadable(*_):
    return Unreadable()


def test_answers_that_cannot_be_unpickled(worker, monkeypatch):
    worker.ask("take", refuses, {})
    refusal = answered(worker)
    assert (type(refusal), str(refusal)) == (InputError, "toys.xml: no toy")
    worker.ask("take", partial(setattr, sys.modules["nas.searching.engines.worker"].Worker, "leave", unreadable), {})
    with pytest.raises(WorkerLost, match="NoneType"):  # it is no task; but what it leaves with is no answer now
        answered(worker)
    worker.ask("leave")
    with pytest.raises(WorkerLost, match=r"^its answer cannot be read: RuntimeError: not here$") as caught:
        answered(worker)
    assert caught.value.raised


@pytest.mark.parametrize("executable", ["", None, "/no/python"])
def test_workers_that_no_process_can_be_had_for_end_the_search_with_one_sentence(executable, store, monkeypatch):
    monkeypatch.setattr(sys, "executable", executable)
    why = os.strerror(errno.ENOENT if executable == "/no/python" else errno.EACCES)
    loop, make_task = (
        SearchLoop(store, "toy", 2, ToyController(TOY), isolated=True),
        partial(ToyTask, TOY, TaskOptions()),
    )
    said = f"no process of {executable!r} can be started: {why}$"
    with pool(Processes(2), 2) as hired, pytest.raises(SearchFailed, match=said):
        hired.run(loop, make_task, {})


def test_what_a_worker_writes_is_not_kept_for_ever(worker, monkeypatch):
    monkeypatch.setattr(processes, "MOST_WRITTEN", 1000)
    writes = partial(exec, "import sys; print('x' * 5000, file=sys.stderr, flush=True)")
    for _ in range(5):
        worker.ask("take", writes, {})
        with pytest.raises(WorkerLost, match="NoneType"):
            answered(worker)
    assert os.fstat(worker._errors.fileno()).st_size < 6000
    worker.ask("take", partial(exec, "import os, sys; print('the last', file=sys.stderr); os.abort()"), {})
    with pytest.raises(WorkerLost, match=r"^Aborted: the last$"):
        answered(worker)
