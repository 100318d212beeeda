"""How many processors this process may use, which on shared machines is fewer than there are."""

import math
import os
from pathlib import Path

__all__ = ["usable_cpus"]


def usable_cpus(process: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The least of what limits this process, at least 1.

    | limit                                                                        | set by                        |
    | ---------------------------------------------------------------------------- | ----------------------------- |
    | affinity                                                                     | ``taskset``, batch systems    |
    | ``cpu.max`` of its control group (version 2) or of one above, rounded up     | containers, systemd           |
    | ``SLURM_CPUS_PER_TASK``; where that is not set, ``SLURM_CPUS_ON_NODE``       | SLURM, with affinity or not   |

    Args:
        process: the kernel's list of the control groups of this process.
        groups: where the control groups' files are.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    limits = [len(affinity(0)) if affinity else os.cpu_count() or 1, *_quotas(process, groups)]
    slurm = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    if slurm.isdecimal():
        limits.append(int(slurm))
    return max(1, min(limits))


def _quotas(process: Path, groups: Path) -> list[int]:
    """Processors' worth of time for each control group from this process's up to the root that has a quota."""
    try:
        lines = process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    (own,) = [line.removeprefix("0::") for line in lines if line.startswith("0::")] or [""]
    group, quotas = groups / own.strip("/"), []
    for folder in [group, *group.parents]:
        if not folder.is_relative_to(groups):
            break
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        except (OSError, ValueError):  # the root group has none
            continue
        if quota != "max":
            quotas.append(math.ceil(int(quota) / int(period)))
    return quotas
