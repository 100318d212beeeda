"""Medians against a clock that the test sets, and against sleep."""

import os
import platform
import time

import pytest
import torch

from experiments import timing
from experiments.timing import device_name, median_milliseconds


class Clock:
    """Stands still but for what is played on it: each call of `run` takes the next of ``durations`` seconds."""

    def __init__(self, durations):
        self.now, self.durations, self.calls = 0.0, iter(durations), 0

    def run(self):
        self.calls += 1
        self.now += next(self.durations)


def played(monkeypatch, durations):
    clock = Clock(durations)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_the_median_of_the_repeats_in_milliseconds(monkeypatch):
    clock = played(monkeypatch, [0.002, 60.0, 0.001, 0.004, 0.003])  # one hiccup of a minute
    assert median_milliseconds(clock.run, "cpu", repeats=5, warmup=0) == pytest.approx(3.0)


def test_of_an_even_number_the_mean_of_the_middle_two(monkeypatch):
    clock = played(monkeypatch, [0.001, 0.002, 0.004, 0.100])
    assert median_milliseconds(clock.run, "cpu", repeats=4, warmup=0) == pytest.approx(3.0)


def test_the_warm_up_is_not_timed(monkeypatch):
    clock = played(monkeypatch, [9.0, 9.0, 9.0, 0.001, 0.001])
    assert median_milliseconds(clock.run, "cpu", repeats=2, warmup=3) == pytest.approx(1.0)
    assert clock.calls == 5


def test_queued_work_of_a_cuda_device_is_waited_for(monkeypatch):
    clock = played(monkeypatch, [])
    queue, devices = [], []

    def synchronize(device):
        devices.append(torch.device(device))
        clock.now += sum(queue)
        queue.clear()

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    # Each call only queues 5 ms of work, as a kernel launch does; the warm-up's must not fall into the first repeat.
    assert median_milliseconds(lambda: queue.append(0.005), "cuda:1", repeats=1, warmup=4) == pytest.approx(5.0)
    assert set(devices) == {torch.device("cuda:1")}


def test_a_cpu_is_not_synchronised(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("there is no such device"))
    assert median_milliseconds(lambda: None, torch.device("cpu"), repeats=3, warmup=1) >= 0


def test_real_time():
    assert 10 <= median_milliseconds(lambda: time.sleep(0.01), "cpu", repeats=5, warmup=0) < 100


def test_no_repeats_are_refused():
    with pytest.raises(AssertionError, match="median of 0 times"):
        median_milliseconds(lambda: None, "cpu", repeats=0)


def test_errors_are_not_swallowed():
    def fails():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        median_milliseconds(fails, "cpu", repeats=1, warmup=0)


def test_a_cpu_is_named_with_its_threads(monkeypatch, tmp_path):
    information = tmp_path / "cpuinfo"
    information.write_text("processor\t: 0\nmodel name\t: Some CPU @ 3.00GHz\n\nprocessor\t: 1\nmodel name\t: other\n")
    monkeypatch.setattr(timing, "_CPU_INFO", information)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert device_name("cpu") == "Some CPU @ 3.00GHz, 8 threads"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert device_name("cpu") == "Some CPU @ 3.00GHz, 1 thread"


@pytest.mark.parametrize("text", [None, "processor\t: 0\nBogoMIPS\t: 50.00\n"])
def test_a_cpu_without_a_model_is_named_by_its_architecture(monkeypatch, tmp_path, text):
    information = tmp_path / "cpuinfo"
    if text is not None:
        information.write_text(text)
    monkeypatch.setattr(timing, "_CPU_INFO", information)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert device_name("cpu").split(",")[0] == os.uname().machine


def test_a_cuda_device_is_named_by_its_driver(monkeypatch):
    names = {torch.device("cuda:1"): "NVIDIA H200"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[torch.device(device)])
    assert device_name("cuda:1") == "NVIDIA H200"
