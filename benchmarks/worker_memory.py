"""What a second worker costs in memory for the cache: its pages are shared, not copied.

    python benchmarks/worker_memory.py

builds a feature cache, opens it in worker processes, has each read all of it, and prints what the kernel says of the
cache's pages in each (``/proc/PID/smaps``, Linux): resident, the process's proportional share, and its private part.
"""

import argparse
import multiprocessing
import re
import tempfile
from pathlib import Path

import numpy as np
import torch

import proxy_tasks
import search_spaces
from proxy_tasks.fcos.preparing import targets_of
from proxy_tasks.fcos.task import FCOSTask
from proxy_tasks.training import in_parts


def cache_pages(directory: str) -> dict[str, float]:
    """MiB of this process's mappings of files in ``directory``."""
    totals = dict.fromkeys(("Size", "Rss", "Pss", "Private_Dirty"), 0.0)
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = directory in line
        elif ours and (name := line.split(":")[0]) in totals:
            totals[name] += int(line.split()[1]) / 1024
    return totals


def read_all(task: FCOSTask, barrier, results) -> None:
    torch.set_num_threads(1)
    task.prepare(lambda what, done, total: None)
    for part in in_parts(np.arange(len(task.prepared.crops)), 16):
        task.prepared.cache.features(part)
        targets_of(task.prepared.cache, part)
    barrier.wait()
    results.put(cache_pages("/features/"))
    barrier.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--crop", type=int, default=384)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as root:
        overrides = {"crop": given.crop, "pretrain_iterations": 0}
        options = proxy_tasks.TaskOptions(
            cache_dir=root, backbone=given.backbone, backbone_weights="none", overrides=overrides
        )
        task = FCOSTask(search_spaces.get("fcos_fpn"), options)
        FCOSTask(search_spaces.get("fcos_fpn"), options).prepare(lambda what, done, total: None)
        files = sum(path.stat().st_size for path in Path(root).glob("features/*/*.npy")) / 2**20
        print(f"{given.backbone}, {given.crop} px: {files:.0f} MiB of cache; MiB in each process")
        print("| workers | mapped | resident | proportional share | private | in all |\n|" + " --- |" * 6)
        for workers in (1, 2):
            barrier, results = context.Barrier(workers), context.Queue()
            processes = [context.Process(target=read_all, args=(task, barrier, results)) for _ in range(workers)]
            for process in processes:
                process.start()
            found = [results.get() for _ in processes]
            for process in processes:
                process.join()
            mean = {name: np.mean([each[name] for each in found]) for name in found[0]}
            print(
                f"| {workers} | {mean['Size']:.0f} | {mean['Rss']:.0f} | {mean['Pss']:.0f} "
                f"| {mean['Private_Dirty']:.1f} | {workers * mean['Pss']:.0f} |"
            )


if __name__ == "__main__":
    main()
