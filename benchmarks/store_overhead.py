"""What a trial costs beside its evaluation, and how long a run of many rows takes to go on.

    python benchmarks/store_overhead.py [--trials 3000] [--rows 10000] [--controllers lstm-ppo,evolution,random]

drives the search loop of ``fcos_fpn`` (35 choices) with trials that take no time: ask, proposal, interim score with the
early-stopping rule, tell, outcome. Printed are milliseconds and kilobytes written to the disk for each trial, both over
the last third, and the seconds that a fresh loop takes to restore a store of so many rows.
"""

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

import controllers
import search_spaces
from nas.run.rows import Outcome
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from nas.searching.loop import SearchLoop
from proxy_tasks.task import Interim

SPACE = search_spaces.get("fcos_fpn")


def loop_of(store: RunStore, controller: str, trials: int) -> SearchLoop:
    made = controllers.make(controller, SPACE, seed=0)
    return SearchLoop(store, SPACE.name, trials, made, stopping=StoppingRule(0))


def written() -> int:
    """Bytes that this process has sent to the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def run(loop: SearchLoop, trials: int, rng: np.random.Generator) -> None:
    """Evaluates so many trials in no time; rewards are drawn."""
    for _ in range(trials):
        trial = loop.next_trial()
        if trial is None:
            return
        reward = float(rng.standard_normal())
        if loop.record(trial, Interim(150, 300, reward, {"loss": -reward})):
            loop.record(trial, Outcome("done", reward, metrics={"loss": -reward, "params": 1e6, "macs": 1e9}))


def measure(controller: str, trials: int, rows: int, root: Path) -> str:
    rng = np.random.default_rng(0)
    with closing(RunStore(root / f"{controller}.db", create=True)) as store:
        store.add_stage(SPACE.name, 0, rows)
        loop = loop_of(store, controller, rows)
        run(loop, 2 * trials // 3, rng)
        begin, before = time.perf_counter(), written()
        run(loop, trials // 3, rng)
        milliseconds = 1000 * (time.perf_counter() - begin) / (trials // 3)
        kilobytes = (written() - before) / (trials // 3) / 1000
        store._db.execute("PRAGMA synchronous = OFF")  # only the number of rows matters from here on
        run(loop, rows - trials, rng)
    begin = time.perf_counter()
    with closing(RunStore(root / f"{controller}.db")) as store:
        loop_of(store, controller, rows)
        seconds = time.perf_counter() - begin
        found = sum(store.counts().values())
    return f"| {controller} | {milliseconds:.1f} | {kilobytes:.0f} | {found} | {seconds:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--controllers", default="lstm-ppo,evolution,random")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; a temporary one without it")
    given = parser.parse_args()
    print("| controller | ms a trial | kB a trial | rows | s to restore |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(dir=given.folder) as root:
        for controller in given.controllers.split(","):
            print(measure(controller, given.trials, given.rows, Path(root)), flush=True)


if __name__ == "__main__":
    main()
