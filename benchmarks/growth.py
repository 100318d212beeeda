"""How a trial's time grows with what it is made of, and a controller's update with the length of its sequences.

    OMP_NUM_THREADS=1 python benchmarks/growth.py --out docs/growth

Each panel changes one thing of the detection proxy task alone: width, batch, the crop's side, the data's photographs
(of which meta-val, that a trial scores, is a share); the last one the tokens of an architecture. Lines are powers
fitted in logarithms; an exponent below that of the work says that the small sizes do not fill the machine. Writes
``growth.csv`` and ``growth.png``.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from candidate import photographs
from controller_learning import block_space
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator
from roofline import seconds

import controllers
import proxy_tasks
import search_spaces
from experiments import published

matplotlib.use("Agg")
BASE = {"iterations": 12, "pretrain_iterations": 0, "batch_size": 16, "crop": 128, "width": "32"}
SWEEPS: dict[str, tuple[int, ...]] = {
    "width": (16, 32, 64, 128),
    "batch_size": (4, 8, 16, 32),
    "crop": (128, 256, 384, 512),
    "images": (32, 64, 128, 256),
    "tokens": (15, 35, 70, 140),
}
WORK = {
    "width": "channels",
    "batch_size": "crops in a batch",
    "crop": "pixels of a crop's side",
    "images": "photographs",
    "tokens": "tokens",
}


def trial(folder: str, data: str | None = None, **changed: Any) -> float:
    """Seconds of a short trial of the standard decoder with some settings changed."""
    options = proxy_tasks.TaskOptions(data=data, cache_dir=folder, overrides=BASE | changed)
    task = proxy_tasks.make(None, search_spaces.get("fcos_decoder"), options)
    task.prepare(lambda what, done, total: None)
    return seconds(lambda: list(task.evaluate(published.load("fpn_fcos"))), 3)


def update(tokens: int) -> float:
    """Seconds that a controller takes for the ten proposals and rewards after its first twenty."""
    controller, rng = controllers.make("lstm-ppo", block_space(tokens // 5), seed=0), np.random.default_rng(0)

    def proposals(count: int) -> None:
        for _ in range(count):
            controller.tell(controller.ask(), float(rng.standard_normal()))

    proposals(20)
    return seconds(lambda: proposals(10), 3)


def measured(name: str, value: int, folder: str) -> float:
    """Seconds at one point of one sweep."""
    if name == "tokens":
        return update(value)
    if name == "images":
        return trial(folder, photographs(Path(folder, f"{value} images"), value))
    return trial(folder, **{name: str(value) if name == "width" else value})


def exponent(frame: pd.DataFrame) -> tuple[float, float]:
    """The power and the factor of the line through the logarithms."""
    power, factor = np.polyfit(np.log(frame["value"]), np.log(frame["seconds"]), 1)
    return float(power), float(np.exp(factor))


def plot(frame: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(4 * len(SWEEPS), 3.5), layout="constrained")
    for axis, (name, part) in zip(axes, frame.groupby("what", sort=False), strict=True):
        power, factor = exponent(part)
        axis.loglog(part["value"], part["seconds"], "o", color="C0")
        axis.loglog(part["value"], factor * part["value"] ** power, color="0.5", label=f"exponent {power:.2f}")
        axis.set(xlabel=WORK[str(name)], ylabel="seconds", xticks=part["value"].tolist())
        axis.set_xticks(part["value"].tolist(), [str(value) for value in part["value"]])
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("."))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, values in SWEEPS.items():
            for value in values:
                rows.append({"what": name, "value": value, "seconds": measured(name, value, folder)})
                print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(given.out / "growth.csv", index=False)
    plot(frame, given.out / "growth.png")
    print(f"{torch.get_num_threads()} threads")
    for name, part in frame.groupby("what", sort=False):
        print(f"{WORK[str(name)]}: exponent {exponent(part)[0]:.2f}")


if __name__ == "__main__":
    main()
