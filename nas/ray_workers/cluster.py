"""The Ray cluster of a search: one of this machine alone, or one that is joined; what it has for each worker."""

import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from proxy_tasks.cpus import usable_cpus
from search_spaces import InputError

try:
    import ray
except ImportError as error:
    raise InputError(f'--workers needs Ray: pip install "ray[train]", or use --workers 0 ({error})') from error

__all__ = ["connected", "gpus_each", "ray", "threads_each"]

# Read by Ray as it starts: no telemetry, no notices, no change of directory, and workers of the priority that the
# command has, where Ray's own would wait for everything else on the machine.
ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def threads_each(workers: int) -> int:
    """The number of threads of torch in each worker: the largest with which the machines have room for all of them."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    fitting = (n for n in range(sum(cores) // workers, 0, -1) if sum(count // n for count in cores) >= workers)
    return next(fitting, 1)


def gpus_each(workers: int, gpus_per_worker: float | None, device: str) -> float:
    """The number of GPUs of each worker, also a fraction; see `nas.searching.engines.ray_actors.RayActors`."""
    found = ray.cluster_resources()
    gpus = gpus_per_worker
    if gpus is None:
        whole = int(found.get("GPU", 0)) if device == "cuda" else 0
        if device == "cuda" and whole == 0:
            raise InputError("device 'cuda' is asked for, but the Ray cluster has no GPU")
        # a worker has its share of one GPU: three on two GPUs are two on the one and one on the other
        gpus = int(10_000 / math.ceil(workers / whole)) / 10_000 if whole else 0.0
    for name, needed in (("CPU", workers), ("GPU", workers * gpus)):
        if needed > found.get(name, 0):
            has = found.get(name, 0)
            raise InputError(f"{workers} workers need {needed:g} {name}s, but the Ray cluster has {has:g}")
    return gpus


@contextmanager
def connected(workers: int, address: str | None) -> Iterator[None]:
    """Ray for the length of a search: a cluster at ``address``, or one of this machine's cores alone.

    A connection that the caller's program has already is used as it is and left open.

    Raises:
        InputError: no cluster answers at the address.
    """
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(workers, address)
        yield
    finally:
        if ours:
            ray.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _connect(workers: int, address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        # Ray hands out one "CPU" a worker; with more workers than cores they share.
        ray.init(address="local", num_cpus=max(workers, usable_cpus()), include_dashboard=False, **quiet)
        return
    _check_address(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(_no_entry(address, error)) from error


def _no_entry(address: str, error: Exception) -> str:
    """Ray tells a refusal from silence in the traceback of the cause alone."""
    if isinstance(error, ray.exceptions.RayError) or "InvalidAuthToken" in str(error.__cause__):
        ours = "RAY_AUTH_MODE=token and its token in ~/.ray/auth_token"
        return f"the Ray cluster at {address!r} lets none in without its token: run with {ours} (docs/cluster.md)"
    return f"no Ray cluster answers at {address!r}: {error}"


def _check_address(address: str) -> None:
    """Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise InputError(f"a Ray cluster's address is auto or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at {address!r}: {error}") from error
