"""Before torch is loaded: one thread in every process of the tests, and threads that wait soon sleep (see `nas`)."""

import os
import signal
import uuid

import pytest

import nas  # noqa: F401

os.environ["OMP_NUM_THREADS"] = "1"  # two processes test at once, and their tensors are tiny
# Ray would write a token into the home directory, and two first clusters at once two of them
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}


@pytest.fixture
def heeds_ctrl_c():
    """SIGINT raises `KeyboardInterrupt` here and in the processes started here, also where it came ignored.

    A shell ignores it in the background jobs of its scripts, and a process ignores what the one that started it did.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
