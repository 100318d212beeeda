"""How long a network takes, and on what."""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["device_name", "median_milliseconds"]

_CPU_INFO = Path("/proc/cpuinfo")


def median_milliseconds(
    run: Callable[[], object], device: torch.device | str, repeats: int = 50, warmup: int = 10
) -> float:
    """The median wall time of ``run()``, in milliseconds; on CUDA until the device has finished it.

    The median, because a busy machine only ever adds time, and seldom to half of the repeats.

    Args:
        run: does the work, e.g. one forward pass under `torch.inference_mode`; what it returns is dropped.
        device: where it works.
        repeats: calls that are timed, each by itself, at least 1.
        warmup: calls before those, which choose kernels and fill the allocator.
    """
    assert repeats >= 1, f"a median of {repeats} times"
    for _ in range(warmup):
        run()
    return 1000 * statistics.median(_seconds(run, torch.device(device)) for _ in range(repeats))


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    run()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":  # kernels are queued; a CPU's call returns when its work is done
        torch.cuda.synchronize(device)


def device_name(device: torch.device | str) -> str:
    """``NVIDIA H200``, or a CPU's model and the threads in use: ``Intel(R) Xeon(R) CPU @ 2.20GHz, 2 threads``."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu_model()}, {threads} thread{'s' if threads > 1 else ''}"


def _cpu_model() -> str:
    """The CPU's model where the system tells it, else its architecture (ARM's Linux names no model)."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
