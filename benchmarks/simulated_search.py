"""The published detection search on 1 to 512 devices, simulated: how long it takes, and what it finds.

    OMP_NUM_THREADS=1 python benchmarks/simulated_search.py --run runs/mine --out docs/simulated

What decides is real: the search loop with its store, early stopping and duplicates, and the controller; both stages of
the published search, 2,800 FPNs and 600 heads, the second after the last of the first. What takes time is simulated: a
device that falls idle gets the loop's next trial, whose length is the published mean (28 days of one device over 3,400
trials) times a draw from the trials of ``--run``, each over their mean; half of it passes before its score along the
way. So with D devices a proposal knows the rewards of all but the D last ones (the staleness of the controller).
Rewards are those of a landscape whose optimum is known, drawn anew for every seed, in parts of what uniform draws fall
short of it: -1 is their mean, 0 the optimum. Scores along the way are noisy: by half of the spread of uniform draws.

Writes ``simulated.csv``, a row a controller, number of devices and seed, as they come (what is there is not simulated
again), and ``simulated.png``.
"""

import argparse
import heapq
import tempfile
from collections.abc import Sequence
from contextlib import closing
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from controller_learning import Landscape
from matplotlib import pyplot as plt

import controllers
import nas
import search_spaces
from nas.run.rows import Outcome
from nas.run.store import RunStore
from nas.searching.early_stopping import StoppingRule
from nas.searching.loop import SearchLoop
from proxy_tasks.task import Interim

matplotlib.use("Agg")
STAGES = {"fcos_fpn": 2800, "fcos_head": 600}
PUBLISHED_DAYS = 28.0
DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
NOISE = 0.5
COLUMNS = ["controller", "devices", "seed", "days", "busy", "best_fpn", "last_fpns", "best_head"]


class Rewards:
    """A landscape over one stage's space, from 0 at its optimum to -1 at the mean of uniform draws."""

    def __init__(self, stage: str, name: str, seed: int):
        space = search_spaces.get(stage)
        self._landscape = Landscape(name, space, seed)
        self._rng = np.random.default_rng([seed, 5])
        drawn = np.array([self._landscape.value(space.sample(self._rng).tokens) for _ in range(300)])
        self._unit = self._landscape.optimum - drawn.mean()
        self._spread = drawn.std() / self._unit

    def of(self, tokens: tuple[int, ...]) -> float:
        return float((self._landscape.value(tokens) - self._landscape.optimum) / self._unit)

    def halfway(self, reward: float) -> float:
        return reward + NOISE * self._spread * float(self._rng.standard_normal())


def play(loop: SearchLoop, rewards: Rewards, devices: int, lengths: np.random.Generator, shares: np.ndarray):
    """Runs a stage on so many devices: its length, the time inside trials summed over them, and rewards as they end.

    Time is counted in mean trials.
    """
    now, inside, ended, idle = 0.0, 0.0, [], devices
    waiting: list[tuple[float, int, bool, object, float]] = []  # when, order, whether at the end, trial, length
    while True:
        while idle and (trial := loop.next_trial()) is not None:
            length = float(lengths.choice(shares))
            heapq.heappush(waiting, (now + length / 2, trial.id, False, trial, length))
            idle -= 1
        if not waiting:
            return now, inside, ended
        now, _, last, trial, length = heapq.heappop(waiting)
        inside += length / 2
        reward = rewards.of(trial.architecture.tokens)
        if last:
            loop.record(trial, Outcome("done", reward, metrics={}, seconds=length))
        elif loop.record(trial, Interim(1, 2, rewards.halfway(reward), {})):
            heapq.heappush(waiting, (now + length / 2, trial.id, True, trial, length))
            continue
        ended.append(reward)
        idle += 1


def simulated(controller: str, devices: int, seed: int, landscape: str, shares: np.ndarray) -> dict[str, object]:
    """One row of the table."""
    length, inside, found = 0.0, 0.0, {}
    with tempfile.TemporaryDirectory() as folder, closing(RunStore(Path(folder) / "trials.db", create=True)) as store:
        for number, (stage, trials) in enumerate(STAGES.items()):
            store.add_stage(stage, number, trials)
            made = controllers.make(controller, search_spaces.get(stage), seed=seed)
            loop = SearchLoop(store, stage, trials, made, stopping=StoppingRule(seed))
            lengths = np.random.default_rng([seed, number])
            taken, busy, found[stage] = play(loop, Rewards(stage, landscape, seed), devices, lengths, shares)
            length, inside = length + taken, inside + busy
    days = length * PUBLISHED_DAYS / sum(STAGES.values())
    best = [max(rewards) for rewards in found.values()]
    last = float(np.mean(found["fcos_fpn"][-300:]))
    figures = (controller, devices, seed, days, inside / length / devices, best[0], last, best[1])
    return dict(zip(COLUMNS, figures, strict=True))


def lengths_of(run: nas.Run) -> np.ndarray:
    """The seconds of a run's trials that were not stopped, over their mean."""
    seconds = np.array([row.seconds for row in run.contents().trials if row.status == "done"])
    return seconds / seconds.mean()


def plot(rows: pd.DataFrame, path: Path) -> None:
    """Days, the share of time inside trials, and what was found, against the devices."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for name, part in rows.groupby("controller"):
        by_devices = part.groupby("devices")
        for axis, columns in zip(axes, (["days"], ["busy"], ["best_fpn", "last_fpns"]), strict=True):
            for style, column in zip(("-", ":"), columns, strict=False):
                mean, low, high = (getattr(by_devices[column], what)() for what in ("mean", "min", "max"))
                title = name if column != "last_fpns" else f"{name}, mean of the last 300"
                (line,) = axis.plot(mean.index, mean, f"o{style}", label=title)
                axis.fill_between(mean.index, low, high, alpha=0.15, color=line.get_color())
    devices = np.array(sorted(rows["devices"].unique()))
    axes[0].plot(devices, rows.loc[rows["devices"] == 1, "days"].mean() / devices, "k--", lw=0.8, label="ideal")
    axes[0].set(yscale="log", ylabel="days")
    axes[1].set(ylim=(0, 1.02), ylabel="share of the devices' time inside trials")
    axes[2].set_ylabel("best FPN (0: the optimum, -1: the mean of uniform draws)", fontsize=8)
    for axis in axes:
        axis.set(xscale="log", xlabel="devices")
        axis.set_xticks(devices, [str(count) for count in devices], fontsize=7)
        axis.minorticks_off()
    axes[0].legend(fontsize=8)
    axes[2].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def table(rows: pd.DataFrame) -> str:
    """Means over the seeds, and their range where they have one."""
    lines = ["| controller | devices | hours | inside trials | best FPN | mean of the last 300 | best head |"]
    lines.append("|" + " --- |" * 7)
    for (name, devices), part in rows.groupby(["controller", "devices"], sort=True):
        shown: Sequence[str] = [f"{part[c].mean():.3f} ± {part[c].std():.3f}" for c in COLUMNS[5:]]
        hours = f"{24 * part['days'].mean():.1f}"
        lines.append(f"| {name} | {devices} | {hours} | {part['busy'].mean():.3f} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="a detection search, for the lengths of trials")
    parser.add_argument("--devices", type=int, nargs="+", default=list(DEVICES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--controllers", nargs="+", default=["lstm-ppo", "evolution"])
    parser.add_argument("--landscape", default="table")
    parser.add_argument("--out", type=Path, default=Path("."))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "simulated.csv"
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    there = {(row["controller"], row["devices"], row["seed"]) for row in rows}
    shares = lengths_of(nas.load_run(given.run))
    for seed, name, devices in product(range(given.seeds), given.controllers, given.devices):
        if (name, devices, seed) not in there:
            rows.append(simulated(name, devices, seed, given.landscape, shares))
            pd.DataFrame(rows).to_csv(file, index=False)
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    plot(pd.DataFrame(rows), given.out / "simulated.png")
    print(table(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
