"""What worker processes of this machine alone have: no cluster, no fork, and an end with their driver."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from fake_tasks import TOY, ToyController, ToyTask

from nas.searching.engines.pool import WorkerLost
from nas.searching.engines.processes import Processes
from nas.searching.loop import SearchLoop
from proxy_tasks import TaskOptions

SCRIPT = """
import sys
import nas

print("begun", flush=True)
nas.search("fake_tasks:TOY", controller="fake_tasks:ToyController", trials=6, workers=2, device="cpu", confirm=0,
           out=sys.argv[1], task={"log": sys.argv[2], "sleep": float(sys.argv[3])})
print("ray" in sys.modules, flush=True)
"""


OWN = """
import sys
import nas
from fake_tasks import TOY, ToyTask
from search_spaces import SPACES, SearchSpace

class Own(ToyTask):
    def fingerprints(self):
        return {"data": "own"}

SPACE = SearchSpace("own", TOY.choices, proxy_task="__main__:Own")
SPACES.register("mine", SPACE)
for space in ("__main__:SPACE", "mine"):
    found = nas.search(space, controller="random", trials=4, workers=2, device="cpu", confirm="2,2",
                       early_stopping=False, out=f"{sys.argv[1]}-{space[-4:]}")
    print(list(found.trials.status), len(found.confirmed), flush=True)
"""


def started(folder, *arguments, text=SCRIPT):
    script = folder / "script.py"
    script.write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(folder / "run"), str(folder / "log"), *arguments]
    return subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True)


def alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_script_needs_no_guard_and_loads_no_ray(tmp_path):
    """Its main module is not run again in the workers."""
    with started(tmp_path, "0") as process:
        shown, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert shown.count("begun") == 1
    assert shown.splitlines()[-1] == "False"


def test_a_space_and_a_task_may_be_a_script_s_own(tmp_path):
    """Workers are sent them: they could not import them."""
    with started(tmp_path, "0", text=OWN) as process:
        shown, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    lines = [line for line in shown.splitlines() if line.startswith("[")]
    assert [line.rpartition(" ")[2] for line in lines] == ["2", "2"]  # confirmed
    assert "in this program" in shown  # there no command finds the space
    assert all(set(line.rpartition("]")[0][1:].split(", ")) <= {"'done'", "'duplicate'"} for line in lines)


def test_workers_end_with_a_driver_that_is_killed(tmp_path):
    log = tmp_path / "log"
    with started(tmp_path, "600") as process:
        while not log.exists() or len(log.read_text().splitlines()) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        workers = [int(line.split()[0]) for line in log.read_text().splitlines()]
        assert all(alive(worker) for worker in workers)
        process.kill()
    until = time.monotonic() + 20
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.1)


def raises(error):
    raise error


def test_why_a_worker_is_lost():
    backend = Processes(1)
    worker = backend.hired()
    try:
        worker.ask("take", partial(raises, ValueError("no such toy")), {})
        with pytest.raises(WorkerLost, match=r"^ValueError: no such toy$") as caught:
            worker.answer()
        assert caught.value.raised  # it lives
        worker.ask("take", partial(os._exit, 7), {})
        with pytest.raises(WorkerLost, match=r"^exit status 7$") as caught:
            worker.answer()
        assert not caught.value.raised
        worker.ask("leave")  # nobody is there to ask
        with pytest.raises(WorkerLost, match=r"^exit status 7$"):
            worker.answer()
    finally:
        worker.end()


def test_what_a_dying_worker_says_is_told():
    worker = Processes(1).hired()
    try:
        worker.ask("take", partial(exec, "import os, sys; print('no memory', file=sys.stderr); os.abort()"), {})
        with pytest.raises(WorkerLost, match=r"^Aborted: no memory$"):
            worker.answer()
    finally:
        worker.end()


@pytest.mark.parametrize("most", [1, 8])
def test_workers_share_the_processors_and_have_no_more_threads_than_the_driver(tmp_path, store, monkeypatch, most):
    monkeypatch.setattr("nas.searching.engines.processes.usable_cpus", lambda: 6)
    monkeypatch.setattr(torch, "get_num_threads", lambda: most)
    from nas.searching.engines.pool import pool

    log = tmp_path / "log"
    make_task = partial(ToyTask, TOY, TaskOptions(overrides={"log": str(log)}))
    with pool(Processes(1), 1) as hired:
        hired.run(SearchLoop(store, "toy", 2, ToyController(TOY), isolated=True), make_task, {"data": "toys"})
    assert {line.split()[2] for line in log.read_text().splitlines()} == {str(min(6, most))}
