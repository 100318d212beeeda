"""What a trial costs beside its evaluation, through the whole engine: in process, in worker processes, and on Ray.

    python -m benchmarks.instant_trials [--trials 3000] [--workers 0 2 16] [--controllers lstm-ppo evolution random]
        [--ray]

runs searches of 35 choices whose trials take no time. Printed are, for each controller and number of workers,
milliseconds a trial (from the first tenth of the trials to the last, so that no start-up is in it), kilobytes written
a trial, and by how much the memory of the driver grew from the first fifth of the trials to the last, and after that,
when all rows are read for the closing table.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

import nas
import search_spaces
from benchmarks.store_overhead import written
from proxy_tasks.task import Interim, Progress, ProxyTask, Score, TaskOptions
from search_spaces import Architecture, SearchSpace

PAGE = 4096


class InstantTask(ProxyTask):
    """Scores at once: the share of tokens that are 0."""

    def __init__(self, space: SearchSpace, options: TaskOptions, previous: Architecture | None = None):
        self.space = space

    def prepare(self, progress: Progress) -> None:
        """Nothing."""

    def release(self) -> None:
        """Nothing."""

    def fingerprints(self) -> dict[str, str]:
        """None."""
        return {}

    def evaluate(self, architecture: Architecture, seed: int | None = None) -> Iterator[Interim | Score]:
        """Halfway and at the end."""
        reward = float(np.mean(np.array(architecture.tokens) == 0))
        yield Interim(1, 2, reward, {"loss": -reward})
        yield Score(reward, {"loss": -reward, "params": 1e6, "macs": 1e9})


SPACE = SearchSpace(
    "instant", search_spaces.get("fcos_fpn").choices, proxy_task="benchmarks.instant_trials:InstantTask"
)


class Memory:
    """Samples this process's resident memory, MB, while it is open."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._over.wait(0.2):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6
            self.samples.append((time.time(), resident))

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def at(self, moment: float) -> float:
        """At the last sample before."""
        return [resident for when, resident in self.samples if when <= moment or when == self.samples[0][0]][-1]


def measured(controller: str, workers: int, trials: int, ray: bool, out: Path) -> str:
    """One row of the table."""
    before = written()
    with Memory() as memory:
        run = nas.search(
            "benchmarks.instant_trials:SPACE",
            controller=controller,
            trials=trials,
            workers=workers,
            gpus_per_worker=0 if ray else None,  # shares of GPUs are Ray's
            device="cpu",
            confirm=0,
            out=out,
        )
        end = time.time()
    kilobytes = (written() - before) / trials / 1000
    started = [row.started for row in run.contents().trials]
    milliseconds = 1000 * (max(started) - started[trials // 10]) / (trials - trials // 10)
    early, late, last = (memory.at(moment) for moment in (started[trials // 5], max(started), end))
    figures = f"{milliseconds:.1f} | {kilobytes:.0f} | {late - early:.0f} | {last - late:.0f}"
    return f"| {controller} | {workers} | {len(started)} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 16])
    parser.add_argument("--controllers", nargs="+", default=["lstm-ppo", "evolution", "random"])
    parser.add_argument("--ray", action="store_true", help="the workers are Ray's")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for workers, controller in product(given.workers, given.controllers):
            out = Path(root) / f"{controller}-{workers}"
            rows.append(measured(controller, workers, given.trials, given.ray, out))
    print("| controller | workers | trials | ms a trial | kB a trial | driver's growth, MB | closing, MB |")
    print("| --- " * 7 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
