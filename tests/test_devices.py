"""Trials and full trainings on a device that is none (see `pretended`), each in a program of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def printed(program, *arguments):
    """What a program of these folders prints."""
    folders = [
        HERE.parent,
        HERE,
        *(folder for folder in HERE.rglob("*") if folder.is_dir() and folder.name[0] not in "._"),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_trial_runs_on_another_device_and_its_steps_wait_for_nothing():
    found = json.loads(printed("proxy_tasks/pretended_trials.py", "fcos_decoder", "video_cell", "mask_head"))
    assert len(found) == 3
    for space, trial in found.items():
        assert trial["waits"] == {}, space
        assert trial["moved"] > 0, space
        assert trial["there"] == pytest.approx(trial["here"], rel=2e-3), space  # sums of other kernels


def test_full_trainings_run_on_another_device():
    assert printed("experiments/pretended_trainings.py") == "all trained\n"
