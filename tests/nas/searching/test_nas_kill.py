"""``kill -9`` of the driver at random moments, each followed by ``--resume``."""

import os
import random
import signal
import subprocess
import sys
import time

import pandas
import pytest

import nas

FLAGS = (
    "--space fake_tasks:TOY --controller fake_tasks:ToyController --device cpu --trials 30 --seed 3 --confirm 2,3"
    " --workers 0 --set sleep=0.03"
)


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nas.cli.search", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def wait_for_rows(path, count, process):
    while process.poll() is None:
        if (path / "trials.db").exists():
            try:
                if len(nas.load_run(path).trials) >= count:
                    return
            except nas.run.reading.InputError:  # the store is just being made
                pass
        time.sleep(0.005)


def scored(path):
    """What is confirmed so far."""
    return [row for row in nas.load_run(path).contents().scores if row.settled]


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_and_resumed_run_ends_with_the_rows_of_an_undisturbed_one(tmp_path):
    finish(start(*FLAGS.split(), "--out", str(tmp_path / "calm")))
    calm = nas.load_run(tmp_path / "calm")
    assert {"done", "stopped"} <= set(calm.trials.status)
    assert len(scored(calm.path)) == 6

    path, moments = tmp_path / "killed", random.Random(1)
    process = start(*FLAGS.split(), "--out", str(path))
    for number in range(4):
        wait_for_rows(path, 1 + 7 * number, process)
        time.sleep(moments.uniform(0, 0.1))
        kill(process)
        process = start("--resume", str(path))
    while len(scored(path)) < 2:  # and in the middle of the confirmation
        assert process.poll() is None
        time.sleep(0.005)
    kill(process)
    assert 2 <= len(scored(path)) < 6
    finish(start("--resume", str(path)))
    killed = nas.load_run(path)
    columns = [name for name in calm.trials.columns if name != "seconds"]
    pandas.testing.assert_frame_equal(killed.trials[columns], calm.trials[columns])
    pandas.testing.assert_frame_equal(killed.confirmed, calm.confirmed)


def test_a_search_whose_output_nobody_reads_any_more_ends_as_an_interrupted_one(tmp_path):
    path = tmp_path / "run"
    process = start(*FLAGS.split(), "--out", str(path))
    assert "trial" in process.stdout.readline() + process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == f"nas-search: interrupted; go on with nas-search --resume {path}\n"
    assert process.wait(60) == 130
    finish(start("--resume", str(path)))


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_stops_at_once_with_status_130(tmp_path):
    path = tmp_path / "run"
    process = start(*FLAGS.split(), "sleep=30", "--out", str(path))
    wait_for_rows(path, 1, process)
    begin = time.perf_counter()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"nas-search: interrupted; go on with nas-search --resume {path}\n"
    assert time.perf_counter() - begin < 10
