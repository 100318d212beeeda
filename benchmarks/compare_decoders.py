"""What a search found against the standard FPN-FCOS decoder and against uniformly drawn ones.

    python benchmarks/compare_decoders.py runs/bccd --uniform 20 --seeds 3 --out docs/bccd

trains every decoder with the run's proxy task from several proxy-training seeds, none of them the search's, on the same
meta-train, and scores each on the same meta-val: reward (negative loss) and COCO AP. Writes ``decoders.csv`` (one row a
decoder and seed), ``search.png`` (reward against trial) and prints a table.
"""

import argparse
import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import nas
import search_spaces
from nas.plan import make_plan, task_factory
from proxy_tasks import ProxyTask, Score
from search_spaces import Architecture

matplotlib.use("Agg")
WINDOW = 10  # trials in the running mean


def full_task(run: nas.Run) -> ProxyTask:
    """The run's proxy task for whole decoders, with AP measured beside the loss."""
    settings = run.settings.changed(reward="metric")
    stage = dataclasses.replace(make_plan(settings)[0], space=search_spaces.get("fcos_decoder"))
    task: ProxyTask = task_factory(stage, settings, None)()
    task.prepare(lambda what, done, total: None)
    return task


def decoders(run: nas.Run, uniform: int) -> list[tuple[str, Architecture]]:
    rng = np.random.default_rng(run.settings.seed + 1)
    space = search_spaces.get("fcos_decoder")
    drawn = [(f"uniform {i + 1}", space.sample(rng)) for i in range(uniform)]
    return [("searched", run.best(1)[0]), ("standard", Architecture("fpn_fcos", ())), *drawn]


def measure(task: ProxyTask, chosen: list[tuple[str, Architecture]], seeds: range) -> pd.DataFrame:
    rows = []
    for name, architecture in chosen:
        for seed in seeds:
            *_, score = task.evaluate(architecture, seed)
            assert isinstance(score, Score)
            figures = {what: score.metrics[what] for what in ("ap", "ap50", "params", "macs")}
            rows.append(
                {"decoder": name, "seed": seed, "reward": -score.metrics["loss"], **figures, "key": architecture.key}
            )
            print(f"{name}, seed {seed}: reward {rows[-1]['reward']:.4f}, AP {rows[-1]['ap']:.4f}", flush=True)
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame) -> str:
    """Mean over seeds ± standard deviation over seeds; the uniform ones as a group, and the best of them."""
    means = frame.groupby("decoder", sort=False)[["reward", "ap", "params", "macs"]].mean()
    spread = frame.groupby("decoder", sort=False)[["reward", "ap"]].std()
    lines = ["| decoder | reward | AP | parameters | MACs |", "| --- | --- | --- | --- | --- |"]
    drawn = means[means.index.str.startswith("uniform")]
    for name in ("searched", "standard", drawn["reward"].idxmax(), drawn["ap"].idxmax()):
        row, std = means.loc[name], spread.loc[name]
        lines.append(
            f"| {name} | {row.reward:.4f} ± {std.reward:.4f} | {row.ap:.4f} ± {std.ap:.4f} | {row.params / 1e3:.0f} k "
            f"| {row.macs / 1e6:.0f} M |"
        )
    center, scatter, best = drawn.mean(), drawn.std(), means.loc["searched"]
    lines.append(
        f"| {len(drawn)} uniform, mean ± std over decoders | {center.reward:.4f} ± {scatter.reward:.4f} "
        f"| {center.ap:.4f} ± {scatter.ap:.4f} | {center.params / 1e3:.0f} k | {center.macs / 1e6:.0f} M |"
    )
    above = {name: int((drawn[name] < best[name]).sum()) for name in ("reward", "ap")}
    lines.append(
        f"\nOf the {len(drawn)} uniform the searched decoder beats {above['reward']} in reward, {above['ap']} in AP."
    )
    return "\n".join(lines)


def plot(run: nas.Run, path: Path) -> None:
    """Reward against trial, a panel a stage: every trial, the controller's running mean, the best so far."""
    stages = [stage for stage, frame in run.trials.groupby("stage", sort=False)]
    figure, axes = plt.subplots(1, len(stages), figsize=(6 * len(stages), 4), squeeze=False, layout="constrained")
    for axis, stage in zip(axes[0], stages, strict=True):
        reward = run.trials.query("stage == @stage")["reward"].reset_index(drop=True)
        trial = reward.index + 1
        axis.plot(trial, reward, ".", color="0.6", label="trial")
        axis.plot(
            trial, reward.rolling(WINDOW, min_periods=WINDOW).mean(), color="C0", label=f"mean of the last {WINDOW}"
        )
        axis.plot(trial, reward.cummax(), color="C1", label="best so far")
        low, high = reward.quantile(0.05), reward.max()
        axis.set(xlabel="trial", ylabel="reward (negative loss on meta-val)", title=stage)
        axis.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        axis.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--uniform", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("."))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    run = nas.load_run(given.run)
    plot(run, given.out / "search.png")
    seeds = range(100, 100 + given.seeds)
    frame = measure(full_task(run), decoders(run, given.uniform), seeds)
    frame.to_csv(given.out / "decoders.csv", index=False)
    print(table(frame))


if __name__ == "__main__":
    main()
