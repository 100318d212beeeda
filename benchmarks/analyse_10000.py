"""Wall time and memory of analysing a run of 10,000 trials.

    python benchmarks/analyse_10000.py
    python benchmarks/analyse_10000.py --trials 1000 --out report

writes a random run of the FPN space with rewards that depend on the operations, straight into a run store, and measures
``nas-analyze`` on it in a process of its own: seconds from start to end and the most memory it held.
"""

import argparse
import json
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import search_spaces
from nas.run.directory import RunRecord, write_record
from nas.run.store import RunStore
from nas.settings import SearchSettings


def write_run(run: Path, trials: int) -> None:
    """A finished run of ``fcos_fpn`` with as many trials, a twentieth of them diverged."""
    run.mkdir(parents=True)
    space = search_spaces.get("fcos_fpn")
    write_record(run, RunRecord(SearchSettings(space=space.name, controller="lstm-ppo", trials=(trials,))))
    store = RunStore(run / "trials.db", create=True)
    store.add_stage(space.name, 0, trials)
    store.finish_stage(space.name)
    store.close()
    rng = np.random.default_rng(0)
    rows, figures = [], []
    for trial in range(1, trials + 1):
        named = space.sample(rng).named
        skips = sum(option == "skip" for option in named.values())
        reward = -1 - 0.02 * skips + 0.1 * rng.standard_normal()
        ended = ("diverged", None, f"the training loss is nan at iteration {trial % 300} of 300")
        if rng.random() > 0.05:
            ended = ("done", reward, None)
        metrics = {"loss": -reward, "params": 1e6 * (1 + rng.random()), "macs": 1e9 * (1 + rng.random())}
        own = (trial, space.name, ended[0], json.dumps(named), f"{trial:016x}", *ended[1:], json.dumps(metrics))
        rows.append((*own, -40.0, trial - 1, 10.0 * trial, 9.5))
        if trial % 20 == 0:
            figures += [(space.name, trial, name, rng.random()) for name in ("entropy", "approx_kl", "clipfrac")]
    with sqlite3.connect(run / "trials.db") as db:
        db.executemany(
            "INSERT INTO trials (trial, stage, status, choices, key, reward, reason, metrics, log_prob, proposal,"
            " started, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        db.executemany("INSERT INTO diagnostics VALUES (?, ?, ?, ?)", figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--out", type=Path, help="keep the report here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        run, out = Path(root) / "run", given.out or Path(root) / "report"
        # In a process of its own: what a parent holds would count as its child's.
        writer = multiprocessing.get_context("spawn").Process(target=write_run, args=(run, given.trials))
        writer.start()
        writer.join()
        command = [sys.executable, "-m", "nas.cli.analyze", str(run), "--out", str(out)]
        begin = time.perf_counter()
        child = os.spawnv(os.P_NOWAIT, sys.executable, command)
        _, status, usage = os.wait4(child, 0)
        wall = time.perf_counter() - begin
        page = (out / "report.html").stat().st_size
    if status != 0:
        sys.exit("nas-analyze failed")
    print("| trials | wall, s | processor, s | memory, MB | report.html, MB |\n| --- | --- | --- | --- | --- |")
    processor = usage.ru_utime + usage.ru_stime
    print(f"| {given.trials} | {wall:.1f} | {processor:.1f} | {usage.ru_maxrss / 1024:.0f} | {page / 1e6:.1f} |")


if __name__ == "__main__":
    main()
