"""Processes of the tests' own, which inherit no thread, lock or engine of torch's from the process that tests.

A fork of a process that ran torch lacks its threads and may wait for them, or be refused by its autograd.
"""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torchvision", "experiments.detection.training", "experiments.video.cell_training"])
