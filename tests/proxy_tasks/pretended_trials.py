"""Trials of every family on a device that is none, beside the same on the CPU; prints them as JSON.

A program of its own, since such a device has to be there before a process's first backward pass.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from pretended import pretended_device, waits
from test_task_contract import CASES, DATA, make, nothing
from trees import write_coco

from proxy_tasks import training
from proxy_tasks.video import training as video_training

waits_of_steps = Counter()


def watched(step, batches):
    """Notes what the steps after the first, in which the optimiser makes its state, wait for."""
    for number, batch in enumerate(batches):
        before = Counter(waits)
        loss = step(batch)
        if number:
            waits_of_steps.update(waits - before)
        yield loss


def rewards(case, folder, device):
    """Of a whole trial, all figures measured."""
    task = make(case, str(folder), device=device, all_metrics=True)
    task.prepare(nothing)
    architecture = task.space.sample(np.random.default_rng(0))
    found = [item.reward for item in task.evaluate(architecture)]
    task.forward_pass(architecture)()
    task.release()
    return found


def refuses():
    """Whether the device is one: it takes no tensor from elsewhere, and a value is waited for."""
    with pretended_device() as device:
        try:
            torch.zeros(2, device=device) + torch.zeros(2)
        except RuntimeError:
            float(torch.zeros((), device=device))
            return waits.total() == 1
    return False


def main(spaces):
    assert refuses()
    training.losses_of_steps = video_training.losses_of_steps = watched
    found = {}
    with tempfile.TemporaryDirectory() as root:
        DATA["masks"] = str(write_coco(Path(root, "data"), n=12, size=(80, 64)))
        for case in [case for case in CASES if case[1] in spaces]:
            waits_of_steps.clear()
            with pretended_device() as device:
                there = rewards(case, Path(root, "there"), device)
            here = rewards(case, Path(root, "here"), "cpu")
            moved = sum(waits.values())
            found[case[1]] = {"there": there, "here": here, "waits": dict(waits_of_steps), "moved": moved}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
